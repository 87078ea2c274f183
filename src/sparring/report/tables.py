"""The page's tables."""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, stdev

from sparring.core.results import Confidence, Curve, Evaluation
from sparring.core.study_results import GenerativeRow, Measured, Row, Search
from sparring.report import format, panels
from sparring.report.cells import NOTHING, Cell, Column, Table, code, estimate, figure, sort_key, text, warmth


def attacks(rows: Sequence[Row]) -> Table:
    """Return one line an attack of each defence, and one for all its attacks together."""
    threats = {attacked.threat for row in rows for attacked in row.evaluation.attacked.values()}
    threats |= {row.evaluation.threat for row in rows}
    within = f" within {next(iter(threats))}" if len(threats) == 1 else ""
    words = ("Defence", "Attack", "Threat")
    figures = ("Accuracy %", "Success %", "Median distance", "Forwards", "Backwards", "Time")
    columns = (*(Column(name, numeric=False) for name in words), *(Column(name) for name in figures))
    lines = [line for row in rows for line in _attack_lines(row)]
    return Table(
        f"Each attack alone{within}, and all that was tried together: an example counts as broken when any of these "
        "attacks breaks it, or the curve's, or one of the audit's. "
        "Success rate and median distance are over the examples first classified right; passes are means per example.",
        columns[:2] + columns[3:] if within else columns,
        tuple(line[:2] + line[3:] if within else line for line in lines),
    )


def _attack_lines(row: Row) -> list[tuple[Cell, ...]]:
    lines: list[tuple[Cell, ...]] = [
        (
            text(row.name),
            code(name, "" if name == result.attack else result.attack),
            code(result.threat),
            estimate(result.accuracy),
            estimate(result.success_rate),
            _median_distance(result.median_distance),
            figure(result.forwards, format.count),
            figure(result.backwards, format.count),
            figure(result.seconds, format.seconds),
        )
        for name, result in row.evaluation.attacked.items()
    ]
    robust, threat = estimate(row.evaluation.robust), code(row.evaluation.threat)
    return [*lines, (text(row.name), text("all that was tried"), threat, robust, *(NOTHING,) * 5)]


def _median_distance(value: float) -> Cell:
    hint = "more than half of the examples were never fooled" if value == math.inf else ""
    return figure(value, format.distance, hint)


def nearest(rows: Sequence[Row]) -> Table:
    """Return one line a minimal attack of each defence: how near the images lie at which it fools."""
    threats = {row.nearest.threat for row in rows if row.nearest}
    columns = (Column("Defence", numeric=False), Column("Attack", numeric=False))
    return Table(
        f"Minimal attacks in {format.listed(sorted(threats))}, over the examples first classified right: how many they "
        "fool at whatever distance, and the median distance, those never fooled counted as infinitely far.",
        (*columns, *(Column(name) for name in ("Fooled %", "Median distance", "Forwards", "Backwards", "Time"))),
        tuple(
            (
                text(row.name),
                code(name),
                estimate(result.success_rate),
                _median_distance(result.median_distance),
                figure(result.forwards, format.count),
                figure(result.backwards, format.count),
                figure(result.seconds, format.seconds),
            )
            for row in rows
            if row.nearest
            for name, result in row.nearest.attacked.items()
        ),
    )


def confidences(rows: Sequence[Row]) -> Table:
    """Return accuracy and mean confidences on clean images, under each attack, and on each example's worst image."""
    return Table(
        "Accuracy and mean confidence (the largest softmax) in %, with 95 % intervals.",
        (Column("Defence", numeric=False), Column("Images", numeric=False), *_CONFIDENCE_COLUMNS),
        tuple(
            (text(row.name), text(images), *_confidence(confidence))
            for row in rows
            for images, confidence in _by_images(row.evaluation)
        ),
    )


def _by_images(evaluation: Evaluation) -> list[tuple[str, Confidence]]:
    each = [(name, result.confidence) for name, result in evaluation.attacked.items()]
    return [("clean", evaluation.clean_confidence), *each, ("worst of all", evaluation.robust_confidence)]


def calibrations(rows: Sequence[Row]) -> Table:
    """Return the expected calibration error on each kind of images."""
    by_row = [panels.calibrations(row) for row in rows]
    kinds = list(dict.fromkeys(kind for of_row in by_row for kind in of_row))
    return Table(
        "Expected calibration error in %, over 15 bins of confidence, with 95 % intervals: 0 where a model is right as "
        "often as it is sure.",
        (Column("Defence", numeric=False), *(Column(kind[:1].upper() + kind[1:]) for kind in kinds)),
        tuple(
            (text(row.name), *(estimate(of_row[kind].ece) if kind in of_row else NOTHING for kind in kinds))
            for row, of_row in zip(rows, by_row, strict=True)
        ),
    )


def adversaries(rows: Sequence[Row]) -> Table:
    """Return each defence's accuracy under the learned adversary of each row that has one."""
    names = list(dict.fromkeys(figure.name for row in rows for figure in row.adversaries))
    return Table(
        "Accuracy in % on the images of each learned adversary (columns), whoever it was trained against; "
        "the stronger the colour the higher; where the paper's protocol has a fault, without it, and by the protocol "
        "in smaller type. Framed: the one it was trained against.",
        (Column("Defence", numeric=False), *(Column(name.removeprefix("accuracy under ")) for name in names)),
        tuple((text(row.name), *(_adversary(row, name) for name in names)) for row in rows),
    )


def _adversary(row: Row, name: str) -> Cell:
    figure = next((figure for figure in row.adversaries if figure.name == name), None)
    if figure is None:
        return NOTHING
    value = figure.compatibility if figure.mended is None else figure.mended
    small = format.interval(value) if figure.mended is None else format.percent(figure.compatibility.value)
    return Cell(
        format.percent(value.value),
        small,
        sort_key(value.value),
        format.with_interval(value),
        heat=warmth(value.value),
        own=name == f"accuracy under {row.name}",
    )


def repeats(rows: Sequence[Row]) -> Table:
    """Return the spread of each figure over a row's trainings."""
    columns = ("Defence", "Figure", "Column")
    return Table(
        "Each figure over the trainings of a row, shares in %: mean, standard deviation, and every training in the "
        "order of the seeds.",
        (*(Column(name, numeric=False) for name in columns), Column("Mean"), Column("SD"), Column("Every training")),
        tuple(
            (
                text(row.name),
                text(name),
                text(column),
                figure(fmean(values), printed),
                figure(stdev(values) if len(values) > 1 and math.isfinite(sum(values)) else math.nan, finely),
                text(", ".join(map(printed, values))),
            )
            for row in rows
            for column in ("compatibility", "mended", "honest")
            for name in (getattr(row.repeats[0], column) if row.repeats else ())
            for values in [[getattr(repeat, column)[name] for repeat in row.repeats]]
            for printed, finely in _printed(row, name)
        ),
    )


def _printed(row: Row, name: str) -> Iterator[tuple[Callable[[float], str], Callable[[float], str]]]:
    """Yield how a figure and its standard deviation are printed; nothing for confidences, which are too many."""
    unit = next(f.unit for f in (*row.figures, *row.adversaries) if f.name == name)
    if unit == "number":
        yield format.distance, format.number
    elif "accuracy" in name or "ece" in name:
        yield format.percent, lambda value: format.percent(value, 2)


_CONFIDENCE_COLUMNS = tuple(Column(name) for name in ("Accuracy", "Confidence", "When right", "When wrong"))


def _confidence(value: Confidence) -> tuple[Cell, ...]:
    parts = (value.accuracy, value.confidence, value.confidence_correct, value.confidence_error)
    return tuple(estimate(part) for part in parts)


def honest_curves(rows: Sequence[Row]) -> Table:
    """Return every point of the evaluations' curves."""
    return _curves("Every point of the curves", rows, [row.evaluation.curves for row in rows])


def sweeps(rows: Sequence[Row]) -> Table:
    """Return every point of the curves by the paper's own protocol."""
    return _curves("Every point by the paper's own protocol", rows, [row.sweep for row in rows])


def _curves(what: str, rows: Sequence[Row], of_rows: Sequence[tuple[Curve, ...]]) -> Table:
    words = (Column("Defence", numeric=False), Column("Attack", numeric=False))
    return Table(
        f"{what}: accuracy and mean confidence in %, with 95 % intervals.",
        (*words, Column("eps"), *_CONFIDENCE_COLUMNS),
        tuple(
            (
                text(row.name),
                code(curve.attack, curve.norm),
                figure(point.eps, format.eps),
                estimate(point.accuracy),
                *_confidence(point.confidence)[1:],
            )
            for row, of_row in zip(rows, of_rows, strict=True)
            for curve in of_row
            for point in curve.points
        ),
    )


def generatives(models: Sequence[GenerativeRow]) -> Table:
    """Return a line a generative model with its quality."""
    names = list(dict.fromkeys(measured.name for model in models for measured in model.quality))
    return Table(
        "Quality of the generative models, shares in % with 95 % intervals. The Fréchet distance is taken in the "
        "features of a classifier that was trained here; it is not the FID that papers print.",
        (Column("Model", numeric=False), *(Column(f"{name[:1].upper()}{name[1:]}") for name in names)),
        tuple(
            (text(model.name), *(_measured({m.name: m for m in model.quality}.get(name)) for name in names))
            for model in models
        ),
    )


def _measured(measured: Measured | None) -> Cell:
    if measured is None:
        return NOTHING
    return estimate(measured.value) if measured.unit == "share" else figure(measured.value.value, format.number)


def search(found: Search) -> Table:
    """Return every trial of a search, the chosen one marked."""
    settings = list(dict.fromkeys(key for trial in found.trials for key in trial.settings))
    figures = list(dict.fromkeys(key for trial in found.trials for key in trial.figures))
    names = (*settings, *(f"{name} %" for name in figures), "Score (less is better)")
    return Table(
        f"Every setting tried, judged on the {found.split} split.",
        (Column("Trial", numeric=False), *(Column(name) for name in names)),
        tuple(
            (
                text(str(index), "★ chosen" if trial.settings == found.chosen else ""),
                *(figure(trial.settings.get(key, math.nan), format.number) for key in settings),
                *(figure(trial.figures.get(key, math.nan), format.percent) for key in figures),
                figure(trial.score, format.number),
            )
            for index, trial in enumerate(found.trials, start=1)
        ),
    )

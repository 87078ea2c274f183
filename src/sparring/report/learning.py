"""What each epoch of training measured, by names that people use: panels, and a table of the last epoch."""

import math
from collections.abc import Callable, Mapping, Sequence

from sparring.core.study_results import EpochMetrics, Row
from sparring.report import format
from sparring.report.cells import Cell, Column, Table, figure, text
from sparring.report.panels import Line, Panel

_NAMES = {
    "accuracy": "clean accuracy",
    "adversarial_accuracy": "accuracy on attacked images",
    "noisy_accuracy": "accuracy on noisy images",
    "one_step_accuracy": "one-step accuracy",
    "pgd_accuracy": "PGD accuracy",
    "overfitting": "overfitting (1: yes)",
    "adversary_loss": "adversary's loss",
    "discriminator_loss": "discriminator's loss",
    "discriminator_clean_accuracy": "discriminator's accuracy, clean",
    "discriminator_adversarial_accuracy": "discriminator's accuracy, attacked",
    "left_out": "images left out",
}
_NOISE = "noise_training("  # this defence's "attack" is uniform noise


def panels(rows: Sequence[Row]) -> tuple[Panel, ...]:
    """Return one panel a metric: losses first, then accuracies, then the rest."""
    return tuple(_panel(rows, key) for key in _keys(rows))


def table(rows: Sequence[Row]) -> Table:
    """Return each defence's last epoch and what its training took."""
    keys = _keys(rows)
    names = (*(_title(key) + (" %" if "accuracy" in key else "") for key in keys), "Time")
    return Table(
        "Training at its last epoch, and its whole time.",
        (Column("Defence", numeric=False), Column("Epochs"), *(Column(name) for name in names)),
        tuple(_cells(row, keys) for row in rows if row.training),
    )


def _keys(rows: Sequence[Row]) -> list[str]:
    keys = {key: None for row in rows for epoch in row.training for key in _metrics(row, epoch)}
    return sorted(keys, key=lambda key: 0 if "loss" in key else 1 if "accuracy" in key else 2)


def _metrics(row: Row, epoch: EpochMetrics) -> Mapping[str, float]:
    """Return what an epoch measured; accuracy on noise is not called one on attacked images."""
    if not row.defence.startswith(_NOISE):
        return epoch.metrics
    return {"noisy_accuracy" if key == "adversarial_accuracy" else key: v for key, v in epoch.metrics.items()}


def _title(key: str) -> str:
    name = _NAMES.get(key, key.replace("_", " "))
    return name[:1].upper() + name[1:]


def _panel(rows: Sequence[Row], key: str) -> Panel:
    name = _NAMES.get(key, key.replace("_", " "))
    lines = [line for index, row in enumerate(rows) if (line := _line(index, row, key)) is not None]
    unit = " (%)" if "accuracy" in key else ""
    return Panel(_title(key), "", "epoch", name + unit, percent=False, ticks={}, lines=tuple(lines))


def _line(index: int, row: Row, key: str) -> Line | None:
    """Return a metric over the epochs, which people count from 1; None where a row has no such metric."""
    scale, sign = (100, " %") if "accuracy" in key else (1, "")
    found = [(epoch.epoch + 1, _metrics(row, epoch)) for epoch in row.training]
    points = [(float(at), scale * of[key]) for at, of in found if key in of]
    if not points:
        return None
    x, y = (tuple(values) for values in zip(*points, strict=True))
    blank = (math.nan,) * len(x)
    notes = tuple((row.name, f"epoch {at:g}: {format.number(value)}{sign}") for at, value in points)
    return Line(index, row.name, x, y, blank, blank, notes)


def _cells(row: Row, keys: Sequence[str]) -> tuple[Cell, ...]:
    last = _metrics(row, row.training[-1])
    return (
        text(row.name),
        figure(len(row.training), format.count),
        *(figure(last.get(key, math.nan), _printed(key)) for key in keys),
        figure(sum(epoch.seconds for epoch in row.training), format.seconds),
    )


def _printed(key: str) -> Callable[[float], str]:
    return format.percent if "accuracy" in key else format.number

"""Results of a study whose seeds were run apart, on several machines say, joined to those of the whole study."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from sparring.core.errors import InputError
from sparring.core.records import load
from sparring.core.study_results import Row, StudyResult
from sparring.evaluation.provenance import command
from sparring.studies.findings import findings
from sparring.studies.plan import StudyPlan
from sparring.studies.pooling import pooled_row

RUN = re.compile(r"-[0-9a-f]{10}\b")  # the end of a run's name


def joined(plan: StudyPlan, places: Sequence[Path], name: str) -> StudyResult:
    """Return the results of `name` in these folders or files as one: rows pooled over seeds, the claims decided anew.

    What is no row (generative models, a search) is taken from the first. Raises InputError where they are of other
    studies, were judged differently, have a seed of a row in common, or hold means of several seeds already.
    """
    results = [load(StudyResult, place / "results.json" if place.is_dir() else place) for place in places]
    first = results[0]
    for result, place in zip(results, places, strict=True):
        for field, own, other in (
            ("study", name, result.name),
            ("settings", first.settings, result.settings),
            ("version of Sparring", _version(first), _version(result)),
        ):
            if own != other:
                raise InputError(f"{place}: its {field} is {other!r}, not {own!r}")
    provenance = replace(
        first.provenance, seconds=sum(result.provenance.seconds for result in results), command=command()
    )
    longest_first = sorted(results, key=lambda result: -len(result.rows))  # a row may have fewer seeds than others
    names = list(dict.fromkeys(row.name for result in longest_first for row in result.rows))
    rows = tuple(_of_all(name, results, places) for name in names)
    return replace(first, rows=rows, findings=findings(plan, rows), provenance=provenance)


def _version(result: StudyResult) -> str:
    return result.provenance.versions.get("sparring", "")


def _of_all(name: str, results: Sequence[StudyResult], places: Sequence[Path]) -> Row:
    """Return one row of all results that have it, in the order of its seeds."""
    by_seed: dict[int, Row] = {}
    for result, place in zip(results, places, strict=True):
        for row in (row for row in result.rows if row.name == name):
            if len(row.repeats) != 1:
                raise InputError(f"{place}: row {name!r} holds {len(row.repeats)} trainings as one; join single seeds")
            seed = row.repeats[0].seed
            if seed in by_seed:
                raise InputError(f"{place}: row {name!r} with seed {seed} is in an earlier result, too")
            before = next(iter(by_seed.values()), row)
            for what, own, other in zip(("judged", "trained"), _facts(row), _facts(before), strict=True):
                if own != other:
                    raise InputError(f"{place}: row {name!r} was {what} otherwise, {own}, not {other}")
            by_seed[seed] = row
    seeds = sorted(by_seed)
    return pooled_row([by_seed[seed] for seed in seeds], seeds)


def _facts(row: Row) -> tuple[tuple[object, ...], str]:
    """Return how a row was judged, and by what recipe trained: what was not alike in these has no mean.

    Of the recipe without its seed, and without the hashes of the runs that it builds on, which have it in them.
    """
    nearest, found = row.nearest.threat if row.nearest else "", row.evaluation
    measured = tuple(figure.name for figure in (*row.figures, *row.adversaries))
    eps = tuple(tuple(point.eps for point in curve.points) for curve in (*found.curves, *row.sweep))
    means = tuple(sorted(found.means.items()))
    settings = (found.data, found.split, found.threat, found.examples, tuple(found.attacked), found.statistics, nearest)
    lines = [line for line in row.recipe.splitlines() if not line.startswith("seed = ")]
    return (*settings, means, eps, measured), RUN.sub("-", "\n".join(lines))

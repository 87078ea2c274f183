"""Verdicts that were made before, read back from run folders and files, to be reported or compared side by side."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sparring.core.errors import InputError
from sparring.core.records import arrays_of
from sparring.core.results import Evaluation
from sparring.core.study_results import Row, StudyResult, bare, distinct, side_by_side
from sparring.evaluation.provenance import command
from sparring.recipe import defence_of
from sparring.training.runs import Run

log = logging.getLogger("sparring")


class NotJudgedError(InputError):
    """A run has no evaluation yet, or its training has not even finished."""


@dataclass(frozen=True)
class _Kept:
    """A verdict's row, and by what it may be called, the shortest first."""

    row: Row
    names: tuple[str, str, str]


def gather(places: Sequence[Path]) -> StudyResult:
    """Return all evaluations at these places, run folders and verdicts' files, as one result, side by side.

    Rows are called as their run or their model is, or where these are alike as their file, or by their whole path.
    Verdicts' arrays, where a glob names them beside their files, are no places of their own.
    Runs that are not finished, or hold no evaluation, are left out with a warning if others do.
    Raises InputError where something else is missing or damaged, or no evaluation is left.
    """
    beside = {arrays_of(place) for place in places if place.is_file()}
    places = [place for place in places if place not in beside]
    kept, left, reason = list[_Kept](), list[Path](), NotJudgedError("report: nothing was given")
    for place in places:
        try:
            kept += _kept(place)
        except NotJudgedError as error:
            reason = error if not left else reason
            left.append(place)
    if not kept:
        raise reason
    if left:
        log.warning("left out, not finished or without an evaluation: %s", ", ".join(map(str, left)))
    told = ", ".join(place.name for place in places if place not in left)
    result = side_by_side(_named(kept), f"Every evaluation kept in {told}.")
    return replace(result, provenance=replace(result.provenance, command=command()))


def pairs(one: Path, other: Path) -> list[tuple[Evaluation, Evaluation]]:
    """Return the evaluations at two places in pairs, each of the same data, split, threat, attacks and means.

    A place is a run folder or a verdict's file. Of several that are alike in these, the last that was made. Where each
    has one alone, these are the pair: what tells them apart is for the comparison to say.

    Raises InputError if there is no such pair.
    """
    ours, theirs = (
        {
            (e.data, e.split, e.threat, tuple(e.attacked), e.statistics, tuple(sorted(e.means.items()))): e
            for e in sorted(_evaluations(place), key=lambda e: e.provenance.started)
        }
        for place in (one, other)
    )
    if len(ours) == len(theirs) == 1:
        return list(zip(ours.values(), theirs.values(), strict=True))
    found = [(ours[key], theirs[key]) for key in ours if key in theirs]
    if not found:
        told = "; ".join(
            f"{place.name} was judged under {', '.join(sorted({e.threat for e in of.values()}))}"
            for place, of in ((one, ours), (other, theirs))
        )
        raise InputError(f"compare: no evaluation of the same data, split, threat and attacks: {told}")
    return found


def _evaluations(place: Path) -> list[Evaluation]:
    """Return the verdict in a file, or all that are kept in a run folder."""
    return [Evaluation.load(file) for file in ([place] if place.is_file() else _files(Run(place)))]


def _files(run: Run) -> list[Path]:
    listed = sorted((run.path / "evaluations").glob("*.json"))
    files = [file for file in listed if not file.name.startswith(".")]  # half written ones, of an older Sparring
    run.check()
    if files:
        return files
    try:
        run.check_finished()
    except InputError as error:
        raise NotJudgedError(str(error)) from None
    raise NotJudgedError(f"{run.path}: holds no evaluation; make one with: sparring evaluate {run.path} --threat ...")


def _kept(place: Path) -> Iterator[_Kept]:
    evaluations = _evaluations(place)
    if place.is_file():
        for each in evaluations:
            yield _Kept(bare(each.model, each), (each.model, place.stem, str(place)))
        return
    run = Run(place)
    recipe, metrics, defence = run.read_recipe(), run.read_metrics(), defence_of(run)
    for each in evaluations:
        row = Row(run.path.name, defence, recipe, run.path.name, (), (), metrics, each)
        yield _Kept(row, (run.path.name, run.path.name, str(run.path)))


def _named(kept: Sequence[_Kept]) -> list[Row]:
    """Return the rows by the shortest names that tell them apart, so far as any do."""
    evaluations, told = [each.row.evaluation for each in kept], list[str]()
    for names in zip(*(each.names for each in kept), strict=True):
        told = distinct(names, evaluations)
        if len(set(told)) == len(told):
            break
    return [replace(each.row, name=name) for each, name in zip(kept, told, strict=True)]

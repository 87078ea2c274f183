"""A study's trainings and measurements several at a time: processes that share the cores fill the folder of runs."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sparring.core.errors import TrainingError
from sparring.core.progress import Bar
from sparring.recipe import Recipe, run_of
from sparring.studies.plan import Settings, StudyPlan
from sparring.studies.workshop import Expanded, Workshop


@dataclass(frozen=True)
class Job:
    """A method of a workshop and its arguments; it may begin once the runs that it `needs` have been `made`."""

    method: Callable[..., object]
    arguments: tuple[Any, ...]  # what the method takes
    made: str = ""
    needs: frozenset[str] = frozenset()


def work_ahead(plan: StudyPlan, runs: Path, device: str, jobs: int, *, quiet: bool) -> None:
    """Train and measure all of a study in `jobs` processes; whoever runs it afterwards finds everything done.

    Raises what the first job that fails raises; what others are at is finished before.
    """
    cores = max(1, (os.cpu_count() or 1) // jobs)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, partial(_open, plan, runs, device, cores, quiet=quiet)) as pool:
        workshop = Workshop(plan, runs, device, quiet=True)
        _all_done(pool, _once(_fitting(recipe, runs) for recipe in workshop.trials()), "trying settings")
        _, chosen = workshop.search()
        expanded = workshop.expanded(chosen)
        _all_done(pool, _trainings(expanded, runs), "training")
        making = _makings(workshop, chosen) if plan.evaluation.shown else []
        _all_done(pool, making + _measurements(expanded, plan, chosen, making), "judging")


def _fitting(recipe: Recipe, runs: Path, known: Sequence[str] = ()) -> Job:
    """Return the training of a recipe; it needs those of the `known` runs that the recipe names."""
    text = recipe.to_toml()
    return Job(Workshop.fit, (recipe,), run_of(recipe, runs).path.name, frozenset(run for run in known if run in text))


def _trainings(expanded: Expanded, runs: Path) -> list[Job]:
    known = [training.run for _, of_row in expanded for training in of_row]
    return _once(_fitting(training.recipe, runs, known) for _, of_row in expanded for training in of_row)


def _once(trainings: Iterable[Job]) -> list[Job]:
    """Return each training once: rows may share a run, and not all that is searched is of training."""
    return list({job.made: job for job in trainings}.values())


def _makings(workshop: Workshop, chosen: Settings) -> list[Job]:
    """Return the making of all images that are shown; what is made is told apart by its seed, too."""
    made = workshop.makes(chosen)
    return [Job(Workshop.make, (chosen, *images), repr((images[0].seed, images[1:]))) for images in made]


def _measurements(expanded: Expanded, plan: StudyPlan, chosen: Settings, making: Sequence[Job]) -> list[Job]:
    """Return all that is measured, what takes longest first; rows wait for the images that they are shown."""
    asked, shown = plan.evaluation.geometry, frozenset(job.made for job in making)
    found = [
        Job(Workshop.geometry, (chosen, row, of_row[0])) for row, of_row in expanded if asked and row.name in asked.on
    ]
    found += [Job(Workshop.generative, (chosen, row, of_row[0])) for row, of_row in expanded if row.generative]
    rows = [(row, training) for row, of_row in expanded if row.judged for training in of_row]
    return found + [Job(Workshop.row, (chosen, *of_row), needs=shown) for of_row in rows]


def _all_done(pool: ProcessPoolExecutor, jobs: list[Job], what: str) -> None:
    """Give the pool every job as soon as what it needs is made, in their order, and wait for all."""
    left, running, made = list(jobs), dict[Future[None], Job](), set[str]()
    with Bar(what, len(jobs)) as bar:
        while left or running:
            ready = [job for job in left if job.needs <= made]
            left = [job for job in left if job not in ready]
            running |= {pool.submit(_do, job): job for job in ready}
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                try:
                    future.result()
                except BrokenProcessPool:
                    raise TrainingError(
                        "a process of --jobs was ended from outside (is memory short?); what is finished is kept: "
                        "give the same command again, with fewer jobs"
                    ) from None
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
                made.add(running.pop(future).made)
                bar.advance()


_own: list[Workshop] = []  # of a process of the pool: the workshop that it works in


def _open(plan: StudyPlan, runs: Path, device: str, cores: int, *, quiet: bool) -> None:
    torch.set_num_threads(cores)
    _own.append(Workshop(plan, runs, device, quiet=quiet))


def _do(job: Job) -> None:
    job.method(_own[0], *job.arguments)

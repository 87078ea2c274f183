"""Images made on one row's model and shown to all rows' models; what each says of them is kept in the former's run."""

import hashlib
import logging
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparring.attacks import ATTACKS, Attack, Crafting, craft
from sparring.attacks.base import adapted, device_of
from sparring.attacks.crafting import suitable_batch
from sparring.attacks.preparing import prepared
from sparring.core.errors import InputError
from sparring.core.files import alone, replacing
from sparring.core.progress import track
from sparring.core.randomness import seeded
from sparring.core.results import Estimate
from sparring.core.statistics import share
from sparring.core.study_results import Figure
from sparring.core.threat import THREATS, ThreatModel
from sparring.data import Dataset, Split
from sparring.evaluation.curve import predictions
from sparring.models.saved import load, load_perturber
from sparring.recipe import Fitted
from sparring.studies.plan import FOOLED, UNDER, EvaluationPlan, RowPlan, ShownPlan
from sparring.training.runs import Run

log = logging.getLogger("sparring")
Labels = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Showing:
    """The trained rows of one seed by name: on some of their models images are made, and to all they are shown.

    `clean`: what a run has said of so many images of the data as they are, asked once for all that is made of them.
    """

    plan: EvaluationPlan
    threat: ThreatModel
    fitted: Mapping[str, Fitted]
    dataset: Dataset
    seed: int
    clean: dict[tuple[str, str, int], Labels] = field(default_factory=dict)

    def figures(self, row: RowPlan) -> Iterator["Seen"]:
        """Yield the row's accuracy and fooling rate on images made on others, and what who knows it can do.

        That is by those made on the row's own model, or by the others where they do more harm.
        """
        for name, shown in self.plan.shown.items():
            own = None
            if len(shown.on) == 1 and (shown.adaptive is None or row.name in shown.adaptive):
                own = self._shown(shown, row.name, row.name)
            for source in shown.on:
                full = f"{name} of {source}" if len(shown.on) > 1 else name
                found = self._shown(shown, source, row.name)
                known = () if own is None else (own, found)
                right = min((said.right for said in known), key=np.count_nonzero, default=None)
                fooled = max((said.fooled for said in known), key=np.count_nonzero, default=None)
                yield _seen(f"{UNDER}{full}", row, found.right, right)
                yield _seen(f"{FOOLED}{full}", row, found.fooled, fooled)

    def makes(self) -> Iterator[tuple[str, str]]:
        """Yield the name of all images that are made, and the row on whose model."""
        for name, shown in self.plan.shown.items():
            adaptive = self.fitted if shown.adaptive is None else shown.adaptive
            own = [row for row in adaptive if row in self.fitted] if len(shown.on) == 1 else []
            yield from ((name, source) for source in dict.fromkeys((*shown.on, *own)))

    def make(self, name: str, source: str) -> None:
        """Make these images, unless they are kept, and keep what is said of them."""
        self._shown(self.plan.shown[name], source, source)

    def _shown(self, shown: ShownPlan, source: str, victim: str) -> "Said":
        """Return what the row `victim` says of images that are made on the row `source`."""
        if source not in self.fitted:
            raise InputError(f"shown: the row {source!r} has no training with seed {self.seed}, as {victim!r} has")
        made = _Made(self, shown, source)
        run = self.fitted[victim].run.path.name
        found = made.read()
        if run not in found:
            these = self.fitted.values() if source in shown.on else (self.fitted[source],)
            found = made.shown_to(these)
        return Said(made.given.y.numpy(), *found[run])


@dataclass(frozen=True)
class Said:
    """Labels (N,): the true ones, and what a model says of the images as they are, and as they were made."""

    y: Labels
    clean: Labels
    made: Labels

    @property
    def right(self) -> Flags:
        """Which of the images made are classified right, (N,)."""
        right: Flags = self.made == self.y
        return right

    @property
    def fooled(self) -> Flags:
        """Of which the change has changed the prediction, (N,)."""
        fooled: Flags = self.made != self.clean
        return fooled


@dataclass(frozen=True)
class Seen:
    """A figure, and which images (N,) it counts, by column: "compatibility", "honest"."""

    figure: Figure
    counted: dict[str, Flags] = field(repr=False, compare=False)


@dataclass(frozen=True)
class _Made:
    """Images made on the row `source`, and the file in its run that holds what models have said of them."""

    showing: Showing
    shown: ShownPlan
    source: str

    @cached_property
    def given(self) -> Split:
        """The examples as they are."""
        plan = self.showing.plan
        count, split = self.shown.examples or plan.examples, self.showing.dataset.split(plan.split)
        return split if count is None else split.sample(count, seed=0)

    @cached_property
    def threat(self) -> ThreatModel:
        """What the images are made within."""
        return THREATS.parse(self.shown.threat) if self.shown.threat else self.showing.threat

    @property
    def place(self) -> Path:
        """The file, named after all that decides what it holds."""
        plan, run = self.showing.plan, self.showing.fitted[self.source].run.path
        attack = repr(ATTACKS.parse(self.shown.attack))
        facts = (attack, repr(self.threat), self.shown.until, len(self.given), plan.split, plan.draws)
        text = repr((facts, self.showing.dataset.source, self.showing.seed, version("sparring")))
        return run / "shown" / f"{hashlib.sha256(text.encode()).hexdigest()[:10]}.npz"

    def read(self) -> dict[str, tuple[Labels, Labels]]:
        """Return what is kept, by the name of the run that said it."""
        if not self.place.exists():
            return {}
        try:
            with self.place.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
                return {name: (file[name][0], file[name][1]) for name in file.files}
        except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
            log.warning("%s: broken (%s); the images are made again", self.place, error)
            return {}

    def shown_to(self, victims: Collection[Fitted]) -> dict[str, tuple[Labels, Labels]]:
        """Make the images, show them to all of these, and return and keep what these and others have said of them."""
        with alone(self.place):
            x, found = self.given.images(), self.read()
            new = [victim for victim in victims if victim.run.path.name not in found]
            made = self._images(x) if new else x
            for victim in new:
                found[victim.run.path.name] = (self._said_clean(victim, x), _labels(victim.model, made))
            with replacing(self.place) as part, part.open("wb") as file:
                np.savez_compressed(file, **{name: np.stack(labels) for name, labels in found.items()})  # type: ignore[arg-type]  # of numpy's stubs
        return found

    def _said_clean(self, victim: Fitted, x: Tensor) -> Labels:
        key, known = (victim.run.path.name, self.showing.dataset.source, len(x)), self.showing.clean
        if key not in known:
            known[key] = _labels(victim.model, x)
        return known[key]

    def _images(self, x: Tensor) -> Tensor:
        model, y, seed = self.showing.fitted[self.source].model, self.given.y, self.showing.seed
        attack, parts = self._attack(model), []
        crafting, where = adapted(Crafting(draws=self.showing.plan.draws), model), device_of(model, x)
        batches = torch.split(torch.arange(len(x)), suitable_batch(x, where))
        for place, rows in enumerate(track(batches, f"{attack.name} on {self.source}", len(batches))):
            images, labels, stop = x[rows].to(where), y[rows].to(where), self.shown.until == "success"
            with seeded(seed + place):  # a random model's own noise
                moved = craft(
                    attack, model, images, labels, self.threat, seed=seed + place, crafting=crafting, stop=stop
                )
            parts.append(moved.to(x.device))
        return torch.cat(parts)

    def _attack(self, model: nn.Module) -> Attack:
        train, runs = self.showing.dataset.train, self.place.parents[2]
        where = device_of(model, train.x)
        return prepared(
            ATTACKS.parse(self.shown.attack),
            model,
            self.threat,
            examples=lambda: (train.x, train.y),
            load=lambda run: load(Run.find(run, runs).path).to(where),
            load_perturber=lambda run: load_perturber(Run.find(run, runs).path),
            seed=self.showing.seed,
        )


def _seen(name: str, row: RowPlan, flags: Flags, honest: Flags | None) -> Seen:
    counted = {"compatibility": flags} if honest is None else {"compatibility": flags, "honest": honest}
    value, other = _share(flags), None if honest is None else _share(honest)
    return Seen(Figure(name, row.published.get(name), value, other, row.tolerance.get(name)), counted)


def _share(flags: Flags) -> Estimate:
    return share(int(flags.sum()), len(flags))


def _labels(model: nn.Module, x: Tensor) -> Labels:
    found: Labels = predictions(model, x).argmax(1).numpy()
    return found

"""Evaluate a run and keep the record in its folder, or read it if the same was evaluated before."""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch

from sparring.attacks import ATTACKS, Crafting
from sparring.attacks.base import device_of
from sparring.core.errors import InputError
from sparring.core.fingerprint import fingerprint
from sparring.core.outside import code_named
from sparring.core.randomness import check_seed
from sparring.core.results import Evaluation, NormStatistics
from sparring.core.threat import THREATS
from sparring.data import SOURCES, Dataset, Source
from sparring.data.matching import matched
from sparring.evaluation import CERTIFY_DRAWS, DEFAULT_ATTACKS, evaluate
from sparring.evaluation.audit import Level
from sparring.generative import GenerativeNetwork
from sparring.models.saved import load, load_perturber
from sparring.recipe import Fitted, identity
from sparring.training.runs import Run


@dataclass(frozen=True)
class Judgement:
    """The settings of an evaluation; equal settings give equal records."""

    threat: str
    attacks: tuple[str, ...] = DEFAULT_ATTACKS
    split: str = "test"
    examples: int | None = None
    curve: tuple[float, ...] | None = None
    seed: int = 0
    batch_size: int | None = None
    crafting: Crafting = Crafting()
    statistics: NormStatistics = "running"
    certify: int = CERTIFY_DRAWS
    audit: Level = "standard"

    def __post_init__(self) -> None:
        check_seed(self.seed, "seed")

    def digest(self, *of: str) -> str:
        """Return a short hash of these settings, of what is judged `of` what, of own attacks' code and the version."""
        attacks = [repr(ATTACKS.parse(attack)) for attack in self.attacks]
        full = {**asdict(self), "threat": repr(THREATS.parse(self.threat)), "attacks": attacks}
        text = json.dumps([full, of, version("sparring"), *code_named(" ".join(attacks))], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def judge(
    fitted: Fitted, data: Dataset | Source, settings: Judgement, *, trust: bool = False
) -> tuple[Evaluation, Path]:
    """Return the evaluation of a run and the file in its folder that holds it.

    `trust`: whether code from outside may be imported, if surrogates are of it.

    What attacks find is kept beside that file until it is written, so that a stopped evaluation goes on where it was.
    """
    if isinstance(fitted.model, GenerativeNetwork):
        raise InputError(f"{fitted.run.path}: a generative model was trained in this run, no classifier to attack")
    classes = tuple(fitted.run.read_description()["classes"])
    data, content = _known(data, settings.split, classes)
    source = data.source if isinstance(data, Dataset) else repr(data)
    digest = settings.digest(source, content, identity(fitted))
    name = f"{settings.split}-{THREATS.parse(settings.threat).name}-{digest}.json"
    path = fitted.run.path / "evaluations" / name
    if path.exists():
        return Evaluation.load(path), path
    parts, where = path.with_suffix(".parts"), device_of(fitted.model, torch.empty(0))
    evaluation = evaluate(
        fitted.model,
        _loaded(data, classes),
        settings.threat,
        settings.attacks,
        split=settings.split,
        examples=settings.examples,
        curve=settings.curve,
        seed=settings.seed,
        batch_size=settings.batch_size,
        crafting=settings.crafting,
        statistics=settings.statistics,
        certify=settings.certify,
        audit=settings.audit,
        folder=parts,
        load=lambda name: load(Run.find(name, fitted.run.path.parent).path, trust=trust).to(where),
        load_perturber=lambda name: load_perturber(Run.find(name, fitted.run.path.parent).path),
        name=fitted.run.path.name,
    )
    evaluation.save(path)
    shutil.rmtree(parts, ignore_errors=True)
    return evaluation, path


def _known(data: Dataset | Source, split: str, classes: tuple[str, ...]) -> tuple[Dataset | Source, str]:
    """Return the data, and a hash of its images where no checksum says which they are: files of a folder change."""
    source: Source = SOURCES.parse(data.source) if isinstance(data, Dataset) else data
    if source.files():
        return data, ""
    loaded = _loaded(data, classes)
    judged = loaded.split(split)
    return loaded, fingerprint(split, (("x", judged.x), ("y", judged.y), ("ids", judged.ids)))


def _loaded(data: Dataset | Source, classes: tuple[str, ...]) -> Dataset:
    return matched(data.load() if isinstance(data, Source) else data, classes)

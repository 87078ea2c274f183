"""Opening what came of a recipe, and telling which one it is."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from sparring.attacks.base import device_of, predict
from sparring.attacks.preparing import Part, opened
from sparring.core.errors import InputError
from sparring.core.fingerprint import fingerprint
from sparring.core.outside import nothing_imported
from sparring.core.randomness import seeded
from sparring.data import SOURCES, Source
from sparring.defences import DEFENCES, Standard
from sparring.generative.saved import load_generative
from sparring.models import MODELS
from sparring.models.saved import load, load_perturber
from sparring.recipe.recipe import Recipe, read_toml
from sparring.training.precision import Precision
from sparring.training.runs import Run

DEVICES = ("auto", "cpu", "cuda", "mps")
AS_IT_COMES = "as it comes"  # what was neither trained nor put behind anything


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A finished training: its run folder, and in evaluation mode the classifier or the GenerativeNetwork."""

    run: Run
    model: nn.Module


def identity(fitted: Fitted) -> str:
    """Return a hash of a run's weights, and where its model is code from outside, of its logits for some noise, too."""
    about, values = fitted.run.read_description(), sorted(fitted.run.read_weights().items())
    if "model" in about and MODELS.parse(about["model"]).outside:
        noise = torch.rand(4, *about["shape"], generator=torch.Generator().manual_seed(0))
        with seeded(0):
            values.append(("logits", predict(fitted.model, noise.to(device_of(fitted.model, noise)))))
    return fingerprint("", values)


def reopened(run: Run, recipe: Recipe, *, device: str = "cpu") -> Fitted:
    """Open the run that this recipe made: code from outside is trusted only where the recipe at hand names it."""
    named = run.read_description().get("model")
    if named is not None and MODELS.parse(named) != recipe.model:
        raise InputError(f"{run.path}: model.json names the model {named}, not its recipe's; delete the folder")
    return open_run(run.path, trust=recipe.model is not None and recipe.model.outside, device=device)


def open_run(path: str | Path, *, trust: bool = False, device: str = "cpu") -> Fitted:
    """Open a finished run, of a classifier or a generative model, on `device`; raises InputError as `load` does."""
    run, where = Run(Path(path)), fabric_on(device).device
    if "generative" in run.read_description():
        return Fitted(run, load_generative(path).to(where))
    return Fitted(run, load(path, trust=trust).to(where))


def data_of(run: Run) -> Source:
    """Return what a run was trained on; its defence, whose code may be one's own, is not read."""
    return SOURCES.parse(_fields(run).get("data", ""))


def defence_of(run: Run) -> str:
    """Return how a run was trained, without defaults; as it was written, where the defence is one's own."""
    fields = _fields(run)
    written = str(fields.get("defence", Standard()))
    try:
        with nothing_imported():
            defence = DEFENCES.parse(written)
    except InputError:
        return written
    return str(defence) if defence != Standard() or fields.get("epochs") else AS_IT_COMES


def _fields(run: Run) -> dict[str, Any]:
    """Return the recipe as it stands in the folder."""
    run.check()
    return read_toml(run.path / "recipe.toml")


def with_runs(part: Part, runs: Path, device: torch.device, *, trust: bool = False) -> Part:
    """Return a defence or a generative model with the runs below `runs` opened, on `device`, that its attacks name."""
    return opened(
        part,
        load=lambda name: load(Run.find(name, runs).path, trust=trust).to(device),
        load_perturber=lambda name: load_perturber(Run.find(name, runs).path),
    )


def fabric_on(device: str, precision: Precision = "32-true") -> Fabric:
    """Return what knows a device by its name: auto, cpu, cuda or mps; raises InputError where there is no such one."""
    if device not in DEVICES:
        raise InputError(f"device {device!r} cannot be used here; there are: {', '.join(DEVICES)}")
    try:
        return Fabric(accelerator=device, devices=1, precision=precision)
    except (ValueError, RuntimeError) as error:  # Lightning's exceptions for what it has not, and cannot use here
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"device {device!r} cannot be used here: {reason}") from None

"""Hardening a network that someone has already: training it further, by a defence, from the weights that it holds."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sparring.attacks.base import device_of, predict
from sparring.attacks.given import check_model
from sparring.core.errors import InputError, StoppedError
from sparring.core.files import alone
from sparring.core.fingerprint import fingerprint
from sparring.core.randomness import check_seed
from sparring.core.spec import convert_fields
from sparring.core.trainable import Learner, Setup
from sparring.data import Dataset, Source, load
from sparring.data.augment import Augmentation
from sparring.data.dataset import refuse
from sparring.data.given import Data, Examples, examples_of
from sparring.defences import Defence
from sparring.models.modes import in_use
from sparring.recipe.fitting import RUNS
from sparring.recipe.opening import fabric_on, with_runs
from sparring.training.loop import Plan, train
from sparring.training.monitor import Monitor
from sparring.training.optimisers import Optimiser
from sparring.training.precision import Precision
from sparring.training.runs import Run
from sparring.training.schedules import Schedule


@dataclass(frozen=True, kw_only=True)
class _Settings:
    """What decides how a network is trained further, as a recipe has it."""

    defence: Defence
    epochs: int
    batch_size: int
    optimiser: Optimiser
    schedule: Schedule
    augmentation: Augmentation
    precision: Precision
    seed: int

    def __post_init__(self) -> None:
        convert_fields(self, "harden")
        for name, least in (("epochs", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise InputError(f"harden: {name} must be at least {least}, not {getattr(self, name)}")
        check_seed(self.seed, "harden: seed")

    def __str__(self) -> str:
        return "\n".join(f"{each.name} = {getattr(self, each.name)!r}" for each in fields(self))


def harden(
    model: nn.Module,
    data: Data,
    defence: Defence | str,
    *,
    epochs: int = 10,
    batch_size: int = 128,
    optimiser: Optimiser | str = "adam(lr=0.0003)",
    schedule: Schedule | str = "constant()",
    augmentation: Augmentation | str = "none()",
    precision: Precision = "32-true",
    validation: Data | None = None,
    seed: int = 0,
    device: str = "auto",
    folder: str | Path | None = None,
    runs: str | Path = RUNS,
    quiet: bool = False,
) -> nn.Module:
    """Return a hardened copy of `model`, in evaluation mode and on `device`; `model` itself stays as it is.

    The copy is trained by `defence` from the weights that `model` holds. `model` takes float images (B, C, H, W) in
    [0, 1] to logits (B, K). `data` is what `evaluate` takes: of a dataset its training split. Judge on other images.
    `validation`: for a defence that looks at images to choose by, such as `best_epoch`; of a dataset its validation
    split, if nothing is given. In `folder` checkpoints are kept: a training that was stopped goes on there when called
    again with the same arguments. `runs`: where the runs are that a defence may name.
    Raises InputError for what cannot be used, TrainingError when training diverges or is stopped.
    """
    settings = _Settings(
        defence=defence,  # type: ignore[arg-type]  # which makes components of call strings
        epochs=epochs,
        batch_size=batch_size,
        optimiser=optimiser,  # type: ignore[arg-type]
        schedule=schedule,  # type: ignore[arg-type]
        augmentation=augmentation,  # type: ignore[arg-type]
        precision=precision,
        seed=seed,
    )
    check_model(model)
    data = load(data) if isinstance(data, str | Source) else data
    given, fabric = examples_of(data, "train"), fabric_on(device, precision)
    setup = _setup(model, given, settings, fabric, Path(runs), _validation(data, validation, settings, fabric))
    told = f"{settings}\n# {_identity(model, given)}\n"
    if folder is not None:
        with alone(Path(folder) / "training", busy=f"{folder}: another process is training here; waiting for its end"):
            return _trained(Run(Path(folder)), given, setup, settings, fabric, told, quiet=quiet)
    with TemporaryDirectory() as place:
        try:
            return _trained(Run(Path(place)), given, setup, settings, fabric, told, quiet=quiet)
        except StoppedError:
            raise StoppedError("harden: interrupted, and nothing is kept; with folder=... it could go on") from None


def _trained(
    run: Run, given: Examples, setup: Setup, settings: _Settings, fabric: Fabric, told: str, *, quiet: bool
) -> nn.Module:
    """Train in a folder, to the end; `told`: what everything depends on, so that no other training goes on there."""
    if run.begun:
        run.write_recipe(told)
    defence = with_runs(settings.defence, setup.runs, fabric.device)
    state = train(
        defence,
        given,
        setup,
        Plan(settings.epochs, settings.batch_size, settings.seed, settings.augmentation),
        run=run,
        fabric=fabric,
        monitor=Monitor(f"harden-{defence.name}", quiet=quiet),
        begin=lambda: run.write_recipe(told),
    )
    return defence.deploy(state).eval()


def _setup(
    model: nn.Module,
    given: Examples,
    settings: _Settings,
    fabric: Fabric,
    runs: Path,
    validation: Callable[[int], tuple[Tensor, Tensor]],
) -> Setup:
    classes = _classes(model, given)
    channels, height, width = given.x.shape[1:]
    return Setup(
        (channels, height, width),
        classes,
        lambda: copy.deepcopy(model).to(fabric.device),
        lambda network: Learner(network, settings.optimiser.build(network), settings.schedule),
        runs,
        validation,
        fabric.device,
        lambda: (given.x, given.y, given.ids),
        {"classes": list(given.classes)} if given.classes else {},
    )


def _classes(model: nn.Module, given: Examples) -> int:
    """Return how many classes the model tells apart; raises InputError for a label beyond them."""
    x, _ = given.batch(torch.arange(1))
    with in_use(model):
        classes = predict(model, x.to(device_of(model, x))).shape[1]
    refuse(
        given.y >= classes,
        f"harden: {given.source}",
        lambda i: f"label {int(given.y[i])} of example {i} is none of the model's {classes} classes",
    )
    return classes


def _validation(
    data: Data, validation: Data | None, settings: _Settings, fabric: Fabric
) -> Callable[[int], tuple[Tensor, Tensor]]:
    def drawn(count: int) -> tuple[Tensor, Tensor]:
        chosen = data if validation is None else validation
        if validation is None and not isinstance(data, Dataset):
            raise InputError(f"harden: {settings.defence.name} needs images to choose by; give validation=(x, y)")
        few = examples_of(chosen, "validation").sample(count, settings.seed)
        return few.images().to(fabric.device), few.y.to(fabric.device)

    return drawn


def _identity(model: nn.Module, given: Examples) -> str:
    """Return a hash of the weights to begin with and of the images."""
    held = ((name, value) for name, value in model.state_dict().items() if isinstance(value, Tensor))
    return fingerprint("", [*held, ("x", given.x), ("y", given.y)])

"""Recipes: what to train and how, as data; `fit` trains one, `load` opens what came out."""

import dataclasses
import shutil
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_type_hints

import tomli_w
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sparring.attacks.base import device_of, predict
from sparring.attacks.preparing import opened
from sparring.core.call import literal
from sparring.core.errors import InputError
from sparring.core.fingerprint import fingerprint
from sparring.core.randomness import seeded
from sparring.core.spec import Component, convert_fields, suggest
from sparring.core.trainable import Learner, Setup
from sparring.data import Dataset, Source
from sparring.data.augment import Augmentation, NoAugmentation
from sparring.data.dataset import Split, TrainOn
from sparring.defences import Defence, Standard
from sparring.generative import Generative, GenerativeNetwork
from sparring.generative.saved import load_generative
from sparring.models import MODELS, Model, assemble
from sparring.models.mask import Masked
from sparring.models.saved import load, load_perturber
from sparring.models.wrappers import Normalisation, normaliser
from sparring.training.loop import Plan, train
from sparring.training.monitor import Monitor
from sparring.training.optimisers import SGD, Optimiser
from sparring.training.precision import Precision
from sparring.training.runs import Run
from sparring.training.schedules import Constant, Schedule

RUNS = Path("runs")
OF_CLASSIFIERS = ("model", "defence", "normalise")  # fields with no meaning where a generative model is trained


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides what a training gives; the same recipe and seed give the same bits on one machine's CPU.

    It trains the classifier `model` by `defence`, or where there is no model the `generative` one. Components may be
    given as call strings.
    """

    data: Source
    model: Model | None = None
    defence: Defence = Standard()
    optimiser: Optimiser = SGD()
    schedule: Schedule = Constant()
    augmentation: Augmentation = NoAugmentation()
    normalise: Normalisation = "none"
    train_on: TrainOn = "train"
    limit: int = 0  # train on so many images, drawn by the seed; 0: on all
    epochs: int = 10  # 0: the weights that the model brings along stay as they are
    batch_size: int = 128
    precision: Precision = "32-true"
    seed: int = 0
    generative: Generative | None = None

    def __post_init__(self) -> None:
        convert_fields(self, "recipe")
        if (self.model is None) == (self.generative is None):
            raise InputError("recipe: set model, to train a classifier, or generative, and not both")
        for name, least in (("epochs", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise InputError(f"recipe: {name} must be at least {least}, not {getattr(self, name)}")

    @staticmethod
    def of(fields: Mapping[str, object]) -> "Recipe":
        """Make a recipe from plain values, components as call strings; raises InputError naming a bad field."""
        hints = get_type_hints(Recipe)
        for name in fields:
            if name not in hints:
                raise InputError(f"recipe: unknown field {name!r}{suggest(name, hints)}")
        for name in ("data",) if "generative" in fields else ("data", "model"):
            if name not in fields:
                raise InputError(f"recipe: field {name!r} is missing")
        for name in OF_CLASSIFIERS if "generative" in fields else ():
            if name in fields:
                raise InputError(f"recipe: {name} is a classifier's, and generative trains none; take one of them out")
        return Recipe(**fields)  # type: ignore[arg-type]  # which makes components of call strings

    @staticmethod
    def read(path: str | Path, changes: Mapping[str, object] | None = None) -> "Recipe":
        """Read a recipe's TOML file, with `changes` to some of its fields."""
        return Recipe.of({**read_toml(Path(path)), **(changes or {})})

    def to_toml(self) -> str:
        """Return the recipe as TOML, every field and every argument written out."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("generative",) if self.generative is None else OF_CLASSIFIERS:
            del values[name]
        return tomli_w.dumps({name: repr(v) if isinstance(v, Component) else v for name, v in values.items()})

    @property
    def trainable(self) -> Defence | Generative:
        """What is trained."""
        return self.defence if self.generative is None else self.generative

    @property
    def title(self) -> str:
        """A short name for folders and progress lines."""
        return "-".join(part.name for part in (self.data, self.model, self.trainable) if part is not None)


@dataclasses.dataclass(frozen=True)
class Fitted:
    """A finished training: its run folder, and in evaluation mode the classifier or the GenerativeNetwork."""

    run: Run
    model: nn.Module


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raises InputError naming it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable TOML file ({error})") from None


def parse_changes(settings: list[str]) -> dict[str, object]:
    """Turn `name=value` texts, as `--set` takes them, into fields of a recipe."""
    changes: dict[str, object] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(
                f'--set {setting}: expected name=value, such as --set epochs=3 or --set defence="standard()"'
            )
        changes[name.strip()] = literal(value)
    return changes


def run_of(recipe: Recipe, runs: str | Path = RUNS) -> Run:
    """Return the run folder of a recipe; it need not exist yet."""
    return Run.place(Path(runs), recipe.title, recipe.to_toml())


def fit(
    recipe: Recipe | str | Path,
    *,
    runs: str | Path = RUNS,
    device: str = "auto",
    resume: bool = True,
    quiet: bool = False,
    dataset: Dataset | None = None,
) -> Fitted:
    """Train what the recipe says, or open it if its run is finished, or go on if it was stopped.

    `recipe` may be a TOML file's path. With `resume=False` a run that was stopped is an error. `dataset` spares loading
    the recipe's data again. Raises InputError for what cannot be used, TrainingError when training diverges or is
    stopped.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)
    run = run_of(recipe, runs)
    if not recipe.data.lasting:
        dataset = dataset or recipe.data.load()
        split = training_split(recipe, dataset)
        run.note_images(fingerprint(repr(dataset.classes), (("x", split.x), ("y", split.y), ("ids", split.ids))))
    if run.finished:
        return _reopened(run, recipe)
    if run.begun and not resume:
        raise InputError(
            f"{run.path}: this training was stopped before its end; go on with --resume, or delete the folder"
        )
    dataset = dataset or recipe.data.load()
    split = training_split(recipe, dataset)
    fabric = fabric_on(device, recipe.precision)
    about = {"shape": list(dataset.shape), "classes": list(dataset.classes)}
    classifier = {"model": repr(recipe.model), "normalise": recipe.normalise, **about}
    setup = Setup(
        dataset.shape,
        len(dataset.classes),
        *_makers(recipe, dataset, fabric),
        Path(runs),
        _validation(recipe, dataset, fabric),
        fabric.device,
        lambda: (split.x, split.y, split.ids),
        classifier,
    )
    trainable = opened(
        recipe.trainable,
        load=lambda name: load(Run.find(name, Path(runs)).path),
        load_perturber=lambda name: load_perturber(Run.find(name, Path(runs)).path),
    )
    run.write_recipe(recipe.to_toml())
    plan = Plan(recipe.epochs, recipe.batch_size, recipe.seed, recipe.augmentation)
    state = train(trainable, split, setup, plan, run=run, fabric=fabric, monitor=Monitor(recipe.title, quiet=quiet))
    companions, deployed = trainable.companions(state), trainable.deploy(state)
    networks = {"model": deployed} | {name: network for name, (_, network) in companions.items()}
    description: dict[str, object] = {name: call for name, (call, _) in companions.items()}
    if isinstance(deployed, GenerativeNetwork):
        description |= deployed.description | about
    else:
        description |= classifier
        if isinstance(deployed, Masked):
            description["masks"] = deployed.description
    run.finish(networks, description)
    return _reopened(run, recipe)


def as_it_comes(model: str, data: str, *, runs: str | Path = RUNS, device: str = "auto") -> Fitted:
    """Return a model with the weights that it brings along, in a run folder of its own; nothing is trained.

    `model` and `data` are call strings; raises InputError where one is missing, or cannot be used.
    """
    if not data:
        raise InputError(f"{model}: to judge a model that was not trained here, say on which data (--data)")
    recipe = Recipe.of({"data": data, "model": model, "epochs": 0})
    Path(runs).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=runs, prefix=".") as new:  # what it is made of may have changed since it was judged
        fitted = fit(recipe, runs=new, device=device, quiet=True)
        run = Run.place(Path(runs), recipe.title, recipe.to_toml() + identity(fitted))
        if not run.finished:
            shutil.rmtree(run.path, ignore_errors=True)
            fitted.run.path.rename(run.path)
    return Fitted(run, fitted.model.to(fabric_on(device).device))


def identity(fitted: Fitted) -> str:
    """Return a hash of a run's weights, and where its model is code from outside, of its logits for some noise, too."""
    about, values = fitted.run.read_description(), sorted(fitted.run.read_weights().items())
    if "model" in about and MODELS.parse(about["model"]).outside:
        noise = torch.rand(4, *about["shape"], generator=torch.Generator().manual_seed(0))
        with seeded(0):
            values.append(("logits", predict(fitted.model, noise.to(device_of(fitted.model, noise)))))
    return fingerprint("", values)


def _reopened(run: Run, recipe: Recipe) -> Fitted:
    """Open the run that this recipe made: code from outside is trusted only where the recipe at hand names it."""
    named = run.read_description().get("model")
    if named is not None and MODELS.parse(named) != recipe.model:
        raise InputError(f"{run.path}: model.json names the model {named}, not its recipe's; delete the folder")
    return open_run(run.path, trust=recipe.model is not None and recipe.model.outside)


def open_run(path: str | Path, *, trust: bool = False, device: str = "cpu") -> Fitted:
    """Open a finished run, of a classifier or a generative model, on `device`; raises InputError as `load` does."""
    run, where = Run(Path(path)), fabric_on(device).device
    if "generative" in run.read_description():
        return Fitted(run, load_generative(path).to(where))
    return Fitted(run, load(path, trust=trust).to(where))


def fabric_on(device: str, precision: Precision = "32-true") -> Fabric:
    """Return what knows a device by its name: auto, cpu, cuda or mps; raises InputError where there is no such one."""
    try:
        return Fabric(accelerator=device, devices=1, precision=precision)
    except (ValueError, RuntimeError) as error:  # Lightning's exceptions for what it has not, and cannot use here
        reason = " ".join(str(error).split())[:160]
        raise InputError(f"device {device!r} cannot be used here: {reason}") from None


def training_split(recipe: Recipe, dataset: Dataset) -> Split:
    """Return what a recipe trains on."""
    split = dataset.split(recipe.train_on)
    return split.sample(recipe.limit, recipe.seed) if recipe.limit else split


def _makers(
    recipe: Recipe, dataset: Dataset, fabric: Fabric
) -> tuple[Callable[[], nn.Module], Callable[[nn.Module], Learner]]:
    normalise = normaliser(recipe.normalise, training_split(recipe, dataset))

    def classifier() -> nn.Module:
        assert recipe.model is not None  # what trains a generative model asks for no classifier
        network = recipe.model.build(dataset.shape, len(dataset.classes))
        recipe.model.fill(network)
        return assemble(normalise, network).to(fabric.device)

    def learner(network: nn.Module) -> Learner:
        return Learner(network, recipe.optimiser.build(network), recipe.schedule)

    return classifier, learner


def _validation(recipe: Recipe, dataset: Dataset, fabric: Fabric) -> Callable[[int], tuple[Tensor, Tensor]]:
    def validation(count: int) -> tuple[Tensor, Tensor]:
        if recipe.train_on != "train":
            raise InputError(
                f"recipe: {recipe.trainable.name} judges by the validation split, which train_on = "
                f'"{recipe.train_on}" trains on; set train_on = "train"'
            )
        if not len(dataset.validation):
            raise InputError(f"recipe: {recipe.trainable.name} needs validation images, and {dataset.source} has none")
        drawn = dataset.validation.sample(count, recipe.seed)
        return drawn.images().to(fabric.device), drawn.y.to(fabric.device)

    return validation

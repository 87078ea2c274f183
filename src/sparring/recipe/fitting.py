"""Training what a recipe says, in a run folder of its own."""

from collections.abc import Callable
from pathlib import Path

from lightning_fabric import Fabric
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.core.files import alone, sweep
from sparring.core.fingerprint import fingerprint
from sparring.core.trainable import Learner, Setup
from sparring.data import Dataset
from sparring.data.dataset import Split
from sparring.generative import GenerativeNetwork
from sparring.models import assemble
from sparring.models.mask import Masked
from sparring.models.wrappers import normaliser
from sparring.recipe.opening import Fitted, fabric_on, reopened, with_runs
from sparring.recipe.recipe import Recipe
from sparring.training.loop import Plan, train
from sparring.training.monitor import Monitor
from sparring.training.runs import Run

RUNS = Path("runs")


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
    trust: bool = False,
) -> Fitted:
    """Train what the recipe says, or open it if its run is finished, or go on if it was stopped.

    The model that is returned is on `device`, too: auto (a GPU where there is one), cpu, cuda or mps.
    `recipe` may be a TOML file's path. With `resume=False` a run that was stopped is an error. `dataset` spares loading
    the recipe's data again. `trust`: whether code from outside may be imported, if runs that the recipe names are of
    it. Where another process is training the same, its end is waited for. Raises InputError for what cannot be used,
    TrainingError when training diverges or is stopped.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.read(recipe)
    run = run_of(recipe, runs)
    if dataset is not None and dataset.source != repr(recipe.data):
        raise InputError(f"fit: the dataset is {dataset.source}, not the recipe's, {recipe.data!r}; leave it out")
    dataset = dataset if recipe.data.lasting else dataset or recipe.data.load()
    images = "" if dataset is None or recipe.data.lasting else _images_of(recipe, dataset)
    if not run.finished:  # to open one that is takes no lock, and so no right to write there
        busy = f"{run.path}: another process is training this run; waiting for its end"
        with alone(run.path / "training", busy=busy):
            if not run.finished:
                if run.begun and not resume:
                    raise InputError(
                        f"{run.path}: this training was stopped before its end; go on with --resume, or delete the "
                        "folder"
                    )
                sweep(run.path)
                if run.begun:
                    run.note_images(images)
                data = dataset or recipe.data.load()
                fabric = fabric_on(device, recipe.precision)
                _train(recipe, run, images, data, fabric, quiet=quiet, trust=trust)
    run.note_images(images)
    return reopened(run, recipe, device=device)


def _images_of(recipe: Recipe, dataset: Dataset) -> str:
    """Return a hash of what a recipe trains on."""
    split = training_split(recipe, dataset)
    return fingerprint(repr(dataset.classes), (("x", split.x), ("y", split.y), ("ids", split.ids)))


def _train(
    recipe: Recipe, run: Run, images: str, dataset: Dataset, fabric: Fabric, *, quiet: bool, trust: bool
) -> None:
    """Train in a run folder, to its end; what is refused leaves nothing there."""

    def begin() -> None:
        run.note_images(images)
        run.write_recipe(recipe.to_toml())

    split = training_split(recipe, dataset)
    if recipe.epochs and not len(split):
        raise InputError(f"recipe: there is nothing to train on: {recipe.data} leaves no image to {recipe.train_on}")
    setup = _setup(recipe, dataset, split, fabric, run.path.parent)
    trainable = with_runs(recipe.trainable, run.path.parent, fabric.device, trust=trust)
    state = train(
        trainable,
        split,
        setup,
        Plan(recipe.epochs, recipe.batch_size, recipe.seed, recipe.augmentation),
        run=run,
        fabric=fabric,
        monitor=Monitor(recipe.title, quiet=quiet),
        begin=begin,
    )
    deployed, companions = trainable.deploy(state), trainable.companions(state)
    networks = {"model": deployed} | {name: network for name, (_, network) in companions.items()}
    calls: dict[str, object] = {name: call for name, (call, _) in companions.items()}
    run.finish(networks, calls | _described(deployed, setup, dataset), str(fabric.device))


def _setup(recipe: Recipe, dataset: Dataset, split: Split, fabric: Fabric, runs: Path) -> Setup:
    return Setup(
        dataset.shape,
        len(dataset.classes),
        *_makers(recipe, dataset, fabric),
        runs,
        _validation(recipe, dataset, fabric),
        fabric.device,
        lambda: (split.x, split.y, split.ids),
        {"model": repr(recipe.model), "normalise": recipe.normalise, **_about(dataset)},
    )


def _about(dataset: Dataset) -> dict[str, object]:
    return {"shape": list(dataset.shape), "classes": list(dataset.classes)}


def _described(deployed: nn.Module, setup: Setup, dataset: Dataset) -> dict[str, object]:
    """Return what rebuilds the deployed network."""
    if isinstance(deployed, GenerativeNetwork):
        return {**deployed.description, **_about(dataset)}
    masks = {"masks": deployed.description} if isinstance(deployed, Masked) else {}
    return {**setup.description, **masks}


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
        (recipe.model.begin if recipe.epochs else recipe.model.fill)(network)
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

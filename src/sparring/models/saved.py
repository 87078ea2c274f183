"""What a finished run holds: its classifier, and the networks that were trained beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from sparring.core.errors import InputError, naming
from sparring.core.randomness import seeded
from sparring.core.trainable import Setup
from sparring.models import MODELS, assemble
from sparring.models.mask import blank_masked
from sparring.models.perturber import PERTURBERS, PerturberNetwork
from sparring.models.wrappers import blank_normaliser
from sparring.training.runs import Run


def load(path: str | Path, *, trust: bool = False) -> nn.Module:
    """Open the classifier of a finished run, in evaluation mode: float images (B, C, H, W) in [0, 1] to logits (B, K).

    `trust`: whether code from outside may be imported, if the run's model is made by it.
    Raises InputError if the folder is no finished run, or its weights do not fit its description.
    """
    run = Run(Path(path))
    about = run.read_description()
    if "generative" in about:
        raise InputError(f"{run.path}: a generative model was trained in this run, no classifier")
    with fits(run, "model"), seeded(0):  # the first weights are drawn, then replaced
        shape, made = shape_of(about), MODELS.parse(about["model"])
        if made.outside and not trust:
            raise InputError(
                f"{run.path}: its model is code from outside, {made}; open it with trust=True, or --trust, if you do"
            )
        network = made.build(shape, len(about["classes"]))
        model = assemble(blank_normaliser(about["normalise"], shape), network)
        if "masks" in about:
            model = blank_masked(about["masks"], shape, model)
        model.load_state_dict(run.read_weights())
    return model.eval()


def load_perturber(path: str | Path) -> PerturberNetwork:
    """Open the perturber that was trained in a run, in evaluation mode; raises InputError if there is none."""
    run = Run(Path(path))
    about = run.read_description()
    if "perturber" not in about:
        raise InputError(f"{run.path}: no perturber was trained in this run; gan_game and gat train one")
    with fits(run, "perturber"), seeded(0):
        network = PERTURBERS.parse(about["perturber"]).build(shape_of(about))
        network.load_state_dict(run.read_weights("perturber"))
    network.eval()
    return network


def take_over(classifier: nn.Module, run: Run, setup: Setup, where: str) -> None:
    """Give a fresh classifier the weights of a run's; raises InputError if that is another than the setup's recipe has.

    Weights alone do not tell: an activation, say, has none.
    """
    with naming(where):
        about = run.read_description()
    for name, wanted in setup.description.items():
        if about.get(name) != wanted:
            raise InputError(
                f"{where}: the run's classifier is not the recipe's model ({name}: {about.get(name)}, not {wanted})"
            )
    try:
        classifier.load_state_dict(run.read_weights())
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{where}: the run's classifier is not the recipe's model ({reason})") from None


@contextmanager
def fits(run: Run, name: str) -> Iterator[None]:
    """Turn what goes wrong while a network of a run is built and filled into one line that names its files."""
    try:
        yield
    except InputError:
        raise
    except (KeyError, TypeError, IndexError, ValueError, AttributeError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{run.path}: damaged: model.json and {name}.safetensors do not fit together ({reason})"
        ) from None


def shape_of(about: dict[str, list[int]]) -> tuple[int, int, int]:
    """Return the shape (C, H, W) of the images, from a run's description."""
    return int(about["shape"][0]), int(about["shape"][1]), int(about["shape"][2])

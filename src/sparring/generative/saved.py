"""What a finished run of a generative model holds."""

from pathlib import Path
from typing import Any

from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.core.spec import convert
from sparring.generative.base import GenerativeModel, GenerativeNetwork
from sparring.generative.networks import quick
from sparring.models.saved import fits, shape_of
from sparring.training.runs import Run


def load_generative(path: str | Path) -> GenerativeNetwork:
    """Open the generative model of a finished run, in evaluation mode.

    Raises InputError if the folder is no such run, or its weights do not fit its description.
    """
    run = Run(Path(path))
    about = run.read_description()
    if "generative" not in about:
        raise InputError(f"{run.path}: no generative model was trained in this run")
    with fits(run, "model"):
        network = blank_generative(about, shape_of(about), len(about["classes"]))
        network.load_state_dict(run.read_weights())
    return network


def blank_generative(about: dict[str, Any], shape: tuple[int, int, int], classes: int) -> GenerativeNetwork:
    """Return a network as `GenerativeNetwork.description` has it, in evaluation mode, to load values into."""
    with seeded(0):  # the first weights are drawn, then replaced
        model: GenerativeModel = convert(about["generative"], GenerativeModel, "model.json: generative")
        network = model.build(shape, classes)
        if "encoder_width" in about:
            network = network.with_encoder(int(about["encoder_width"]))
    quick(network)
    return network.eval()

"""Networks like the one under audit, trained anew: what fools them must not fool it where gradients could not."""

import copy
import tempfile
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sparring.attacks import PGD
from sparring.attacks.base import device_of
from sparring.core.errors import InputError, TrainingError
from sparring.core.threat import ThreatModel
from sparring.core.trainable import Learner, Setup
from sparring.data.dataset import Split
from sparring.defences.adversarial import Adversarial
from sparring.defences.base import Defence
from sparring.defences.standard import Standard
from sparring.training.loop import Plan, train
from sparring.training.monitor import Monitor
from sparring.training.optimisers import Adam
from sparring.training.runs import Run
from sparring.training.schedules import Constant

EPOCHS, BATCH, MOST = 3, 128, 20_000


def train_twins(
    model: nn.Module, x: Tensor, y: Tensor, classes: int, threat: ThreatModel, seed: int
) -> dict[str, nn.Module]:
    """Return a standard and an adversarially trained network of the model's architecture, from fresh weights.

    `x` (N, C, H, W) in [0, 1] or uint8 and `y` (N,): the examples to train on, never those judged. A model without
    layers that can begin anew has no twins, and one whose training fails has none of that kind.
    """
    defences: dict[str, Defence] = {
        "undefended": Standard(),
        "adversarially trained": Adversarial(attack=PGD(steps=5, rel_step_size=0.4), threat=threat),
    }
    split = Split(x[:MOST], y[:MOST], torch.arange(len(y[:MOST])))
    trained = {name: _trained(defence, model, split, classes, seed) for name, defence in defences.items()}
    return {name: twin for name, twin in trained.items() if twin is not None}


def _trained(defence: Defence, model: nn.Module, split: Split, classes: int, seed: int) -> nn.Module | None:
    """Return a fresh network trained by `defence`; None where nothing in it begins anew, or training fails."""
    if not any(hasattr(module, "reset_parameters") for module in model.modules()):
        return None
    _, channels, height, width = split.x.shape
    setup = Setup((channels, height, width), classes, lambda: _fresh(model), _learner)
    fabric = Fabric(accelerator=device_of(model, split.x).type, devices=1)
    with tempfile.TemporaryDirectory() as folder:
        try:
            state = train(
                defence,
                split,
                setup,
                Plan(EPOCHS, BATCH, seed),
                run=Run(Path(folder)),
                fabric=fabric,
                monitor=Monitor("twin", quiet=True),
            )
        except (InputError, TrainingError):
            return None
    return defence.deploy(state).eval()


def _fresh(model: nn.Module) -> nn.Module:
    """Return a copy with every layer that can begin anew begun anew."""
    twin = copy.deepcopy(model)
    for module in twin.modules():
        reset = getattr(module, "reset_parameters", None)  # every layer of torch's own with weights has it
        if callable(reset):
            reset()
    for parameter in twin.parameters():
        parameter.requires_grad_(True)
    return twin


def _learner(network: nn.Module) -> Learner:
    return Learner(network, Adam().build(network), Constant())

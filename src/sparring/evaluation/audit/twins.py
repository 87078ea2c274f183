"""Networks like the one under audit, trained anew: what fools them must not fool it where gradients could not."""

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from sparring.attacks import PGD
from sparring.attacks.base import device_of
from sparring.core.errors import InputError, StoppedError, TrainingError
from sparring.core.threat import ThreatModel
from sparring.core.trainable import Learner, Setup
from sparring.data.dataset import Split
from sparring.defences.adversarial import Adversarial
from sparring.defences.base import Defence
from sparring.defences.standard import Standard
from sparring.models.cnn import CNN
from sparring.training.loop import Plan, train
from sparring.training.monitor import Monitor
from sparring.training.optimisers import Adam
from sparring.training.runs import Run
from sparring.training.schedules import Constant

EPOCHS, BATCH, MOST = 3, 128, 20_000


def train_twins(
    model: nn.Module, x: Tensor, y: Tensor, classes: int, threat: ThreatModel, seed: int
) -> dict[str, nn.Module]:
    """Return networks trained here, by name: of the model's own architecture, and a plain one that can hide nothing.

    `x` (N, C, H, W) in [0, 1] or uint8 and `y` (N,): the examples to train on, never those judged. The architecture's
    own are a standard and an adversarially trained one, none where no layer of it can begin anew; the plain one is
    adversarially trained. What fails to train is left out.
    """
    split = Split(x[:MOST], y[:MOST], torch.arange(len(y[:MOST])))
    _, channels, height, width = split.x.shape
    shape, where = (channels, height, width), device_of(model, split.x)
    adversarial = Adversarial(attack=PGD(steps=5, rel_step_size=0.4), threat=threat)
    kinds: dict[str, tuple[Defence, Callable[[], nn.Module]]] = {
        "one of its kind, undefended": (Standard(), lambda: _fresh(model)),
        "one of its kind, adversarially trained": (adversarial, lambda: _fresh(model)),
        "a plain one, adversarially trained": (adversarial, lambda: CNN().build(shape, classes).to(where)),
    }
    trained = {
        name: _trained(defence, split, Setup(shape, classes, classifier, _learner, device=where), seed)
        for name, (defence, classifier) in kinds.items()
    }
    return {name: twin for name, twin in trained.items() if twin is not None}


def _trained(defence: Defence, split: Split, setup: Setup, seed: int) -> nn.Module | None:
    """Return a fresh network trained by `defence`; None where it cannot be."""
    where = setup.device
    fabric = Fabric(accelerator=where.type, devices=1 if where.type == "cpu" else [where.index or 0])
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
        except StoppedError:
            raise KeyboardInterrupt from None
        except (InputError, TrainingError):
            return None
    return defence.deploy(state).eval()


def _fresh(model: nn.Module) -> nn.Module:
    """Return a copy with every layer that can begin anew begun anew; raises InputError where there is none."""
    if not any(hasattr(module, "reset_parameters") for module in model.modules()):
        raise InputError("no layer of the model can begin anew")
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

"""What is special to multi-task learning: its losses read slowly, who learns from which, and tasks that do not fit."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sparring import InputError
from sparring.attacks import FGSM, craft
from sparring.core.randomness import seeded
from sparring.core.threat import Linf
from sparring.core.trainable import Learner, Setup, State
from sparring.data import load
from sparring.defences import MultiTask, Standard
from sparring.defences.multi_task import turned
from sparring.models import MLP
from sparring.training.optimisers import SGD
from sparring.training.schedules import Constant

LAYER = "2"  # Flatten, Linear, LeakyReLU, Linear, LeakyReLU, Linear
GROUPS = ((0, 6, 8, 9), (1, 4, 7), (2, 3, 5))


def network() -> nn.Sequential:
    with seeded(0):
        return MLP(hidden=(24, 16), activation="leaky_relu").build((1, 8, 8), 10)  # type: ignore[return-value]


def setup(lr: float = 0.1, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 10) -> Setup:
    return Setup(shape, classes, network, lambda net: Learner(net, SGD(lr=lr).build(net), Constant()))


def batch(size: int = 32) -> tuple[Tensor, Tensor]:
    return load("digits()").train.batch(torch.arange(size))


def begun(defence: MultiTask, lr: float = 0.1) -> State:
    with seeded(0):
        return defence.init(setup(lr))


def step(defence: Any, state: State, seed: int = 0) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    metrics = defence.step(state, *batch(), progress=0.0, generator=generator)
    return {name: float(value) for name, value in metrics.items()}


def weights(state: State, name: str) -> list[Tensor]:
    return [weight.detach().clone() for weight in state.learners[name].network.parameters()]


@pytest.mark.parametrize(("attacked", "mix"), [(False, 1.0), (False, 0.3), (True, 1.0), (True, 0.3)])
@pytest.mark.parametrize("weight", [0.0, 0.5, 3.0])
def test_the_loss_is_the_sum_read_slowly(weight: float, attacked: bool, mix: float) -> None:
    crafting: dict[str, Any] = {"attack": FGSM(), "threat": Linf(0.1)} if attacked else {}
    crafting["mix"] = mix
    tasks = ("rotation", "coarse", "reconstruction")
    defence = MultiTask(layer=LAYER, tasks=tasks, groups=GROUPS, weight=weight, **crafting)
    state = begun(defence, lr=1e-12)
    net, heads = state.learners["classifier"].network, state.learners["heads"].network
    assert isinstance(net, nn.Sequential)
    x, y = batch()
    generator = torch.Generator().manual_seed(7)
    if attacked:
        torch.randint(1 << 62, (), generator=generator)
    turns = torch.randint(4, (len(x),), generator=generator).tolist()
    shown = craft(FGSM(), net, x, y, Linf(0.1), seed=0) if attacked else x
    classified, told = [], []
    with torch.no_grad():
        drawn = heads["reconstruction"](net[:3](shown)).sigmoid().double()  # type: ignore[index]  # batch norm: all at once
        for place, (clean, image, label) in enumerate(zip(x, shown, y.tolist(), strict=True)):
            adversarial, unharmed = (-math.log(net(of[None])[0].double().softmax(0)[label]) for of in (image, clean))
            classified.append(mix * adversarial + (1 - mix) * unharmed)
            group = next(number for number, members in enumerate(GROUPS) if label in members)
            said = heads["coarse"](net[:3](image[None]))[0].double().softmax(0)  # type: ignore[index]
            turn = torch.from_numpy(np.rot90(clean.numpy(), turns[place], (1, 2)).copy())
            way = heads["rotation"](net[:3](turn[None]))[0].double().softmax(0)  # type: ignore[index]
            pixels = [
                -(p * math.log(q) + (1 - p) * math.log(1 - q))
                for p, q in zip(clean.flatten().tolist(), drawn[place].flatten().tolist(), strict=True)
            ]
            told.append(-math.log(said[group]) - math.log(way[turns[place]]) + sum(pixels) / len(pixels))
    found = step(defence, state, 7)
    assert found["loss"] == pytest.approx(sum(classified) / 32 + weight * sum(told) / 32, rel=1e-4)
    assert 0 <= found["rotation_accuracy"] <= 1
    assert 0 <= found["coarse_accuracy"] <= 1


def test_without_weight_the_classifier_learns_as_by_itself_and_with_it_from_the_tasks() -> None:
    alone = Standard().init(setup())
    step(Standard(), alone)
    expected = weights(alone, "classifier")
    for weight in (0.0, 0.5):
        state = begun(MultiTask(layer=LAYER, tasks=("rotation", "reconstruction"), weight=weight))
        heads = weights(state, "heads")
        step(MultiTask(layer=LAYER, tasks=("rotation", "reconstruction"), weight=weight), state)
        same = [torch.allclose(a, b, atol=1e-6) for a, b in zip(weights(state, "classifier"), expected, strict=True)]
        moved = [not torch.equal(a, b) for a, b in zip(weights(state, "heads"), heads, strict=True)]
        assert all(same) == (weight == 0)
        assert any(moved) == (weight > 0)
        assert all(same[2 * 2 :])  # beyond the layer no task reaches


def test_each_head_learns_its_own_task() -> None:
    defence = MultiTask(layer=LAYER, tasks=("rotation", "coarse", "reconstruction"), groups=GROUPS, weight=1.0)
    state = begun(defence)
    first = step(defence, state)
    for seed in range(400):
        last = step(defence, state, seed)
    assert last["rotation_accuracy"] > 0.8
    assert last["coarse_accuracy"] == 1
    assert last["reconstruction_loss"] < first["reconstruction_loss"] - 0.1


def test_images_are_turned_as_numpy_turns_them() -> None:
    x = torch.rand(9, 3, 5, 5)
    turns = torch.tensor([0, 1, 2, 3, 3, 2, 1, 0, 1])
    found = turned(x, turns)
    for image, count, way in zip(x.numpy(), turns.tolist(), found.numpy(), strict=True):
        assert (np.rot90(image, count, (1, 2)) == way).all()


def test_heads_are_not_deployed() -> None:
    defence = MultiTask(layer=LAYER)
    state = begun(defence)
    assert defence.deploy(state) is state.learners["classifier"].network


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"tasks": ()}, "names one or more"),
        ({"tasks": ("rotation", "rotation")}, "each once"),
        ({"weight": -1.0}, "weight must be at least 0"),
        ({"weight": math.nan}, "weight must be at least 0"),
        ({"tasks": ("coarse",)}, '"coarse" and groups go together'),
        ({"groups": GROUPS}, '"coarse" and groups go together'),
        ({"attack": FGSM()}, "attack and threat go together"),
        ({"width": 0}, "width must be at least 1"),
        ({"mix": 0.0}, "above 0 and up to 1, not 0.0"),
        ({"mix": 1.5}, "above 0 and up to 1, not 1.5"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        MultiTask(layer=LAYER, **arguments)


def test_data_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="5x8 cannot be turned"):
        MultiTask(layer=LAYER).init(setup(shape=(1, 5, 8)))
    for groups in (((0, 1), (2, 3)), ((0, 1, 2, 3, 4), (4, 5, 6, 7, 8, 9)), (tuple(range(10)), (10,))):
        with pytest.raises(InputError, match="each class from 0 to 9 once"):
            MultiTask(layer=LAYER, tasks=("coarse",), groups=groups).init(setup())
    with pytest.raises(InputError, match="no layer 'nope'"):
        MultiTask(layer="nope").init(setup())

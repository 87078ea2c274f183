"""What is special to A3T: its two losses, who learns from which, and layers by name."""

import math

import pytest
import torch
from torch import Tensor, nn

from sparring import InputError
from sparring.attacks import FGSM, craft
from sparring.core.randomness import seeded
from sparring.core.threat import Linf
from sparring.core.trainable import Learner, Setup, State
from sparring.data import load
from sparring.defences import A3T
from sparring.models import MLP
from sparring.models.layers import named_layer, tapped
from sparring.training.optimisers import SGD
from sparring.training.schedules import Constant

LAYER = "3"  # the second hidden layer of the MLP: Flatten, Linear, LeakyReLU, Linear, LeakyReLU, Linear


def network() -> nn.Module:
    with seeded(0):
        return MLP(hidden=(24, 16), activation="leaky_relu").build((1, 8, 8), 10)


def setup(lr: float = 0.1) -> Setup:
    return Setup((1, 8, 8), 10, network, lambda net: Learner(net, SGD(lr=lr).build(net), Constant()))


def batch(size: int = 32) -> tuple[Tensor, Tensor]:
    return load("digits()").train.batch(torch.arange(size))


def step(defence: A3T, state: State, seed: int = 0) -> dict[str, float]:
    x, y = batch()
    generator = torch.Generator().manual_seed(seed)
    with seeded(seed):
        return {k: float(v) for k, v in defence.step(state, x, y, progress=0.0, generator=generator).items()}


def weights(state: State, name: str) -> list[Tensor]:
    return [weight.detach().clone() for weight in state.learners[name].network.parameters()]


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.5, 0.0), (1.0, 1.0), (0.5, 1.0), (0.3, 2.5)])
def test_the_losses_are_the_papers_formulas_read_slowly(alpha: float, beta: float) -> None:
    defence = A3T(threat=Linf(0.1), layer=LAYER, alpha=alpha, beta=beta, dropout=0.0)
    with seeded(0):
        state = defence.init(setup(lr=1e-12))
    net, judge = (state.learners[name].network for name in ("classifier", "discriminator"))
    x, y = batch()
    x_adv = craft(FGSM(), net, x, y, Linf(0.1), seed=0)
    found = step(defence, state)
    classified, fooling, told = [], [], []
    for image, moved, label in zip(x, x_adv, y.tolist(), strict=True):
        with torch.no_grad(), tapped(named_layer(net, LAYER)) as features:
            clean, adversarial = net(image[None])[0].softmax(0), net(moved[None])[0].softmax(0)
            of_clean, of_adversarial = (float(torch.sigmoid(judge(z))) for z in features)
        classified.append(-alpha * math.log(clean[label]) - (1 - alpha) * math.log(adversarial[label]))
        fooling.append(-math.log(of_adversarial))
        told += [-math.log(of_clean), -math.log(1 - of_adversarial)]
    expected = sum(classified) / len(x) + beta * sum(fooling) / len(x)
    assert found["loss"] == pytest.approx(expected, rel=1e-4)
    assert found["discriminator_loss"] == pytest.approx(sum(told) / len(told), rel=1e-4)


def test_each_learns_from_its_own_loss_alone() -> None:
    """Without beta the classifier's step is the same whoever discriminates, and no stray gradient reaches either."""
    after = {}
    for hidden in (8, 64):
        defence = A3T(threat=Linf(0.1), layer=LAYER, beta=0.0, hidden=hidden)
        with seeded(0):
            state = defence.init(setup())
        before = weights(state, "discriminator")
        step(defence, state)
        after[hidden] = weights(state, "classifier")
        assert any(not torch.equal(a, b) for a, b in zip(before, weights(state, "discriminator"), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(after[8], after[64], strict=True))


def test_the_layers_above_do_not_learn_to_fool_the_discriminator() -> None:
    steps = {}
    for beta in (0.0, 5.0):
        defence = A3T(threat=Linf(0.1), layer=LAYER, beta=beta)
        with seeded(0):
            state = defence.init(setup())
        step(defence, state)
        steps[beta] = weights(state, "classifier")
    plain, fooling = steps[0.0], steps[5.0]
    assert not torch.equal(plain[0], fooling[0])
    assert not torch.equal(plain[2], fooling[2])
    assert torch.equal(plain[-1], fooling[-1])
    assert torch.equal(plain[-2], fooling[-2])


def test_more_discriminator_steps_tell_apart_better() -> None:
    losses = []
    for count in (1, 20):
        defence = A3T(threat=Linf(0.2), layer=LAYER, beta=0.0, dropout=0.0, discriminator_steps=count)
        with seeded(0):
            state = defence.init(setup(lr=0.5))
        losses.append(step(defence, state)["discriminator_loss"])
    assert losses[1] < losses[0]


def test_a_layer_that_does_not_exist_lists_those_that_do() -> None:
    with pytest.raises(InputError, match=r"no layer 'hidden2'; it has 0, 1, 2, 3, 4, 5$"):
        A3T(threat=Linf(0.1), layer="hidden2").init(setup())


@pytest.mark.parametrize(
    "wrong",
    [{"alpha": 1.1}, {"alpha": -0.1}, {"beta": -1.0}, {"discriminator_steps": 0}, {"hidden": 0}, {"dropout": 1.0}],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InputError, match="a3t: "):
        A3T(threat=Linf(0.1), layer=LAYER, **wrong)

"""What is special to weight perturbation: how far it goes, that it comes back, and around what it may go."""

import pytest
import torch
from torch import nn

from sparring import InputError
from sparring.attacks import FGSM
from sparring.core.randomness import seeded
from sparring.core.threat import Linf
from sparring.core.trainable import Learner, Setup
from sparring.data import load
from sparring.defences import AWP, DEFENCES, TRADES, Adversarial
from sparring.defences.awp import perturbed
from sparring.models import MLP
from sparring.training.optimisers import SGD
from sparring.training.schedules import Constant


def network() -> nn.Module:
    with seeded(0):
        return MLP(hidden=(16,), norm="batch").build((1, 8, 8), 10)


def setup(lr: float) -> Setup:
    return Setup((1, 8, 8), 10, network, lambda net: Learner(net, SGD(lr=lr).build(net), Constant()))


@pytest.mark.parametrize("inner", [Adversarial(attack=FGSM(), threat=Linf(0.1)), TRADES(threat=Linf(0.1))])
def test_the_step_is_taken_where_the_loss_is_higher_and_the_weights_come_back(inner: Adversarial | TRADES) -> None:
    x, y = load("digits()").train.batch(torch.arange(64))
    plain, sharper = inner, AWP(defence=inner, gamma=0.02)
    losses = []
    for defence in (plain, sharper):
        state = defence.init(setup(lr=1e-12))
        net = defence.deploy(state).train()
        before = [weight.clone() for weight in net.parameters()]
        metrics = defence.step(state, x, y, progress=0.0, generator=torch.Generator().manual_seed(0))
        losses.append(float(metrics["loss"]))
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(before, net.parameters(), strict=True))
    assert losses[1] > losses[0]


def test_each_matrix_moves_by_gamma_of_its_own_norm_up_its_gradient() -> None:
    weights = [nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([[0.0, 10.0]]))]
    grads = (torch.tensor([[0.0, 2.0]]), torch.tensor([[1e-3, 0.0]]))
    with perturbed(weights, grads, 0.1):
        assert torch.allclose(weights[0], torch.tensor([[3.0, 4.5]]))
        assert torch.allclose(weights[1], torch.tensor([[1.0, 10.0]]))
    assert torch.allclose(weights[0], torch.tensor([[3.0, 4.0]]))


def test_running_statistics_move_by_the_step_alone() -> None:
    x, y = load("digits()").train.batch(torch.arange(64))
    means = []
    for defence in (
        Adversarial(attack=FGSM(), threat=Linf(0.1)),
        AWP(defence=Adversarial(attack=FGSM(), threat=Linf(0.1))),
    ):
        state = defence.init(setup(lr=1e-12))
        net = defence.deploy(state).train()
        defence.step(state, x, y, progress=0.0, generator=torch.Generator().manual_seed(0))
        norm = next(m for m in net.modules() if isinstance(m, nn.BatchNorm1d))
        means.append(norm.running_mean.clone())
        assert int(norm.num_batches_tracked) == 1
    assert torch.allclose(means[0], means[1], atol=0.05)


def test_before_the_warm_up_ends_it_is_the_plain_defence() -> None:
    x, y = load("digits()").train.batch(torch.arange(64))
    inner = Adversarial(attack=FGSM(), threat=Linf(0.1))
    nets = []
    for defence in (inner, AWP(defence=inner, warmup=0.5)):
        state = defence.init(setup(lr=0.1))
        defence.step(state, x, y, progress=0.4, generator=torch.Generator().manual_seed(0))
        nets.append(defence.deploy(state))
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters(), strict=True))


@pytest.mark.parametrize(
    "call",
    [
        "awp(defence=standard())",
        "awp(defence=trades(threat=linf(0.1)), gamma=0)",
        "awp(defence=trades(threat=linf(0.1)), warmup=2)",
    ],
)
def test_what_it_cannot_go_around_is_refused(call: str) -> None:
    with pytest.raises(InputError, match="awp: "):
        DEFENCES.parse(call)


def test_a_matrix_that_the_network_does_not_use_is_left_as_it_is() -> None:
    x, y = load("digits()").train.batch(torch.arange(16))
    defence = AWP(defence=Adversarial(attack=FGSM(), threat=Linf(0.1)))
    state = defence.init(setup(lr=0.1))
    net = state.learners["classifier"].network
    net.register_parameter("spare", nn.Parameter(torch.ones(3, 3)))
    assert defence.step(state, x, y, progress=0.0, generator=torch.Generator())["loss"].isfinite()
    assert torch.equal(net.get_parameter("spare"), torch.ones(3, 3))

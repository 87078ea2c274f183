"""What is special to mixup and manifold mixup: the proportion drawn, what is blended, and the labels' loss."""

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F

from sparring import InputError
from sparring.attacks import FGSM, craft
from sparring.core.randomness import seeded
from sparring.core.threat import Linf
from sparring.core.trainable import Learner, Setup
from sparring.data import load
from sparring.defences import DEFENCES, LabelSmoothing, ManifoldMixup, Mixup
from sparring.defences.base import draw_seed
from sparring.defences.manifold_mixup import blended
from sparring.defences.mixup import draw_mix
from sparring.defences.proportions import draw_shares
from sparring.models import MLP
from sparring.training.optimisers import SGD
from sparring.training.schedules import Constant


def network() -> nn.Module:
    with seeded(0):
        return MLP(hidden=(16, 12)).build((1, 8, 8), 10)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 2.0])
def test_proportions_are_beta_distributed_and_orders_are_permutations(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [draw_mix(5, alpha, generator) for _ in range(2000)]
    assert stats.kstest([float(share) for share, _ in drawn], stats.beta(alpha, alpha).cdf).pvalue > 0.01
    assert all(sorted(order.tolist()) == [0, 1, 2, 3, 4] for _, order in drawn)


def test_the_mixup_loss_is_the_papers_formula_read_slowly() -> None:
    """Cross-entropy against the blended one-hot labels, example by example."""
    x, y = load("digits()").train.batch(torch.arange(8))
    net = network()
    ours, _ = Mixup().loss(net, x, y, progress=0.0, generator=torch.Generator().manual_seed(3))
    share, order = draw_mix(8, 1.0, torch.Generator().manual_seed(3))
    slow = []
    for i, j in enumerate(order.tolist()):
        image = share * x[i] + (1 - share) * x[j]
        label = share * F.one_hot(y[i], 10) + (1 - share) * F.one_hot(y[j], 10)
        slow.append(-(label * net(image[None])[0].log_softmax(0)).sum())
    assert torch.allclose(ours, torch.stack(slow).mean(), rtol=1e-5)


@pytest.mark.parametrize("layer", ["1", "2", "4"])
def test_manifold_mixup_blends_what_the_layer_gives_out(layer: str) -> None:
    x, y = load("digits()").train.batch(torch.arange(8))
    net = network()
    ours, _ = ManifoldMixup(layers=(layer,)).loss(net, x, y, progress=0.0, generator=torch.Generator().manual_seed(3))
    share, order = draw_mix(8, 2.0, torch.Generator().manual_seed(3))
    below, above = net[: int(layer) + 1], net[int(layer) + 1 :]
    features = below(x)
    logits = above(share * features + (1 - share) * features[order])
    expected = share * F.cross_entropy(logits, y) + (1 - share) * F.cross_entropy(logits, y[order])
    assert torch.allclose(ours, expected, rtol=1e-5)
    assert not net[int(layer)]._forward_hooks


def test_one_layer_is_drawn_for_each_batch_and_the_others_are_left_alone() -> None:
    x, y = load("digits()").train.batch(torch.arange(8))
    net, drawn = network(), []
    for seed in range(12):
        generators = [torch.Generator().manual_seed(seed) for _ in range(3)]
        both, *alone = (
            ManifoldMixup(layers=layers).loss(net, x, y, progress=0.0, generator=generator)[0]
            for layers, generator in zip((("input", "3"), ("input",), ("3",)), generators, strict=True)
        )
        drawn.append([bool(torch.allclose(both, one, rtol=1e-6)) for one in alone])
    assert sorted(set(map(tuple, drawn))) == [(False, True), (True, False)]


def test_the_input_as_the_only_layer_is_mixup() -> None:
    x, y = load("digits()").train.batch(torch.arange(8))
    net = network()
    one, _ = ManifoldMixup(layers=("input",)).loss(net, x, y, progress=0.0, generator=torch.Generator().manual_seed(3))
    other, _ = Mixup(alpha=2.0).loss(net, x, y, progress=0.0, generator=torch.Generator().manual_seed(3))
    assert torch.equal(one, other)


def test_smoothed_labels_are_spread_over_all_classes() -> None:
    x, y = load("digits()").train.batch(torch.arange(8))
    net = network()
    ours, _ = LabelSmoothing(amount=0.3).loss(net, x, y, progress=0.0, generator=torch.Generator())
    target = 0.7 * F.one_hot(y, 10) + 0.03
    assert torch.allclose(ours, -(target * net(x).log_softmax(1)).sum(1).mean(), rtol=1e-5)


def test_a_layer_that_does_not_exist_is_an_error_before_training() -> None:
    setup = Setup((1, 8, 8), 10, network, lambda net: Learner(net, SGD(lr=0.1).build(net), Constant()))
    with pytest.raises(InputError, match="no layer 'conv9'; it has 0, 1"):
        ManifoldMixup(layers=("input", "conv9")).init(setup)


@pytest.mark.parametrize(
    "call", ["mixup(alpha=0)", "mixup(alpha=inf)", "manifold_mixup(layers=())", "label_smoothing(amount=1)"]
)
def test_settings_that_make_no_sense_are_refused(call: str) -> None:
    with pytest.raises(InputError):
        DEFENCES.parse(call)


def test_with_an_attack_manifold_mixup_mixes_what_the_attack_makes_of_the_batch() -> None:
    x, y = load("digits()").train.batch(torch.arange(8))
    with seeded(0):
        net = MLP(hidden=(16, 12)).build((1, 8, 8), 10)
    assert isinstance(net, nn.Sequential)
    defence = ManifoldMixup(layers=("1",), attack=FGSM(), threat=Linf(0.2))
    ours, _ = defence.loss(net, x, y, progress=0.0, generator=torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    x_adv = craft(FGSM(), net, x, y, Linf(0.2), seed=draw_seed(generator))
    share, order = draw_mix(8, 2.0, generator)
    features = net[:2](x_adv)
    logits = net[2:](share * features + (1 - share) * features[order])
    expected = share * F.cross_entropy(logits, y) + (1 - share) * F.cross_entropy(logits, y[order])
    assert not torch.allclose(x_adv, x)
    assert torch.allclose(ours, expected, rtol=1e-5)


def test_every_weight_is_drawn_and_evenly() -> None:
    drawn = draw_shares((3000,), 1.0, torch.Generator().manual_seed(0), (0.1, 0.4, 0.9))
    values, counts = drawn.unique(return_counts=True)
    assert torch.allclose(values, torch.tensor([0.1, 0.4, 0.9]))
    assert int(counts.min()) > 900


def test_a_layer_that_is_used_again_blends_once() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(self.layer(x))

    x, order = torch.eye(3), torch.tensor([1, 2, 0])
    net = Twice()
    for _ in range(2):
        with blended(net.layer, torch.tensor(0.7), order):
            assert torch.allclose(net(x), 0.7 * x + 0.3 * x[order])
        assert torch.equal(net(x), x)

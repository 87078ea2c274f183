"""Distances between distributions: closed forms, an independent computation, and the edges."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.generative import GAN
from sparring.generative.quality import drawn, features, frechet_distance, precision_and_recall


def some(count: int = 400, size: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_frechet_distance_of_shifted_and_stretched_points() -> None:
    """The same points shifted: the squared shift. Stretched by 3: the mean moves, and (3 - 1)^2 times the variance."""
    x = some()
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, x + 2) == pytest.approx(6 * 4, rel=1e-6)
    expected = 4 * (float(x.mean(0).square().sum()) + float(torch.cov(x.T).trace()))
    assert frechet_distance(x, 3 * x) == pytest.approx(expected, rel=1e-6)


def test_the_frechet_distance_is_that_of_the_matrix_root() -> None:
    mix = some(6, 6, seed=2)
    x, y = some(), some(300, seed=1) @ mix + 1
    c = [np.cov(points.numpy().T) for points in (x, y)]
    root = sqrtm(c[0] @ c[1]).real
    expected = float((x.mean(0) - y.mean(0)).square().sum()) + np.trace(c[0] + c[1] - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-6)


def test_features_that_never_change_do_no_harm() -> None:
    x = torch.cat([some(), torch.zeros(400, 3, dtype=torch.float64)], 1)
    assert frechet_distance(x, x + 1) == pytest.approx(9, rel=1e-6)
    assert frechet_distance(some(50, 1), some(50, 1) + 1) == pytest.approx(1, rel=1e-6)


def test_precision_and_recall_of_all_of_half_and_of_nothing() -> None:
    left, right = some(), some(seed=1) + 50
    both = torch.cat([left, right])
    assert [e.value for e in precision_and_recall(left, left)] == [1, 1]
    assert [e.value for e in precision_and_recall(left, right)] == [0, 0]
    precision, recall = precision_and_recall(both, left)  # a model that knows one of two modes
    assert precision.value == 1
    assert recall.value == 0.5
    assert recall.n == 800
    assert recall.low < 0.5 < recall.high
    spread = precision_and_recall(left, both)  # a model that also draws what is not real
    assert (spread[0].value, spread[1].value) == (0.5, 1)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(InputError, match="at least two"):
        frechet_distance(some(1), some())
    with pytest.raises(InputError, match="more than 3"):
        precision_and_recall(some(3), some())


def test_features_are_those_of_the_layer_and_draws_those_of_the_seed() -> None:
    classifier = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 5))
    x = torch.rand(1100, 1, 8, 8)
    found = features(classifier, "0", x)
    assert found.shape == (1100, 72)
    assert torch.allclose(found.float(), classifier[0](x).flatten(1).detach(), atol=1e-6)
    network = GAN(latent=4, width=8, conditional=True).build((1, 8, 8), 3).eval()
    y = torch.arange(600) % 3
    assert torch.equal(drawn(network, y), drawn(network, y))
    assert not torch.equal(drawn(network, y), drawn(network, y, seed=1))
    assert drawn(network, y).shape == (600, 1, 8, 8)


def test_a_ball_reaches_to_the_third_neighbour() -> None:
    """Real points at 0, 1, 3, 7: balls of 7, 6, 4 and 7 around them, so they reach from -7 to 14."""
    real = torch.tensor([0.0, 1, 3, 7], dtype=torch.float64)[:, None]
    made = torch.tensor([-7.1, -6.9, 13.9, 14.1], dtype=torch.float64)[:, None]
    assert precision_and_recall(real, made)[0].value == 0.5


def test_looking_at_features_moves_nothing_in_a_network_that_trains() -> None:
    net = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 5)).train()
    x = torch.rand(20, 1, 8, 8)
    wanted = features(net.eval(), "1", x)
    net.train()
    before = [buffer.clone() for buffer in net.buffers()]
    assert torch.equal(features(net, "1", x), wanted)
    assert all(map(torch.equal, net.buffers(), before))
    assert net.training


def test_features_that_cannot_be_compared_are_refused() -> None:
    for measure in (frechet_distance, precision_and_recall):
        with pytest.raises(InputError, match="of 3 and of 4 values"):
            measure(torch.zeros(9, 3), torch.zeros(9, 4))
        with pytest.raises(InputError, match="no numbers"):
            measure(torch.zeros(9, 3), torch.full((9, 3), torch.nan))

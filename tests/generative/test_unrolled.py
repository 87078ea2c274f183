"""A search's gradient: what plain autograd makes of the same steps, and what small changes of the image do."""

import pytest
import torch
from torch import Tensor, nn

from sparring.core.adam import begun, stepped
from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.generative import GAN, GenerativeNetwork
from sparring.generative.recovery import Recovery, recover
from sparring.generative.unrolled import unrolled

SHAPE = (1, 8, 8)


class Linear(nn.Module):
    """An encoder of one layer, which takes no shares of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 6)

    def forward(self, x: Tensor, _shares: Tensor) -> Tensor:
        codes: Tensor = self.layer(x.flatten(1))
        return codes


def network(*, encoder: bool = True) -> GenerativeNetwork:
    with seeded(0):
        decoder = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 64), nn.Unflatten(1, SHAPE))
        for parameter in decoder.parameters():
            parameter.data *= 3
        return GenerativeNetwork(GAN(latent=6), SHAPE, 10, decoder, Linear() if encoder else None).eval()


def images(count: int = 5) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def plainly(net: GenerativeNetwork, x: Tensor, steps: int, lr: float) -> Tensor:
    """Return what Adam comes to, each step kept on autograd's tape; of codes that never leave the range."""
    z, mean, square = net.encode(x), 0, 0
    scale = x.flatten(1).square().mean(1)
    for step in range(steps):
        distance = (net.decode(z) - x).flatten(1).square().mean(1) / scale
        (gradient,) = torch.autograd.grad(distance.sum(), z, create_graph=True)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient.square()
        spread = (square / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
        z = z - lr * (1 - step / steps) * mean / (1 - 0.9 ** (step + 1)) / spread
    return z


def test_adam_goes_where_torchs_does_to_the_bit() -> None:
    noise = torch.Generator().manual_seed(0)
    z = torch.randn(7, 6, generator=noise)
    at, theirs = begun(z), z.clone()
    optimiser = torch.optim.Adam([theirs])
    for step in range(30):
        gradient, rate = torch.randn(7, 6, generator=noise), 0.1 / (1 + step)
        theirs.grad, optimiser.param_groups[0]["lr"] = gradient, rate
        optimiser.step()
        at = stepped(at, gradient, rate, step)
    assert torch.equal(at.z, theirs)


@pytest.mark.parametrize("recovery", [Recovery(steps=0), Recovery(steps=9), Recovery(steps=9, lr=2.0)])
@pytest.mark.parametrize("encoder", [True, False])
def test_its_codes_are_those_that_recovery_finds(recovery: Recovery, encoder: bool) -> None:
    hard = Recovery(steps=recovery.steps, lr=recovery.lr, clipping="hard")
    net, x = network(encoder=encoder), images()
    nobody = torch.zeros(5).long()
    assert torch.equal(unrolled(net, x, hard), recover(net, x, nobody, hard)[0])
    start = 4 * torch.randn(5, 6, generator=torch.Generator().manual_seed(2))
    assert torch.equal(unrolled(net, x, hard, start=start), recover(net, x, nobody, hard, start=start)[0])


def test_its_gradient_is_that_of_the_steps_written_plainly() -> None:
    net, weights = network(), torch.randn(5, 6, generator=torch.Generator().manual_seed(3))
    found = []
    for way in (
        lambda x: unrolled(net, x, Recovery(steps=8, lr=0.02, clipping="hard")),
        lambda x: plainly(net, x, 8, 0.02),
    ):
        x = images().requires_grad_(True)
        codes = way(x)
        found.append((codes, *torch.autograd.grad((codes * weights).sum(), x)))
    (ours, by_ours), (theirs, by_theirs) = found
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert torch.allclose(by_ours, by_theirs, rtol=1e-3, atol=1e-5)
    assert float(by_ours.abs().max()) > 0.1


def test_small_changes_of_the_image_do_what_the_gradient_says() -> None:
    """Also where codes are clipped on the way, and where a start is given."""
    net, noise = network(), torch.Generator().manual_seed(4)
    direction, start = torch.randn(5, *SHAPE, generator=noise), 3 * torch.randn(5, 6, generator=noise)
    for recovery, begin in (
        (Recovery(steps=6, clipping="hard"), None),
        (Recovery(steps=6, lr=0.5, clipping="hard"), start),
    ):
        x = images().requires_grad_(True)
        drawn = net.decode(unrolled(net, x, recovery, start=begin))
        (gradient,) = torch.autograd.grad(drawn.square().sum(), x)
        said = (gradient * direction).flatten(1).sum(1)
        ends = [
            net.decode(unrolled(net, images() + move * direction, recovery, start=begin)).square().flatten(1).sum(1)
            for move in (1e-3, -1e-3)
        ]
        done = (ends[0] - ends[1]).detach() / 2e-3
        assert torch.allclose(said, done, rtol=0.05, atol=0.05 * float(done.abs().max()))


def test_where_the_first_codes_stay_the_best_the_gradient_is_the_encoders() -> None:
    net = network()
    x = net.decode(0.5 * torch.randn(5, 6, generator=torch.Generator().manual_seed(5))).detach()
    found = []
    for steps in (0, 3):
        leaf = x.clone().requires_grad_(True)
        codes = unrolled(net, leaf, Recovery(steps=steps, lr=1e4, clipping="hard"))
        found.append((codes, *torch.autograd.grad(codes.sum(), leaf)))
    stayed = (found[0][0] == found[1][0]).all(1)
    assert bool(stayed.any())
    assert torch.equal(found[0][1][stayed], found[1][1][stayed])


def test_nothing_is_left_behind_and_no_image_is_no_code() -> None:
    net = network().train()
    x = images().requires_grad_(True)
    unrolled(net, x, Recovery(steps=3, clipping="hard")).sum().backward()
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert net.training
    assert unrolled(net, images(0), Recovery(steps=3)).shape == (0, 6)
    with pytest.raises(InputError, match="the model draws images"):
        unrolled(net, torch.rand(2, 1, 9, 9), Recovery(steps=3))

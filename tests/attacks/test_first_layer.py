"""The quick gradient of a convolution over one channel is the gradient, and it is used where it should be only."""

import pytest
import torch
from torch import Tensor, nn

from sparring.attacks.first_layer import _Convolution, quick_input_gradients


def gradient(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_(True)
    output = net(x)
    weights = torch.linspace(-1, 1, output.numel(), dtype=x.dtype).view(output.shape)
    return output.detach(), torch.autograd.grad((output * weights).sum(), x)[0]


@pytest.mark.parametrize("settings", [{}, {"stride": 2, "padding": 1}, {"dilation": (2, 1), "padding": (0, 2)}])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_gradient_of_autograd(
    settings: dict, bias: bool, memory_format: torch.memory_format, dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    net = nn.Conv2d(1, 6, (4, 3), bias=bias, dtype=dtype, **settings).requires_grad_(False)
    x = torch.rand(3, 1, 9, 11, dtype=dtype).contiguous(memory_format=memory_format)
    output, grad = gradient(net, x)
    with quick_input_gradients(net):
        quick_output, quick = gradient(net, x)
    assert torch.equal(quick_output, output)
    assert quick.dtype == dtype
    assert torch.allclose(quick, grad, rtol=1e-4, atol=1e-5)
    assert not net._forward_hooks


class Stubborn(nn.Conv2d):
    """Not a plain convolution: a subclass may compute what it likes."""


@pytest.mark.parametrize(
    ("net", "used"),
    [
        (nn.Conv2d(1, 2, 3), True),
        (nn.Conv2d(3, 2, 3), False),
        (nn.Conv2d(1, 2, 3, padding="same"), False),
        (nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect"), False),
        (Stubborn(1, 2, 3), False),
    ],
)
def test_it_is_used_for_plain_convolutions_over_one_channel_only(
    net: nn.Conv2d, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    honest = _Convolution.apply
    monkeypatch.setattr(_Convolution, "apply", lambda *given: calls.append(1) or honest(*given))
    x = torch.rand(2, net.in_channels, 5, 5)
    with quick_input_gradients(net):
        gradient(net.requires_grad_(False), x)
        assert bool(calls) == used
        with torch.no_grad():
            net(x)
        with torch.autocast("cpu", torch.bfloat16):
            net(x.requires_grad_(True))
        gradient(net.requires_grad_(True), x)  # whoever wants the weights' gradient gets it from torch
    assert len(calls) == used

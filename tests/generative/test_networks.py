"""The networks of generative models compute what torch's own layers do."""

import pytest
import torch
from torch import nn

from sparring.generative.networks import PatchSum


@pytest.mark.parametrize(("channels", "outputs", "sides"), [(5, 1, (7, 7)), (3, 2, (4, 9)), (1, 1, (1, 1))])
@pytest.mark.parametrize("bias", [True, False])
def test_a_sum_of_patches_is_a_transposed_convolution(
    channels: int, outputs: int, sides: tuple[int, int], *, bias: bool
) -> None:
    ours = PatchSum(channels, outputs, 4, 2, 1, bias=bias).double()
    theirs = nn.ConvTranspose2d(channels, outputs, 4, 2, 1, bias=bias).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(6, channels, *sides, dtype=torch.float64)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    drawn, expected = ours(one), theirs(other)
    torch.testing.assert_close(drawn, expected)
    slope = torch.randn_like(expected)
    drawn.backward(slope)
    expected.backward(slope)
    torch.testing.assert_close(one.grad, other.grad)
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, its.grad)

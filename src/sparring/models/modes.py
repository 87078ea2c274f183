"""Networks held for a while as they are not, and put back."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def held(network: nn.Module) -> Iterator[None]:
    """Take no gradients of the network's parameters meanwhile; each is as it was afterwards."""
    wanted = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    for parameter, _ in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


@contextmanager
def in_use(network: nn.Module) -> Iterator[None]:
    """Let every module work as in use, not as in training, meanwhile; each is as it was afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

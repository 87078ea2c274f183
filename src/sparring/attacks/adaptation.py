"""What an attacker who knows the defence does: BPDA where gradients break, EOT where the model is random.

A module that cannot simply be differentiated says so: `adaptive = frozenset({"bpda"})`, `{"eot"}` or both, as a class
attribute. Under "bpda" its method `approximation`, a differentiable function close to `forward`, stands in for it on
the way back; without one the identity does (Athalye, Carlini & Wagner 2018, arXiv:1802.00420, sections 4.1 and 4.2).
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.models.adaptive import declared

EOT_DRAWS = 20  # as AutoAttack's version for randomised defences draws


class BPDA(nn.Module):
    """Another module's outputs with the gradients of `backward`: see `bpda`."""

    def __init__(self, module: nn.Module, backward: nn.Module) -> None:
        super().__init__()
        self.module, self.approximated_by = module, backward

    def forward(self, x: Tensor) -> Tensor:
        """Return what the module returns."""
        with torch.no_grad():
            output = self.module(x)
        return _graft(output, self.approximated_by(x)) if torch.is_grad_enabled() else output


def bpda(module: nn.Module, backward: nn.Module | None = None) -> nn.Module:
    """Return `module` with the gradient of `backward` (default: the identity), for a mask that has none of its own.

    `backward` takes the same images and must return the shape that `module` returns; InputError if it does not.
    """
    return BPDA(module, nn.Identity() if backward is None else backward)


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Let every module that declares "bpda" pass gradients on by its approximation; take the hooks away after."""
    with ExitStack() as hooks:
        for module in model.modules():
            if "bpda" in declared(module):
                hooks.callback(module.register_forward_hook(_substitute).remove)
        yield


def _substitute(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    if not torch.is_grad_enabled():
        return output
    approximation: Callable[[Tensor], Tensor] = getattr(module, "approximation", nn.Identity())
    return _graft(output, approximation(inputs[0]))


def _graft(output: Tensor, approximation: Tensor) -> Tensor:
    """Return the values of `output` with the gradient of `approximation`."""
    if output.shape != approximation.shape:
        raise InputError(
            f"bpda: a module returns {tuple(output.shape)} and what approximates it {tuple(approximation.shape)}; "
            "name a differentiable approximation of the same shape"
        )
    return approximation + (output - approximation).detach()

"""The freeze that leaves no trace: a model held still while it is under attack."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from sparring.attacks.adaptation import differentiable
from sparring.attacks.first_layer import quick_input_gradients

Statistics = Literal["eval", "train"]  # whose mean and variance batch norm uses: the running ones, or the batch's


@contextmanager
def frozen(model: nn.Module, statistics: Statistics = "eval", *, adaptive: bool = True) -> Iterator[None]:
    """Hold a model still: parameters without gradient, modules in eval mode, running statistics unmoved.

    With `statistics="train"`, normalisation layers use the batch's mean and variance meanwhile; dropout stays off.
    Modules that declare "bpda" pass gradients on by their approximation, unless the attack is not `adaptive`.

    Every parameter's `requires_grad`, every module's mode and every counter is as it was afterwards.
    """
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        normalising = _batch_statistics(model) if statistics == "train" else nullcontext()
        passing = differentiable(model) if adaptive else nullcontext()
        with normalising, quick_input_gradients(model), passing:
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


@contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Let normalisation layers, and nothing else, work as in training; put their running statistics back after.

    Those that do not in training either, such as a mask's, do not here.
    """
    model.train()
    normalising = [norm for norm in _norms(model) if norm.training]
    model.eval()
    for norm in normalising:
        norm.train()
    with still_statistics(model):
        yield


@contextmanager
def still_statistics(model: nn.Module) -> Iterator[None]:
    """Put the running statistics of normalisation layers back to what they were, whatever passes go through."""
    buffers = [buffer for norm in _norms(model) for buffer in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)


def _norms(model: nn.Module) -> list[_NormBase]:
    return [module for module in model.modules() if isinstance(module, _NormBase)]

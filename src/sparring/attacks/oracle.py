"""The oracle: all that an attack may ask of a model, counted for each example, and the freeze that leaves no trace."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from sparring.core.errors import InputError
from sparring.core.randomness import uniform

Statistics = Literal["eval", "train"]  # whose mean and variance batch norm uses: the running ones, or the batch's


class Oracle:
    """Answers for a batch of examples, of which fewer and fewer may be left.

    It knows which example each row is: `forwards` and `backwards` (B,) count the passes spent on each example of the
    whole batch, and the noise of an example depends on (seed, example, draw) and on nothing else.
    """

    def __init__(self, model: nn.Module, examples: Tensor, *, seed: int | Tensor = 0) -> None:
        self._model, self._seed, self._draw = model, seed, 0
        self._examples = examples
        self._rows = torch.arange(len(examples), device=examples.device)
        self._spent = torch.zeros(2, len(examples), dtype=torch.int64, device=examples.device)
        self._pending = [0, 0]  # forwards and backwards since rows last left, the same for all that are active

    @property
    def forwards(self) -> Tensor:
        """Forward passes spent on each example of the whole batch, (B,)."""
        self._settle()
        return self._spent[0]

    @property
    def backwards(self) -> Tensor:
        """Backward passes spent on each example of the whole batch, (B,)."""
        self._settle()
        return self._spent[1]

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (B, K) of the active examples: one forward pass each."""
        with torch.no_grad():
            return self._forward(x)

    def value_and_gradient(self, x: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss (B,) of the logits, its gradient in `x`, and the logits: one forward and backward each.

        Raises InputError when the model's output does not depend on its input in a way that torch can follow.
        """
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self._forward(x)
            value = loss(logits)
            grad = _gradient(value.sum(), x)
        self._pending[1] += 1
        return value.detach(), grad, logits.detach()

    def jacobian(self, x: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) and the gradients (B, len, C, H, W) of the logits named by `classes` (B, len)."""
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self._forward(x)
            columns = logits.gather(1, classes).sum(0)
            last = classes.shape[1] - 1
            grads = [_gradient(column, x, keep_graph=place < last) for place, column in enumerate(columns)]
        self._pending[1] += classes.shape[1]
        return logits.detach(), torch.stack(grads, dim=1)

    def uniform(self, *shape: int) -> Tensor:
        """Return noise in [0, 1) of shape (B, *shape), another draw at each call."""
        noise = uniform(self._seed, self._examples[self._rows], self._draw, prod(shape))
        self._draw += 1
        return noise.view(-1, *shape)

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the active ones only; `rows` is a mask (B,)."""
        self._settle()
        self._rows = self._rows[rows]

    def _settle(self) -> None:
        for kind, count in enumerate(self._pending):
            self._spent[kind, self._rows] += count
        self._pending = [0, 0]

    def _forward(self, x: Tensor) -> Tensor:
        self._pending[0] += 1
        logits = self._model(x)
        assert isinstance(logits, Tensor)
        return logits.float()


def _gradient(value: Tensor, x: Tensor, *, keep_graph: bool = False) -> Tensor:
    found = None
    if value.requires_grad:
        (found,) = torch.autograd.grad(value, x, retain_graph=keep_graph, allow_unused=True)
    if found is None:
        raise InputError(
            "the model gives no gradient with respect to its input (a detach(), a no_grad() or NumPy inside?); "
            "a gradient attack says nothing about it"
        )
    return found


@contextmanager
def frozen(model: nn.Module, statistics: Statistics = "eval") -> Iterator[None]:
    """Hold a model still: parameters without gradient, modules in eval mode, running statistics unmoved.

    With `statistics="train"`, normalisation layers use the batch's mean and variance meanwhile; dropout stays off.

    Every parameter's `requires_grad`, every module's mode and every counter is as it was afterwards.
    """
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        with _batch_statistics(model) if statistics == "train" else nullcontext():
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


@contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Let normalisation layers, and nothing else, work as in training; put their running statistics back after."""
    norms = [module for module in model.modules() if isinstance(module, _NormBase)]
    buffers = [buffer for norm in norms for buffer in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    for norm in norms:
        norm.train()
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)

"""The oracle: all that an attack may ask of a model, counted for each example, and the freeze that leaves no trace."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from sparring.attacks.adaptation import differentiable
from sparring.attacks.crafting import Crafting
from sparring.attacks.first_layer import quick_input_gradients
from sparring.core.errors import InputError
from sparring.core.randomness import uniform

Statistics = Literal["eval", "train"]  # whose mean and variance batch norm uses: the running ones, or the batch's


class OutOfPasses(Exception):  # noqa: N818  # no error: the budget's end, which `run` expects
    """No forward pass is left for the examples under attack."""


class Ledger:
    """Passes spent on each of `size` examples, (2, size): forwards and backwards; and the best image found for each.

    The images are kept only under a budget, for an attack that is cut short can hand back nothing itself.
    """

    def __init__(self, size: int, device: torch.device, max_forwards: int | None) -> None:
        self.spent = torch.zeros(2, size, dtype=torch.int64, device=device)
        self.max_forwards = max_forwards
        self.found: dict[int, Tensor] = {}
        self.oracles: list[Oracle] = []  # all that charge it: the first, and its branches

    def settle(self) -> Tensor:
        """Return `spent` with all that is still pending written in."""
        for oracle in self.oracles:
            oracle._settle()
        return self.spent


class Oracle:
    """Answers for a batch of examples, of which fewer and fewer may be left.

    It knows which example each row is: `forwards` and `backwards` (B,) count the passes spent on each example of the
    whole batch, and the noise of an example depends on (seed, example, draw) and on nothing else. Every question is
    about the active rows, in their order. Raises OutOfPasses when the budget of `crafting` would be overdrawn.
    """

    def __init__(
        self,
        model: nn.Module,
        examples: Tensor,
        *,
        seed: int | Tensor = 0,
        crafting: Crafting | None = None,
        start: Tensor | None = None,
        at_once: int | None = None,
    ) -> None:
        self._model, self._seed, self._examples = model, seed, examples
        self._at_once = at_once or max(len(examples), 1)
        self._crafting = crafting or Crafting()
        self._ledger = Ledger(len(examples), examples.device, self._crafting.max_forwards)
        self._rows = torch.arange(len(examples), device=examples.device)
        self._idle = torch.zeros(len(examples), dtype=torch.bool, device=examples.device)
        self._pending = [0, 0]  # forwards and backwards since rows last left, the same for all that are active
        self._start, self._stream, self._draw, self._branches = start, 0, 0, 0
        self.draws = self._crafting.draws or 1
        self._ledger.oracles.append(self)

    @property
    def forwards(self) -> Tensor:
        """Forward passes spent on each example of the whole batch, (B,)."""
        return self._ledger.settle()[0]

    @property
    def backwards(self) -> Tensor:
        """Backward passes spent on each example of the whole batch, (B,)."""
        return self._ledger.settle()[1]

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits (B, K) of the active examples: one forward pass each, of a random model one a draw.

        `x` may hold n images of each example, one block (B, C, H, W) after another: logits (n * B, K), n passes each.
        """
        with torch.no_grad():
            return pooled(self._forward(x))

    def value_and_gradient(self, x: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss (B,) of the logits, its gradient in `x`, and the logits: one forward and backward each.

        Of a random model, the mean loss over draws and its gradient (not the loss of mean logits).
        Raises InputError when the model's output does not depend on its input in a way that torch can follow.
        """
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self._forward(x)
            value = loss(logits[0]) if self.draws == 1 else torch.stack([loss(draw) for draw in logits]).mean(0)
            grad = _gradient(value.sum(), x)
        self._pending[1] += self.draws
        return value.detach(), grad, pooled(logits.detach())

    def jacobian(self, x: Tensor, outputs: Tensor | Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) and the gradients (B, n, C, H, W) of `outputs`: one forward and n backwards each.

        `outputs`: classes (B, n), whose logits are meant, or a function of the logits to n values each, (B, n).
        """
        x = x.detach().requires_grad_(True)
        with torch.enable_grad():
            logits = self._forward(x)
            mean = logits[0] if self.draws == 1 else logits.mean(0)
            columns = (mean.gather(1, outputs) if isinstance(outputs, Tensor) else outputs(mean)).sum(0)
            last = len(columns) - 1
            grads = [_gradient(column, x, keep_graph=place < last) for place, column in enumerate(columns)]
        self._pending[1] += len(columns) * self.draws
        return mean.detach(), torch.stack(grads, dim=1)

    def uniform(self, *shape: int) -> Tensor:
        """Return noise in [0, 1) of shape (B, *shape), another draw at each call."""
        noise = uniform(self._seed, self._examples[self._rows], (self._stream << 32) + self._draw, prod(shape))
        self._draw += 1
        return noise.view(-1, *shape)

    def warm_start(self) -> Tensor | None:
        """Return the images (B, C, H, W) that the attack was told to begin from; None if none, or asked before."""
        start, self._start = self._start, None
        return None if start is None else start[self._rows]

    def confirm(self, fooled: Tensor, x_adv: Tensor, judge: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Return `fooled` (B,) less what float32 does not bear out; nothing to ask where passes are in float32.

        `judge` says of logits (n, K) and the flags of their rows which are fooled. Costs those rows a forward pass.
        """
        if self._crafting.precision == "32-true" or not bool(fooled.any()):
            return fooled
        self._settle()
        self._check_budget(self.draws)
        self._ledger.spent[0, self._rows[fooled]] += self.draws
        with torch.no_grad(), torch.autocast(x_adv.device.type, enabled=False):
            logits = pooled(self._drawn(x_adv[fooled]))
        return fooled.masked_scatter(fooled, judge(logits, fooled))

    def note(self, rows: Tensor, x_adv: Tensor) -> None:
        """Keep the images of these rows of the active ones (flags), should the budget end the attack."""
        if self._ledger.max_forwards is not None and bool(rows.any()):
            for row, image in zip(self._rows[rows].tolist(), x_adv[rows], strict=True):
                self._ledger.found[row] = image.clone()

    def salvage(self, x: Tensor) -> Tensor:
        """Return what was noted for each example of the whole batch, `x` where nothing was."""
        return torch.stack([self._ledger.found.get(row, image) for row, image in enumerate(x)])

    def finish(self, rows: Tensor) -> None:
        """Charge these rows of the active ones (flags) no more, though they are still in the batch."""
        self._settle()
        self._idle = self._idle | rows

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows of the active ones only; `rows` are flags (B,)."""
        self._settle()
        self._rows, self._idle = self._rows[rows], self._idle[rows]

    def branch(self, draws: int | None = None) -> "Oracle":
        """Return an oracle for the active rows, for an attack within an attack: one ledger, but rows and noise apart.

        Rows that leave the branch stay in this oracle. A warm start goes to the first branch.
        """
        self._settle()
        branch = copy.copy(self)
        self._branches += 1
        branch._stream, branch._draw, branch._branches = (self._stream << 10) + self._branches, 0, 0
        branch._pending, self._start = [0, 0], None
        branch.draws = draws or self.draws
        self._ledger.oracles.append(branch)
        return branch

    def portions(self) -> Iterator[tuple[Tensor, "Oracle"]]:
        """Yield the places of the active rows (n,), as many as are best asked about at once, with an oracle for each.

        One ledger and one noise, as if all were together. Rows that leave a portion's oracle stay in this one.
        """
        self._settle()
        for places in torch.split(torch.arange(len(self._rows), device=self._rows.device), self._at_once):
            part = copy.copy(self)
            part._rows, part._idle, part._pending = self._rows[places], self._idle[places], [0, 0]
            self._ledger.oracles.append(part)
            yield places, part

    def on(self, model: nn.Module, draws: int) -> "Oracle":
        """Return an oracle for the active rows on another model: the noise is as here, and no pass is charged here.

        A warm start goes to it.
        """
        crafting = replace(self._crafting, draws=draws, max_forwards=None)
        examples, start = self._examples[self._rows], self.warm_start()
        other = Oracle(model, examples, seed=self._seed, crafting=crafting, start=start, at_once=self._at_once)
        other._stream = self._stream
        return other

    def _settle(self) -> None:
        for kind, count in enumerate(self._pending):
            self._ledger.spent[kind, self._rows[~self._idle]] += count
        self._pending = [0, 0]

    def _check_budget(self, cost: int) -> None:
        most = self._ledger.max_forwards
        if most is not None and len(self._rows) and int(self._ledger.settle()[0, self._rows].max()) + cost > most:
            raise OutOfPasses

    def _forward(self, x: Tensor) -> Tensor:
        """Return logits (draws, B, K)."""
        cost = self.draws * (len(x) // max(len(self._rows), 1))
        self._check_budget(cost)
        self._pending[0] += cost
        if self._crafting.precision == "32-true":
            return self._drawn(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return self._drawn(x)

    def _drawn(self, x: Tensor) -> Tensor:
        x = x if self.draws == 1 else x.repeat(self.draws, 1, 1, 1)
        if self._crafting.memory_format == "channels_last":
            x = x.contiguous(memory_format=torch.channels_last)
        logits = self._model(x)
        assert isinstance(logits, Tensor)
        return logits.float().view(self.draws, -1, logits.shape[-1])


def pooled(logits: Tensor) -> Tensor:
    """Return logits (B, K) of the mean probability over draws (n, B, K)."""
    return logits[0] if len(logits) == 1 else logits.softmax(2).mean(0).log()


def _gradient(value: Tensor, x: Tensor, *, keep_graph: bool = False) -> Tensor:
    found = None
    if value.requires_grad:
        (found,) = torch.autograd.grad(value, x, retain_graph=keep_graph, allow_unused=True)
    if found is None:
        raise InputError(
            "the model gives no gradient with respect to its input (a detach(), a no_grad() or NumPy inside?); "
            "a gradient attack says nothing about it; wrap the part that breaks it in sparring.attacks.bpda(...)"
        )
    return found


@contextmanager
def frozen(model: nn.Module, statistics: Statistics = "eval") -> Iterator[None]:
    """Hold a model still: parameters without gradient, modules in eval mode, running statistics unmoved.

    With `statistics="train"`, normalisation layers use the batch's mean and variance meanwhile; dropout stays off.
    Modules that declare "bpda" pass gradients on by their approximation.

    Every parameter's `requires_grad`, every module's mode and every counter is as it was afterwards.
    """
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in wanted:
            parameter.requires_grad_(False)
        normalising = _batch_statistics(model) if statistics == "train" else nullcontext()
        with normalising, quick_input_gradients(model), differentiable(model):
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, requires_grad in wanted:
            parameter.requires_grad_(requires_grad)


@contextmanager
def _batch_statistics(model: nn.Module) -> Iterator[None]:
    """Let normalisation layers, and nothing else, work as in training; put their running statistics back after."""
    for norm in _norms(model):
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

"""The oracle: all that an attack may ask of a model, counted for each example."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod

import torch
from torch import Tensor, nn

from sparring.attacks.crafting import Crafting
from sparring.core.errors import InputError
from sparring.core.randomness import uniform
from sparring.core.threat import TINY

CHUNKS = 4  # of a random model's draws, all of which must agree that an image fools before it is let go


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
        self.draws = (self._crafting.draws or 1) if self._crafting.adaptive else 1
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
        self._charge(x)
        self._pending[1] += self.draws
        values, grads, drawn = [], [], []
        for _ in range(self.draws):
            x = x.detach().requires_grad_(True)
            with torch.enable_grad():
                logits = self._asked(x)
                value = loss(logits)
                grads.append(_gradient(value.sum(), x))
            values.append(value.detach())
            drawn.append(logits.detach())
        return _mean(values), _mean(grads), pooled(torch.stack(drawn))

    def jacobian(self, x: Tensor, outputs: Tensor | Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Return the logits (B, K) and the gradients (B, n, C, H, W) of `outputs`: one forward and n backwards each.

        `outputs`: classes (B, n), whose logits are meant, or a linear function of the logits to n values each, (B, n).
        Of a random model, the means over draws.
        """
        self._charge(x)
        drawn, found = [], []
        for _ in range(self.draws):
            x = x.detach().requires_grad_(True)
            with torch.enable_grad():
                logits = self._asked(x)
                columns = (logits.gather(1, outputs) if isinstance(outputs, Tensor) else outputs(logits)).sum(0)
                last = len(columns) - 1
                grads = [_gradient(column, x, keep_graph=place < last) for place, column in enumerate(columns)]
            self._pending[1] += len(columns)
            drawn.append(logits.detach())
            found.append(torch.stack(grads, dim=1))
        return _mean(drawn), _mean(found)

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
        """Return `fooled` (B,) less what a second look does not bear out: in float32, and of a random model clearly.

        Clearly: whichever quarter of fresh draws is asked. `judge` says of logits (n, K) and the flags of their rows
        which are fooled. Costs those rows a forward pass a draw; nothing is asked of one draw in float32.
        """
        if (self._crafting.precision == "32-true" and self.draws == 1) or not bool(fooled.any()):
            return fooled
        self._settle()
        self._check_budget(self.draws)
        self._ledger.spent[0, self._rows[fooled]] += self.draws
        with torch.no_grad(), torch.autocast(x_adv.device.type, enabled=False):
            looked = torch.stack([self._passed(x_adv[fooled]) for _ in range(self.draws)])
        borne_out = torch.stack([judge(pooled(part), fooled) for part in looked.chunk(CHUNKS)]).all(0)
        return fooled.masked_scatter(fooled, borne_out)

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

    def _charge(self, x: Tensor) -> None:
        cost = self.draws * (len(x) // max(len(self._rows), 1))
        self._check_budget(cost)
        self._pending[0] += cost

    def _forward(self, x: Tensor) -> Tensor:
        """Return logits (draws, B, K)."""
        self._charge(x)
        return torch.stack([self._asked(x) for _ in range(self.draws)])

    def _asked(self, x: Tensor) -> Tensor:
        """Return the logits (B, K) of one draw: each is a pass of its own, for a model may draw once for a batch."""
        if self._crafting.precision == "32-true":
            return self._passed(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return self._passed(x)

    def _passed(self, x: Tensor) -> Tensor:
        if self._crafting.memory_format == "channels_last":
            x = x.contiguous(memory_format=torch.channels_last)
        logits = self._model(x)
        assert isinstance(logits, Tensor)
        return logits.float()


def _mean(parts: list[Tensor]) -> Tensor:
    """Return the mean of tensors of one shape, one of them as it is."""
    return parts[0] if len(parts) == 1 else torch.stack(parts).mean(0)


def pooled(logits: Tensor) -> Tensor:
    """Return logits (B, K) of the mean probability over draws (n, B, K)."""
    return logits[0] if len(logits) == 1 else logits.log_softmax(2).logsumexp(0) - math.log(len(logits))


def _gradient(value: Tensor, x: Tensor, *, keep_graph: bool = False) -> Tensor:
    found = None
    if value.requires_grad:
        (found,) = torch.autograd.grad(value, x, retain_graph=keep_graph, allow_unused=True)
    if found is None:
        raise InputError(
            "the model gives no gradient with respect to its input (a detach(), a no_grad() or NumPy inside?); "
            "a gradient attack says nothing about it; wrap the part that breaks it in sparring.attacks.bpda(...)"
        )
    if found.device.type == "cpu" and bool(found.sum().isfinite()):  # elsewhere the answer would have to be waited for
        return found.clone() if 0 in found.stride() else found  # one value for many pixels, which nothing can write to
    return finite(found)


def finite(grad: Tensor) -> Tensor:
    """Return gradients (B, C, H, W) with 0 for NaN and, for a slope without end, the image's steepest other one.

    A root has such slopes at black pixels; one NaN would make the whole image NaN at the next step, and end the attack.
    """
    rest = grad.nan_to_num(nan=0, posinf=0, neginf=0)
    steepest = rest.flatten(1).abs().amax(1).clamp(min=TINY).view(-1, 1, 1, 1)
    return torch.where(grad.isinf(), grad.sign() * steepest, rest)

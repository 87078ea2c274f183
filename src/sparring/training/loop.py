"""The only training loop: it knows a Trainable and tensors, and continues a killed run to the same bits."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NoReturn

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from sparring.core.errors import InputError, StoppedError, TrainingError
from sparring.core.randomness import derive, seeded
from sparring.core.study_results import EpochMetrics
from sparring.core.trainable import Learner, Setup, State, Trainable
from sparring.data.dataset import Split, to_float
from sparring.training.monitor import Monitor
from sparring.training.runs import Run

CHECK_EVERY = 50  # steps between looks at the loss; each look waits for the device
CHECKPOINT_SECONDS = 180.0
DIVERGED = 10.0  # times the loss of the first steps, when the network knew nothing

Augment = Callable[[Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class Plan:
    """How long and in what portions to train."""

    epochs: int
    batch_size: int
    seed: int
    augment: Augment | None = None


@dataclass
class Position:
    """Where training stands: the epoch, the step within it, and that epoch's running sums."""

    epoch: int = 0
    step: int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)
    seen: int = 0
    seconds: float = 0.0
    first_loss: float = math.nan


def train(
    trainable: Trainable,
    split: Split,
    setup: Setup,
    plan: Plan,
    *,
    run: Run,
    fabric: Fabric,
    monitor: Monitor,
    begin: Callable[[], None] = lambda: None,
) -> State:
    """Train to the plan's end, going on from the run's checkpoint if there is one, and return the final state.

    `begin` is called before the first step, once all that may be refused has been.
    Raises TrainingError when the loss is not finite or diverges, when the method itself gives up at an epoch's end, and
    on Ctrl-C; the checkpoint then stays good. Raises InputError where batch norm would see one image at a time.
    """
    with seeded(plan.seed):
        state = trainable.init(setup)
        alone = plan.epochs > 0 and 1 in (plan.batch_size, len(split))
        if alone and any(map(_has_batch_norm, state.learners.values())):
            raise InputError("batch norm cannot train on one image at a time: raise batch_size (or limit)")
        loop = _Loop(trainable, split, plan, run, fabric, monitor, state)
        if run.begun:
            _go_on(loop, run)
        begin()
        with _interruptible() as interrupted:
            loop.run_epochs(interrupted)
    return state


def _go_on(loop: "_Loop", run: Run) -> None:
    try:
        loop.restore(run.read_checkpoint())
    except InputError:  # is one line already
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise InputError(
            f"{run.path}/checkpoint.pt: damaged, or of another Sparring ({reason}); delete it to start again"
        ) from None


def _has_batch_norm(learner: Learner) -> bool:
    """Whether batch norm trains: a mask's does not, since masks are always in evaluation mode."""
    return any(isinstance(module, _BatchNorm) and module.training for module in learner.network.train().modules())


class _Loop:
    def __init__(
        self,
        trainable: Trainable,
        split: Split,
        plan: Plan,
        run: Run,
        fabric: Fabric,
        monitor: Monitor,
        state: State,
    ) -> None:
        self.trainable, self.plan, self.run, self.fabric, self.monitor = trainable, plan, run, fabric, monitor
        self.state = state
        self.x, self.y = split.x.to(fabric.device), split.y.to(fabric.device)
        self.generator = torch.Generator(fabric.device).manual_seed(derive(plan.seed, 1))
        self.position = Position()
        self.loss = torch.tensor(math.nan)
        self.history: list[EpochMetrics] = []
        self.steps = max(1, math.ceil(len(split) / plan.batch_size) - (len(split) % plan.batch_size == 1))

    def run_epochs(self, interrupted: threading.Event) -> None:
        self.monitor.begin(self.plan.epochs, self.steps, self.position.epoch, self.position.step)
        with self.monitor:
            while self.position.epoch < self.plan.epochs and not self.trainable.finished(self.state):
                self._run_epoch(interrupted)

    def _run_epoch(self, interrupted: threading.Event) -> None:
        position, begin = self.position, time.monotonic()
        order = torch.randperm(
            len(self.y), generator=torch.Generator().manual_seed(derive(self.plan.seed, 2, position.epoch))
        ).to(self.fabric.device)
        saved, spent = begin, position.seconds
        for learner in self.state.learners.values():
            learner.network.train()
        while position.step < self.steps:
            rows = order[position.step * self.plan.batch_size :][: self.plan.batch_size]
            self._step(rows)
            now = time.monotonic()
            position.seconds = spent + now - begin
            if interrupted.is_set() or now - saved > CHECKPOINT_SECONDS:
                self._checkpoint()
                saved = now
            if interrupted.is_set():
                raise StoppedError(f"interrupted; {self.run.path} can be resumed (--resume)")
        self._end_epoch()

    def _step(self, rows: Tensor) -> None:
        position = self.position
        progress = (position.epoch + position.step / self.steps) / self.plan.epochs
        x, y = to_float(self.x[rows]), self.y[rows]
        if self.plan.augment is not None:
            x = self.plan.augment(x, self.generator)
        for learner in self.state.learners.values():
            learner.set_rate(progress=progress, losses=self.state.losses)
        with self.fabric.autocast():
            metrics = self.trainable.step(self.state, x, y, progress=progress, generator=self.generator)
        for name, value in metrics.items():
            if name not in position.sums:
                # in half precision a sum stops growing after some hundred steps
                position.sums[name] = torch.zeros_like(value, dtype=torch.promote_types(value.dtype, torch.float32))
            position.sums[name].add_(value.detach(), alpha=len(y))
        position.seen += len(y)
        position.step += 1
        self.loss = metrics["loss"]
        if position.step % CHECK_EVERY == 0 or position.step == self.steps or math.isnan(position.first_loss):
            self._check()
        self.monitor.step(len(y))

    def _check(self) -> None:
        """Stop when the loss or another metric is not finite, or the loss is far above its beginning."""
        position, loss = self.position, float(self.loss)
        if math.isnan(position.first_loss):
            position.first_loss = max(abs(loss), 1.0) if math.isfinite(loss) else 1.0
        means = self._means()
        broken = [name for name, value in means.items() if not math.isfinite(value)]
        if broken:
            self._give_up(f"{broken[0]} is not finite")
        if not loss <= DIVERGED * position.first_loss:
            self._give_up(f"the loss went from {position.first_loss:.3g} to {loss:.3g}")
        self.monitor.show(position.epoch, means)

    def _give_up(self, what: str) -> NoReturn:
        kept = f"the last good state is kept in {self.run.path}" if self.run.begun else "nothing was saved yet"
        raise TrainingError(
            f"training diverged in epoch {self.position.epoch + 1}: {what}; {kept}. "
            'Try a smaller learning rate, a warm-up (schedule = "one_cycle()") or a smaller eps'
        )

    def _means(self) -> dict[str, float]:
        return {name: float(total) / self.position.seen for name, total in self.position.sums.items()}

    def _end_epoch(self) -> None:
        means, begin = self._means(), time.monotonic()
        self.state.losses.append(means["loss"])
        try:
            self.trainable.epoch_end(self.state, means)
        except TrainingError as error:
            self._give_up(str(error))
        self.position.seconds += time.monotonic() - begin
        self.history.append(EpochMetrics(self.position.epoch, means, round(self.position.seconds, 3)))
        self.position = Position(self.position.epoch + 1, first_loss=self.position.first_loss)
        self.run.write_metrics(self.history)
        self._checkpoint()
        self.monitor.epoch(self.history[-1])

    def _checkpoint(self) -> None:
        """Save, unless the last step broke a network: that shows in the loss only one step later."""
        position = self.position
        for name, learner in self.state.learners.items():
            if not all(bool(parameter.isfinite().all()) for parameter in learner.network.parameters()):
                self._give_up(f"the {name} has parameters that are not finite")
        self.run.write_checkpoint(
            {
                "state": self.state.state_dict(),
                "position": {name: getattr(position, name) for name in Position.__dataclass_fields__},
                "history": [[e.epoch, e.metrics, e.seconds] for e in self.history],
                "device": self.fabric.device.type,
                "generator": self.generator.get_state(),
                "global": torch.get_rng_state(),
                "global on the device": _device_noise(self.fabric.device),
            }
        )

    def restore(self, saved: dict[str, Any]) -> None:
        where = self.fabric.device.type
        begun = saved.get("device", where)  # which older checkpoints do not say
        if begun != where:
            raise InputError(
                f"{self.run.path}: this training was begun on {begun}, whose noise cannot go on on {where}; "
                f"give --device {begun}, or delete the folder"
            )
        self.state.load_state_dict(saved["state"])
        self.position = Position(**saved["position"])
        self.position.sums = {name: value.to(self.fabric.device) for name, value in self.position.sums.items()}
        self.history = [EpochMetrics(*epoch) for epoch in saved["history"]]
        self.generator.set_state(saved["generator"])
        torch.set_rng_state(saved["global"])
        of_device = saved.get("global on the device")  # None on a CPU, and in older checkpoints
        if of_device is not None and self.fabric.device.type != "cpu":
            torch.get_device_module(self.fabric.device).set_rng_state(of_device)


def _device_noise(device: torch.device) -> Tensor | None:
    """Return the global random state of an accelerator, by which dropout and a mask's noise are drawn there."""
    if device.type == "cpu":
        return None
    state: Tensor = torch.get_device_module(device).get_rng_state()
    return state


@contextmanager
def _interruptible() -> Iterator[threading.Event]:
    """Let the first Ctrl-C finish the step and save; a second one stops at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.getsignal(signal.SIGINT)

    def note(_signal: int, _frame: FrameType | None) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)

"""The contract of an attack, and `run`, which owns all that must never vary from one attack to the next."""

import logging
from abc import ABC, abstractmethod
from collections.abc import MutableMapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from sparring.attacks.adaptation import EOT_DRAWS
from sparring.attacks.crafting import Crafting, suitable_batch
from sparring.attacks.freezing import Statistics, frozen
from sparring.attacks.given import check_examples, check_labels, check_model, perturbed, remedy, wrapping
from sparring.attacks.losses import succeeded
from sparring.attacks.oracle import Oracle, OutOfPasses, pooled
from sparring.core.errors import InputError
from sparring.core.progress import Bar
from sparring.core.randomness import derive, seeded
from sparring.core.spec import Component, convert
from sparring.core.threat import THREATS, ThreatModel
from sparring.models.adaptive import adaptation

log = logging.getLogger("sparring")
SPOILT = "%s: NaN or inf in %d of its images (of %d examples); such pixels stay as they were: its code may be at fault"
NOISE_STREAM = 11  # of the seed, for the noise that a random model draws itself


class Attack(Component, ABC):
    """How to perturb images; it owns no eps. `kind`: inside a given eps ("budget"), or the smallest that works."""

    needs = Component.needs | {"kind": '"budget" or "minimal"'}
    source: ClassVar[str]
    kind: ClassVar[Literal["budget", "minimal"]]
    norms: ClassVar[tuple[str, ...]] = ("linf", "l2", "l1")  # in which it can attack
    gathers: ClassVar[int] = 1  # batches that it takes at once, for an attack that asks in portions of its own

    @abstractmethod
    def perturb(
        self,
        oracle: Oracle,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        *,
        target: Tensor | None = None,
        stop: bool = True,
    ) -> Tensor:
        """Return the perturbed images, shape and range of `x` (B, C, H, W).

        Away from `y` (B,), or towards `target` (B,) if given. With `stop` the work on an example may end at its first
        success within the threat's eps (a minimal attack under an eps of `inf` runs its full course); without, the
        attack runs its full course on every example, as adversarial training wants.
        """


@dataclass(frozen=True)
class Adversarial:
    """What an attack achieved on N examples.

    `success`: not classified as `y` (or classified as the target), judged in float32 on `x` as it stands, which is
    within the threat's eps. `skipped`: so already before the attack, and left alone (distance 0). `distance`: of `x`
    from the original, in the threat's norm. `forwards` and `backwards` count the passes that the attack itself spent on
    each example; `logits` (N, K) are the judge's. `spoilt`: the attack left NaN or inf in the image, and so may have
    found less than it could.
    """

    x: Tensor
    success: Tensor
    skipped: Tensor
    distance: Tensor
    forwards: Tensor
    backwards: Tensor
    logits: Tensor
    spoilt: Tensor

    def to(self, device: torch.device) -> "Adversarial":
        """Return the same on another device."""
        return Adversarial(**{field.name: getattr(self, field.name).to(device) for field in fields(Adversarial)})


def run(
    attack: Attack | str,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel | str,
    *,
    target: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    ids: Tensor | None = None,
    start: Tensor | None = None,
    crafting: Crafting | None = None,
    parts: MutableMapping[int, Adversarial] | None = None,
) -> Adversarial:
    """Attack `model` on images `x` (N, C, H, W), floats in [0, 1], with labels `y` (N,), within `threat`.

    Nothing is left behind: gradients, modes, batch-norm statistics, the inputs and the global random state are as they
    were. An example's result depends on the seed and on its id (by default its place in `x`), not on its batch-mates;
    but a random model draws its own noise for a batch at once.
    `batch_size`: by default what suits the device. `start` (N, C, H, W): images to begin from, for attacks that climb.
    `crafting`: precision, draws of a random model, budget. `parts` keeps each batch's result by the place of its first
    example as it comes, and what it holds already, of as many examples, is not done again.
    Pixels that the attack leaves as NaN or inf stay as they were in `x`; the result says which images had them, and how
    many there are is logged.
    Raises InputError for input that is not as said above, for a norm that the attack has no form for, for a model that
    does not give logits (N, K), and for an attack that does not give images like `x`.
    """
    chosen: Attack = convert(attack, Attack, "attack")
    within = THREATS.parse(threat)
    check_norm(chosen, within)
    check_model(model)
    check_examples(x, y, target, ids, start, batch_size)
    x, device, crafting = x.detach(), device_of(model, x), adapted(crafting or Crafting(), model)
    ids = torch.arange(len(x)) if ids is None else ids
    parts = {} if parts is None else parts
    at_once = batch_size or suitable_batch(x, device)
    batches = torch.split(torch.arange(len(x)), at_once * chosen.gathers)
    alone = torch.autocast(device.type, enabled=False)  # the caller's precision, in which nothing would be confirmed
    with frozen(model, adaptive=crafting.adaptive), seeded(seed), alone, Bar(f"{chosen.name} {within}", len(x)) as bar:
        for number, rows in enumerate(batches):
            first = int(rows[0])
            if first not in parts or len(parts[first].success) != len(rows):
                batch = Batch(x, y, target, ids, start).rows(rows, device)
                torch.random.manual_seed(derive(seed, NOISE_STREAM, number))  # a random model's own noise
                clean = _predicted(model, batch.x, crafting, at_once)
                for name, labels in (("y", y), ("target", target)):
                    check_labels(labels, clean.shape[1], name)
                part = _run_batch(chosen, model, batch, clean, within, seed, crafting, at_once)
                parts[first] = part.to(x.device)
            bar.advance(len(rows))
    done = [parts[int(rows[0])].to(x.device) for rows in batches]
    whole = Adversarial(**{f.name: torch.cat([getattr(part, f.name) for part in done]) for f in fields(Adversarial)})
    if spoilt := int(whole.spoilt.sum()):
        log.warning(SPOILT, chosen.name, spoilt, len(x))
    return whole


def check_norm(attack: Attack, threat: ThreatModel) -> None:
    """Raise InputError if the attack has no form for this threat's norm."""
    if threat.name not in attack.norms:
        raise InputError(f"{attack.name}: attacks in {' and '.join(attack.norms)}, not in {threat.name}")


@dataclass(frozen=True)
class Batch:
    """Examples to attack; each field (B, ...)."""

    x: Tensor
    y: Tensor
    target: Tensor | None
    ids: Tensor
    start: Tensor | None

    def rows(self, rows: Tensor, device: torch.device) -> "Batch":
        """Return some of the examples, on `device`."""
        x, y, ids = (t[rows].to(device) for t in (self.x, self.y, self.ids))
        target, start = (None if t is None else t[rows].to(device) for t in (self.target, self.start))
        return Batch(x, y, target, ids, start)


def _run_batch(
    attack: Attack,
    model: nn.Module,
    batch: Batch,
    clean: Tensor,
    threat: ThreatModel,
    seed: int,
    crafting: Crafting,
    at_once: int,
) -> Adversarial:
    skipped = succeeded(clean, batch.y, batch.target)
    spoilt = torch.zeros_like(skipped)
    rows = (~skipped).nonzero().squeeze(1)
    x_adv, logits = batch.x.clone(), clean
    forwards, backwards = torch.zeros_like(batch.y), torch.zeros_like(batch.y)
    if len(rows):
        left = batch.rows(rows, rows.device)
        oracle = Oracle(model, left.ids, seed=seed, crafting=crafting, start=left.start, at_once=at_once)
        try:
            given = attack.perturb(oracle, left.x, left.y, threat, target=left.target)
            moved = perturbed(given, left.x, attack.name)
        except OutOfPasses:
            moved = oracle.salvage(left.x)
        sound = moved.isfinite()
        spoilt[rows] = ~sound.flatten(1).all(1)
        moved = threat.project(torch.where(sound, moved, left.x), left.x)
        x_adv[rows], forwards[rows], backwards[rows] = moved, oracle.forwards, oracle.backwards
        logits = clean.index_copy(0, rows, _predicted(model, moved, crafting, at_once))
    success = succeeded(logits, batch.y, batch.target)
    distance = threat.distance(x_adv, batch.x)
    return Adversarial(x_adv, success, skipped, distance, forwards, backwards, logits, spoilt)


def _predicted(model: nn.Module, x: Tensor, crafting: Crafting, at_once: int) -> Tensor:
    return torch.cat([predict(model, part, crafting.draws or 1) for part in torch.split(x, at_once)])


def adapted(crafting: Crafting, model: nn.Module) -> Crafting:
    """Return `crafting` with as many draws as the model calls for, if it does not say."""
    if crafting.draws is not None:
        return crafting
    return replace(crafting, draws=EOT_DRAWS if "eot" in adaptation(model) else 1)


def craft(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    *,
    seed: int | Tensor,
    statistics: Statistics = "eval",
    crafting: Crafting | None = None,
    stop: bool = False,
) -> Tensor:
    """Return adversarial images for training: the attack's full course on every example, right or wrong, in one batch.

    `statistics` says which mean and variance batch norm uses meanwhile; the running ones do not move either way. With
    `stop` an example is done when the attack has succeeded on it. Raises InputError for a norm that the attack has no
    form for.
    """
    check_norm(attack, threat)
    with frozen(model, statistics):
        oracle = Oracle(model, torch.arange(len(x), device=x.device), seed=seed, crafting=crafting)
        x_adv = perturbed(attack.perturb(oracle, x, y, threat, stop=stop), x, attack.name)
    return threat.project(x_adv, x)


def predict(model: nn.Module, x: Tensor, draws: int = 1) -> Tensor:
    """Return the judge's logits, float32 (B, K), of the mean probability over `draws` of a random model.

    Raises InputError if the model's output is no such thing.
    """
    if draws > 1:
        return pooled(torch.stack([predict(model, x) for _ in range(draws)]))
    before = x._version
    try:
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            logits = model(x)
    except InputError:  # adapt's, say, is one line already
        raise
    except (RuntimeError, AssertionError, IndexError, TypeError, ValueError) as error:
        reason = str(error).partition("\n")[0][:160] or type(error).__name__
        images = f"{x.dtype} images of shape {tuple(x.shape)}"
        raise InputError(f"the model fails on {images}: {reason}{remedy(model, x)}") from error
    if x._version != before:
        raise InputError("the model changes its images in place; let its forward begin with x = x.clone()")
    if not isinstance(logits, Tensor):
        given = type(logits).__name__
        raise InputError(f"the model returns {given}, not a tensor of logits (B, K); {wrapping(logits)}")
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise InputError(f"the model returns shape {tuple(logits.shape)} for {len(x)} images, not logits ({len(x)}, K)")
    return logits.float()


def device_of(model: nn.Module, x: Tensor) -> torch.device:
    """Return where the model's parameters are, or where `x` is if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return x.device

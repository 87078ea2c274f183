"""The contract of an attack, and `run`, which owns all that must never vary from one attack to the next."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from sparring.attacks.given import check_examples, check_labels, check_model
from sparring.attacks.losses import succeeded
from sparring.attacks.oracle import Oracle, Statistics, frozen
from sparring.core.errors import InputError
from sparring.core.progress import Bar
from sparring.core.randomness import seeded
from sparring.core.spec import Component, convert
from sparring.core.threat import THREATS, ThreatModel

BATCH_SIZE = 250  # on a CPU larger batches are slower


class Attack(Component, ABC):
    """How to perturb images; it owns no eps. `kind`: inside a given eps ("budget"), or the smallest that works."""

    source: ClassVar[str]
    kind: ClassVar[Literal["budget", "minimal"]]

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
        success; without, the attack runs its full course, as adversarial training wants.
        """


@dataclass(frozen=True)
class Adversarial:
    """What an attack achieved on N examples.

    `success`: not classified as `y` (or classified as the target), judged in float32 on `x` as it stands. `skipped`: so
    already before the attack, and left alone (distance 0). `distance`: of `x` from the original, in the threat's norm.
    `forwards` and `backwards` count the passes that the attack itself spent on each example; `logits` (N, K) are the
    judge's.
    """

    x: Tensor
    success: Tensor
    skipped: Tensor
    distance: Tensor
    forwards: Tensor
    backwards: Tensor
    logits: Tensor


def run(
    attack: Attack | str,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel | str,
    *,
    target: Tensor | None = None,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    ids: Tensor | None = None,
) -> Adversarial:
    """Attack `model` on images `x` (N, C, H, W), floats in [0, 1], with labels `y` (N,), within `threat`.

    Nothing is left behind: gradients, modes, batch-norm statistics, the inputs and the global random state are as they
    were. An example's result depends on the seed and on its id (by default its place in `x`), not on its batch-mates.
    Raises InputError for input that is not as said above, and for a model that does not give logits (N, K).
    """
    chosen: Attack = convert(attack, Attack, "attack")
    within = THREATS.parse(threat)
    check_model(model)
    check_examples(x, y, target, ids, batch_size)
    x, device = x.detach(), device_of(model, x)
    ids = torch.arange(len(x)) if ids is None else ids
    parts: list[Adversarial] = []
    with frozen(model), seeded(seed), Bar(chosen.name, len(x)) as bar:
        for rows in torch.split(torch.arange(len(x)), batch_size):
            images, labels, places = (t[rows].to(device) for t in (x, y, ids))
            clean = predict(model, images)
            if not parts:
                check_labels(y, clean.shape[1], "y")
                check_labels(target, clean.shape[1], "target")
            aim = None if target is None else target[rows].to(device)
            parts.append(_run_batch(chosen, model, images, labels, clean, within, target=aim, ids=places, seed=seed))
            bar.advance(len(rows))
    whole = {f.name: torch.cat([getattr(part, f.name) for part in parts]).to(x.device) for f in fields(Adversarial)}
    return Adversarial(**whole)


def _run_batch(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    clean: Tensor,
    threat: ThreatModel,
    *,
    target: Tensor | None,
    ids: Tensor,
    seed: int,
) -> Adversarial:
    skipped = succeeded(clean, y, target)
    rows = (~skipped).nonzero().squeeze(1)
    x_adv, logits = x.clone(), clean
    forwards, backwards = torch.zeros_like(y), torch.zeros_like(y)
    if len(rows):
        oracle = Oracle(model, ids[rows], seed=seed)
        aim = None if target is None else target[rows]
        moved = attack.perturb(oracle, x[rows], y[rows], threat, target=aim).detach()
        moved = threat.project(torch.where(moved.isfinite(), moved, x[rows]), x[rows])
        x_adv[rows], forwards[rows], backwards[rows] = moved, oracle.forwards, oracle.backwards
        logits = clean.index_copy(0, rows, predict(model, moved))
    success = succeeded(logits, y, target)
    return Adversarial(x_adv, success, skipped, threat.distance(x_adv, x), forwards, backwards, logits)


def craft(
    attack: Attack,
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: ThreatModel,
    *,
    seed: int | Tensor,
    statistics: Statistics = "eval",
) -> Tensor:
    """Return adversarial images for training: the attack's full course on every example, right or wrong, in one batch.

    `statistics` says which mean and variance batch norm uses meanwhile; the running ones do not move either way.
    """
    with frozen(model, statistics):
        oracle = Oracle(model, torch.arange(len(x), device=x.device), seed=seed)
        x_adv = attack.perturb(oracle, x, y, threat, stop=False)
    return threat.project(x_adv.detach(), x)


def predict(model: nn.Module, x: Tensor) -> Tensor:
    """Return the judge's logits, float32 (B, K); raises InputError if the model's output is no such thing."""
    try:
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            logits = model(x)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0][:160]
        raise InputError(f"the model fails on {x.dtype} images of shape {tuple(x.shape)}: {reason}") from error
    if not isinstance(logits, Tensor):
        raise InputError(f"the model returns {type(logits).__name__}, not a tensor of logits (B, K); wrap it")
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise InputError(f"the model returns shape {tuple(logits.shape)} for {len(x)} images, not logits ({len(x)}, K)")
    return logits.float()


def device_of(model: nn.Module, x: Tensor) -> torch.device:
    """Return where the model's parameters are, or where `x` is if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return x.device

"""Universal perturbations, one for all images (Moosavi-Dezfooli et al. 2017, arXiv:1610.08401; Shafahi et al. 2020).

While it is fitted, a perturbation is held as an image at half its size around grey. The ball of half of eps and the box
around grey hold just those perturbations that are within eps and move no pixel by more than 1.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn

from sparring.attacks.base import adapted, device_of, predict
from sparring.attacks.crafting import Crafting, suitable_batch
from sparring.attacks.deepfool import DeepFool
from sparring.attacks.freezing import frozen
from sparring.attacks.given import check_examples, check_labels, check_model
from sparring.attacks.losses import margin, succeeded
from sparring.attacks.oracle import Oracle
from sparring.attacks.preparing import LearnedAttack
from sparring.core.errors import InputError
from sparring.core.float64 import in_float64
from sparring.core.progress import Bar
from sparring.core.randomness import seeded, uniform
from sparring.core.threat import L2, THREATS, ThreatModel
from sparring.data.dataset import to_float

TURNING = 0.6  # of the rounds of gradients turn logits away, the others climb the fooling rate
HELD_OUT = 0.2  # of the images are not fitted on: they tell which round is kept
STEEPNESS = 10.0  # of the smooth fooling rate, in units of the typical margin
SMOOTH = 0.3  # of the typical length of logits: what keeps an alignment from being a mere sign between two classes
DEEPFOOL = DeepFool(steps=20)
FLAT = 1e-6  # a typical margin of less than this is none


def fooling_rate(before: Tensor, after: Tensor) -> float:
    """Return the share of predictions changed, from the logits (N, K) of the images and of the perturbed images."""
    return float(in_float64(before.argmax(1) != after.argmax(1)).mean())


@dataclass(frozen=True, kw_only=True)
class Universal(LearnedAttack):
    """One perturbation for all images, fitted on some and judged on others.

    `method="gradient"`: steps on the gradients of minibatches (Shafahi et al. 2020, arXiv:1811.11304), each
    `rel_step_size` of eps and ever shorter, in two courses from nothing. The first turns all logits away from what they
    are on the clean image, by the cosine between the two (Zhang et al. 2021, ICCV), which holds for other
    images as well, however few and large they are. The second climbs the fooling rate itself, smooth where it is
    counted by a sigmoid of the margin, and wins where images are many and small. `"deepfool"`: adds the least further
    perturbation that fools the images not fooled yet, found by DeepFool for a minibatch at once and averaged.
    `"random_signs"`: the control, which learns nothing.

    A random model draws once an image for a gradient: the mean over a minibatch is one over draws as well.

    It is fitted on at most `examples` of those it is given, drawn by the seed, in `epochs` rounds. A fifth of them is
    held out: the round that fools most of these is kept; a fooling rate of `enough` on all ends it sooner. Labels
    are not used: an image is fooled when the prediction changes, or with `towards` when it is this class. The fitted
    attack adds `delta` (1, C, H, W), and asks nothing of the model.
    """

    name = "universal"
    source = "arXiv:1610.08401"
    kind = "budget"
    method: Literal["gradient", "deepfool", "random_signs"] = "gradient"
    epochs: int = 10
    minibatch: int = 25
    rel_step_size: float = 0.2
    examples: int = 1000
    enough: float = 1.0
    towards: int | None = None
    delta: Tensor | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in ("epochs", "minibatch", "examples"):
            if getattr(self, name) < 1:
                raise InputError(f"universal: {name} must be at least 1, not {getattr(self, name)}")
        if not 0 < self.rel_step_size < math.inf:
            raise InputError(f"universal: rel_step_size is a share of eps above 0, not {self.rel_step_size}")
        if not 0 < self.enough <= 1:
            raise InputError(f"universal: enough is a fooling rate above 0 and up to 1, not {self.enough}")

    @property
    def fitted(self) -> bool:
        return self.delta is not None

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
        if self.delta is None:
            raise InputError("universal: fit it first, on other examples: attack.fit(model, x, y, threat)")
        if self.delta.shape[1:] != x.shape[1:]:
            raise InputError(f"universal: fitted to images {tuple(self.delta.shape[1:])}, not {tuple(x.shape[1:])}")
        return threat.project(x + self.delta.to(x), x)

    def fit(self, model: nn.Module, x: Tensor, y: Tensor, threat: ThreatModel | str, *, seed: int = 0) -> "Universal":
        within = THREATS.parse(threat)
        check_model(model)
        if len(x) != len(y):
            raise InputError(f"universal: {len(x)} images and {len(y)} labels to fit on do not match")
        if x.is_floating_point():
            check_examples(x, y, None, None, None, None)  # all of them, for the error names an image by its place
        chosen = _shuffled(len(x), seed, 0)[: self.examples]
        x, y = to_float(x[chosen].detach()), y[chosen]
        check_examples(x, y, None, None, None, None)
        with frozen(model), seeded(seed):
            task = _Task.of(model, x.to(device_of(model, x)), within, seed, self.towards)
            image = task.random_signs() if self.method == "random_signs" else self._climb(task)
        return replace(self, delta=2 * image - 1)

    def _climb(self, task: "_Task") -> Tensor:
        """Return the perturbation, as an image around grey, that fooled most held out of all that epochs ended with."""
        best, most, epoch = task.grey, 0.0, 0
        with Bar(f"{self.name} {task.threat}", self.epochs * task.fitting) as bar:
            for direction, epochs in self._courses(task):
                image, done = task.grey, 0
                for _ in range(epochs):
                    epoch += 1
                    for rows in torch.split(_shuffled(task.fitting, task.seed, epoch), self.minibatch):
                        size = self.rel_step_size * task.threat.reach(image) * (1 - done / (epochs * task.fitting))
                        step = task.threat.ascent(image, direction(image, rows.to(task.x.device)), size)
                        image = task.threat.project(image + step, task.grey)
                        done += len(rows)
                        bar.advance(len(rows))
                    rate = task.fooling_rate(image, held_out=True)
                    if rate >= most:
                        best, most = image, rate
                    if rate >= self.enough and task.fooling_rate(image) >= self.enough:
                        return image
        return best

    def _courses(self, task: "_Task") -> tuple[tuple[Callable[[Tensor, Tensor], Tensor], int], ...]:
        """Return what tells the direction of a step for a perturbation and rows of images, each for so many epochs."""
        if self.method == "deepfool":
            return ((task.least_steps, self.epochs),)
        turning = round(TURNING * self.epochs)
        return ((task.turning, turning), (task.crossing, self.epochs - turning))


@dataclass(frozen=True, eq=False)
class _Task:
    """Images (N, C, H, W) to fool by one perturbation: the first `fitting` to fit on, the others, or all, to judge on.

    What they are `predicted` as (N,), the direction `away` (N, K) from their logits or to the target, and the `typical`
    margin of an image and `length` of its logits about their mean.
    """

    model: nn.Module
    x: Tensor
    fitting: int
    predicted: Tensor
    target: Tensor | None
    away: Tensor
    typical: Tensor
    length: Tensor
    threat: ThreatModel
    seed: int
    crafting: Crafting

    @staticmethod
    def of(model: nn.Module, x: Tensor, threat: ThreatModel, seed: int, towards: int | None) -> "_Task":
        """Look at the images; `threat` is for them, the task's own for the perturbation as an image around grey."""
        crafting = adapted(Crafting(), model)
        logits = _logits(model, x, crafting.draws or 1)
        predicted = logits.argmax(1)
        target = None if towards is None else torch.full_like(predicted, towards)
        check_labels(target, logits.shape[1], "universal: towards")
        typical = margin(logits, predicted, target).abs().median().clamp(min=FLAT)
        centred = _centred(logits)
        away = -centred if target is None else _centred(nn.functional.one_hot(target, logits.shape[1]).to(logits))
        return _Task(
            model=model,
            x=x,
            fitting=len(x) - int(HELD_OUT * len(x)),
            predicted=predicted,
            target=target,
            away=nn.functional.normalize(away, dim=1),
            typical=typical,
            length=centred.norm(dim=1).median().clamp(min=FLAT),
            threat=replace(threat, eps=threat.eps / 2),
            seed=seed,
            crafting=crafting,
        )

    @property
    def grey(self) -> Tensor:
        """The image (1, C, H, W) that stands for no perturbation."""
        return torch.full_like(self.x[:1], 0.5)

    def random_signs(self) -> Tensor:
        """Return as far from grey as may be in all pixels alike, each up or down at random."""
        noise = uniform(self.seed, torch.zeros(1, dtype=torch.int64, device=self.x.device), 0, self.grey.numel())
        signs = torch.where(noise < 0.5, -1.0, 1.0).to(self.x.dtype).view_as(self.grey)
        size = self.threat.reach(self.grey) / self.threat.distance(signs, torch.zeros_like(signs))
        return self.threat.project(self.grey + size.view(-1, 1, 1, 1) * signs, self.grey)

    def turning(self, image: Tensor, rows: Tensor) -> Tensor:
        """Return the gradient of how far the logits of these images are turned `away`, (1, C, H, W)."""
        return self._gradient(image, rows, self._turned)

    def crossing(self, image: Tensor, rows: Tensor) -> Tensor:
        """Return the gradient of the smooth fooling rate of these images in the perturbation, (1, C, H, W)."""
        return self._gradient(image, rows, self._crossed)

    def _turned(self, logits: Tensor, rows: Tensor) -> Tensor:
        centred = _centred(logits)
        return (centred * self.away[rows]).sum(1) / (centred.square().sum(1) + (SMOOTH * self.length) ** 2).sqrt()

    def _crossed(self, logits: Tensor, rows: Tensor) -> Tensor:
        target = None if self.target is None else self.target[rows]
        return torch.sigmoid(STEEPNESS / self.typical * margin(logits, self.predicted[rows], target))

    def _gradient(self, image: Tensor, rows: Tensor, gain: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        portions = -(-len(rows) // suitable_batch(self.x, self.x.device))  # large images in more than one
        return torch.stack([self._summed(image, part, gain) for part in rows.chunk(portions)]).sum(0)

    def _summed(self, image: Tensor, rows: Tensor, gain: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        oracle, x_adv, _, _ = self._minibatch(image, rows, Crafting(draws=1))
        _, grad, _ = oracle.value_and_gradient(x_adv, lambda logits: gain(logits, rows))
        stuck = ((x_adv <= 0) & (grad < 0)) | ((x_adv >= 1) & (grad > 0))
        return grad.masked_fill_(stuck, 0).sum(0, keepdim=True)

    def least_steps(self, image: Tensor, rows: Tensor) -> Tensor:
        """Return the mean, but for its length, of the least steps that fool those of these images not fooled yet.

        A step counts by its length squared less: who is near the boundary is fooled soon, who is far perhaps never.
        """
        oracle, x_adv, y, target = self._minibatch(image, rows, self.crafting)
        left = ~succeeded(oracle.logits(x_adv), y, target)
        if not bool(left.any()):
            return torch.zeros_like(image)
        oracle.keep(left)
        x_adv, y, target = x_adv[left], y[left], None if target is None else target[left]
        step = DEEPFOOL.perturb(oracle, x_adv, y, L2(math.inf), target=target) - x_adv
        length = step.flatten(1).square().sum(1).clamp(min=torch.finfo(step.dtype).tiny)
        return (step / length.view(-1, 1, 1, 1)).sum(0, keepdim=True)

    def fooling_rate(self, image: Tensor, *, held_out: bool = False) -> float:
        """Return the share of the images that the perturbation fools; a random model draws once for each."""
        of = slice(self.fitting % len(self.x) if held_out else 0, None)  # all, where none is held out
        target = None if self.target is None else self.target[of]
        logits = _logits(self.model, (self.x[of] + 2 * image - 1).clamp_(0, 1), 1)
        return float(in_float64(succeeded(logits, self.predicted[of], target)).mean())

    def _minibatch(
        self, image: Tensor, rows: Tensor, crafting: Crafting
    ) -> tuple[Oracle, Tensor, Tensor, Tensor | None]:
        """Return an oracle for these images, the images perturbed, what they are predicted as, and the target."""
        oracle = Oracle(self.model, rows, seed=self.seed, crafting=crafting)
        x_adv = (self.x[rows] + 2 * image - 1).clamp_(0, 1)
        return oracle, x_adv, self.predicted[rows], None if self.target is None else self.target[rows]


def _centred(logits: Tensor) -> Tensor:
    """Return logits (N, K) about their mean, which a softmax does not see."""
    return logits - logits.mean(1, keepdim=True)


def _logits(model: nn.Module, x: Tensor, draws: int) -> Tensor:
    parts = torch.split(x, suitable_batch(x, x.device))
    return torch.cat([predict(model, part, draws) for part in parts])


def _shuffled(count: int, seed: int, round_: int) -> Tensor:
    """Return the numbers below `count` in an order that depends on the seed and the round."""
    return uniform(seed, torch.arange(count), round_, 1).squeeze(1).argsort(stable=True)

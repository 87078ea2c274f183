"""Latent recovery: codes from which a model draws given images (Lipton & Tripathi 2017, arXiv:1702.04782)."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from math import inf
from typing import Literal

import torch
from scipy.stats import chi
from torch import Tensor, nn

from sparring.core.adam import Standing, begun, stepped
from sparring.core.errors import InputError
from sparring.core.lbfgs import lbfgs
from sparring.core.randomness import derive, uniform
from sparring.core.spec import Catalogue, Component
from sparring.core.threat import TINY
from sparring.generative.base import GenerativeNetwork
from sparring.models.adaptive import adaptation
from sparring.models.layers import layer_output, named_layer
from sparring.models.modes import held, in_use

BATCH = 500  # images at once: what fits into the processor's cache decides, not the memory
RARE = 1e-3  # the share of the prior's codes that are longer than a recovered one may be
WITHIN = 3.0  # standard deviations from 0 that a coordinate may be away


@dataclass(frozen=True, kw_only=True)
class Recovery(Component):
    """Finds codes by Adam, then by L-BFGS, from what the model's encoder says (or if it has none from 0).

    The `target` is the image's pixels, its features in the layer `layer` of the classifier in the run `classifier`, or
    both; each distance is a mean square, divided by that of the target. After each step of Adam a coordinate more than
    3 away from 0 is drawn anew from within (`clipping="stochastic"`) or set to 3 ("hard"), and a code longer than all
    but one in a thousand of the prior's is shortened to that. The best code of each image is kept.
    """

    name = "recovery"
    steps: int = 50
    lr: float = 0.05
    polish: int = 0
    target: Literal["pixels", "features", "both"] = "pixels"
    classifier: str = ""
    layer: str = ""
    clipping: Literal["stochastic", "hard", "none"] = "stochastic"

    def __post_init__(self) -> None:
        if self.steps < 0 or self.polish < 0:
            raise InputError("recovery: steps and polish must be at least 0")
        if not 0 < self.lr < inf:
            raise InputError(f"recovery: lr must be more than 0, not {self.lr}")
        if (self.target == "pixels") != (not self.classifier and not self.layer):
            raise InputError(
                'recovery: target="features" and "both" need classifier="RUN" and layer="NAME", and "pixels" neither'
            )


RECOVERIES = Catalogue(Recovery, "recovery", (Recovery,))


def recover(
    network: GenerativeNetwork,
    x: Tensor,
    y: Tensor,
    recovery: Recovery,
    *,
    classifier: nn.Module | None = None,
    ids: Tensor | None = None,
    seed: int = 0,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return codes (N, latent) of images `x` (N, C, H, W) with labels `y` (N,), and the mean squared errors (N,).

    `ids` (N,): what each image's noise depends on, beside the seed; by default its place. The same image, id and seed
    give the same code whatever the others. `start` (N, latent): where the search begins. Raises InputError for images
    of another shape than the model draws.
    """
    check_drawn(network, x)
    ids = torch.arange(len(x), device=x.device) if ids is None else ids
    z, error = x.new_zeros(len(x), network.latent), x.new_zeros(len(x))
    with torch.no_grad(), in_use(network), held(network), nullcontext() if classifier is None else in_use(classifier):
        for rows in torch.split(torch.arange(len(x), device=x.device), BATCH):
            search = Search(network, recovery, classifier, x[rows], y[rows], ids[rows], seed)
            z[rows], error[rows] = search.codes(None if start is None else start[rows])
    return z, error


def check_drawn(network: GenerativeNetwork, x: Tensor) -> None:
    """Raise InputError unless images `x` are of a kind that the network draws."""
    if tuple(x.shape[1:]) != network.shape:
        raise InputError(f"recovery: the model draws images {network.shape}, and these are {tuple(x.shape[1:])}")
    if x.dtype != torch.float32:
        raise InputError(f"recovery: takes float32 images in [0, 1], not {x.dtype}")


class Search:
    """The search for the codes of one batch."""

    def __init__(
        self,
        network: GenerativeNetwork,
        recovery: Recovery,
        classifier: nn.Module | None,
        x: Tensor,
        y: Tensor,
        ids: Tensor,
        seed: int,
    ) -> None:
        self.network, self.recovery, self.ids, self.seed = network, recovery, ids, seed
        self.x = x.contiguous(memory_format=torch.channels_last)
        self.shares = network.shares(y, x)
        self.longest = float(chi.ppf(1 - RARE, network.latent)) if network.about.draws else inf
        self.features = _features(classifier, recovery)
        self.wanted = [(of, of(self.x).flatten(1)) for of in self._targets()]
        self.scales = [wanted.square().mean(1).clamp(min=1e-6) for _, wanted in self.wanted]

    def codes(self, start: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the best codes found, and the mean squared errors of their pixels."""
        with torch.no_grad():
            z = self._adam(self.within(self.start() if start is None else start))
            if self.recovery.polish:
                z = self._better(z, self.within(lbfgs(self.objective, z, self.recovery.polish)))
            drawn = self.network.decode(z, self.shares)
            return z, (drawn - self.x).flatten(1).square().mean(1)

    def objective(self, z: Tensor, rows: Tensor, *, again: bool = False) -> tuple[Tensor, Tensor]:
        """Return the distance of each image (B,) and its gradient by the codes (B, latent).

        With `again` the gradient can be differentiated in its turn, by the codes and by the images.
        """
        with torch.enable_grad():
            leaf = z if again else z.detach().requires_grad_(True)
            drawn = self.network.decode(leaf, self.shares[rows])
            distance = torch.zeros(len(z), device=z.device)
            for (of, wanted), scale in zip(self.wanted, self.scales, strict=True):
                distance = distance + (of(drawn).flatten(1) - wanted[rows]).square().mean(1) / scale[rows]
            (gradient,) = torch.autograd.grad(distance.sum(), leaf, create_graph=again)
        return distance.detach(), gradient

    def way(self, z: Tensor) -> Iterator[tuple[Standing, Tensor]]:
        """Yield where Adam stands before each step and after the last, and the distances (B,) there."""
        at = begun(z)
        for step in range(self.recovery.steps):
            onward, distance = self.onward(at, step)
            yield at, distance
            at = onward
        yield at, self.objective(at.z, self._everyone)[0]

    def onward(self, at: Standing, step: int, *, again: bool = False) -> tuple[Standing, Tensor]:
        """Return where one step of Adam leads, and the distances (B,) before it; the rate falls evenly to 0."""
        distance, gradient = self.objective(at.z, self._everyone, again=again)
        moved = stepped(at, gradient, self.recovery.lr * (1 - step / self.recovery.steps), step)
        return moved._replace(z=self._shortened(self._clipped(moved.z, step))), distance

    def start(self) -> Tensor:
        """Return what the network's encoder says (B, latent), or if it has none 0."""
        if self.network.encoder is None:
            return self.x.new_zeros(len(self.x), self.network.latent)
        return self.network.encode(self.x, self.shares)

    def within(self, z: Tensor) -> Tensor:
        """Return codes no coordinate of which leaves the range, nor is any too long."""
        bounded = self.recovery.clipping != "none" and self.network.about.draws
        return self._shortened(z.clamp(-WITHIN, WITHIN) if bounded else z)

    @property
    def _everyone(self) -> Tensor:
        return torch.arange(len(self.x), device=self.x.device)

    def _targets(self) -> list[Callable[[Tensor], Tensor]]:
        pixels = [] if self.recovery.target == "features" else [nn.Identity()]
        return [*pixels, *([self.features] if self.features is not None else [])]

    def _adam(self, z: Tensor) -> Tensor:
        """Return the best codes on the way."""
        best, least = z.clone(), z.new_full((len(z),), inf)
        for at, distance in self.way(z):
            _keep(best, least, at.z, distance)
        return best

    def _clipped(self, z: Tensor, step: int) -> Tensor:
        if self.recovery.clipping == "none" or not self.network.about.draws:
            return z
        if self.recovery.clipping == "hard":
            return z.clamp(-WITHIN, WITHIN)
        fresh = WITHIN * (2 * uniform(derive(self.seed, 0), self.ids, step, z.shape[1]) - 1)
        return torch.where(z.abs() > WITHIN, fresh, z)

    def _shortened(self, z: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(z, dim=1, keepdim=True)
        allowed: Tensor = (self.longest / length.clamp(min=TINY)).clamp(max=1)
        return z * allowed

    def _better(self, one: Tensor, other: Tensor) -> Tensor:
        wins = self.objective(other, self._everyone)[0] < self.objective(one, self._everyone)[0]
        return torch.where(wins[:, None], other, one)


def _keep(best: Tensor, least: Tensor, z: Tensor, distance: Tensor) -> None:
    """Take over, in place, the codes whose distance is less than the least so far; NaN never is."""
    better = distance < least
    best[better], least[better] = z[better], distance[better]


def _features(classifier: nn.Module | None, recovery: Recovery) -> Callable[[Tensor], Tensor] | None:
    if recovery.target == "pixels":
        return None
    if classifier is None:
        raise InputError(f"recovery: the classifier of {recovery.classifier!r} is not at hand")
    named_layer(classifier, recovery.layer)
    if adaptation(classifier):
        raise InputError(
            f"recovery: {recovery.classifier} stands behind masks that are random or have no gradient of their own; "
            "name a classifier without"
        )
    return lambda x: layer_output(classifier, recovery.layer, x)

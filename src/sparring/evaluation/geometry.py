"""Where adversarial images lie among clean ones, in pixels and in features (promised by Liang et al. 2017)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import log10

import torch
from torch import Tensor, nn

from sparring.attacks.base import device_of
from sparring.core.errors import InputError
from sparring.core.randomness import uniform
from sparring.core.study_results import Plot, Trace
from sparring.data import Split
from sparring.defences.masks.pca import principal_components
from sparring.evaluation.curve import predictions
from sparring.generative.quality import features

CLEAN, NOISE = "clean images", "random signs"
POINTS = 120  # of a scatter, at most
GRID = 60  # points of a line, at most
ALONG = tuple(step / 4 for step in range(-4, 9))  # in units of the perturbation


def geometry(model: nn.Module, reference: Split, given: Split, made: Mapping[str, Tensor], layer: str) -> list[Plot]:
    """Return what is to be seen of images that attacks made of the `given` ones, among the clean ones of `reference`.

    `made`: by each attack's name its images (N, C, H, W), of the `given` examples in their order. `layer`: of the
    model, in whose features all is looked at as well as in pixels. `reference` is other data than what is given. Raises
    InputError for less than two images on either side.
    """
    if min(len(reference), len(given)) < 2:
        raise InputError("geometry: takes at least two clean images to compare with, and two that were attacked")
    moved = {**made, NOISE: _random_signs(given.images(), made)}
    plots = []
    for space in (_pixels(reference, given, moved), _features(model, layer, reference, given, moved)):
        plots += [*space.spectrum(), space.nearest(), *space.class_means(), *space.places()]
    return [*plots, landscape(model, given, made)]


@dataclass(frozen=True, eq=False)
class Space:
    """Points of one space: clean ones to compare with (M, D), those given (N, D), and by name what became of these."""

    name: str
    reference: Tensor
    reference_y: Tensor
    given: Tensor
    y: Tensor
    moved: dict[str, Tensor]

    @cached_property
    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """The clean images' mean (D,), their principal axes (K, D) and the variance along each."""
        return principal_components(self.reference.float())

    @property
    def alike(self) -> bool:
        """Whether the clean images to compare with are all the same, as in a layer that is dead."""
        return not float(self.components[2].sum())

    def spectrum(self) -> Iterator[Plot]:
        """Yield how much of a perturbation's energy the clean images' components hold; nothing if all are alike."""
        mean, axes, _ = self.components
        if self.alike:
            return
        steps = {CLEAN: self.given - mean, **{name: points - self.given for name, points in self.moved.items()}}
        held = {name: _cumulative(step, axes.to(step)) for name, step in steps.items()}
        half = int((held[CLEAN] < held[CLEAN][-1] / 2).sum()) + 1
        told = ", ".join(f"{name} {_percent(share[half - 1])}" for name, share in held.items() if name != CLEAN)
        yield Plot(
            title=f"Energy by component: {self.name}",
            sentence=f"The first {half} components hold half of what all hold of clean images; of changes: {told}.",
            x_title="principal components of clean images",
            y_title="energy held (%)",
            traces=tuple(_sampled(name, share) for name, share in held.items()),
        )

    def nearest(self) -> Plot:
        """Return how far the nearest clean image is."""
        points = {CLEAN: self.given, **self.moved}
        far = {name: torch.cdist(of, self.reference).amin(1).sort().values for name, of in points.items()}
        middle = {name: float(of.median()) for name, of in far.items()}
        told = ", ".join(f"{name} {_change(middle[name], middle[CLEAN])}" for name in self.moved)
        return Plot(
            title=f"Nearest clean image: {self.name}",
            sentence=f"The median distance of clean images is {middle[CLEAN]:.3g}; it changes: {told}.",
            x_title="Euclidean distance",
            y_title="share of images nearer (%)",
            traces=tuple(_distribution(name, of) for name, of in far.items()),
        )

    def class_means(self) -> Iterator[Plot]:
        """Yield how near images lie to their class's mean, against the nearest other; nothing if a class has none."""
        labels = torch.unique(self.reference_y)
        if self.alike or len(labels) < 2 or not bool(torch.isin(self.y, labels).all()):
            return
        means = torch.stack([self.reference[self.reference_y == label].mean(0) for label in labels])
        own = self.y[:, None] == labels[None]
        ratios = {}
        for name, points in {CLEAN: self.given, **self.moved}.items():
            far = torch.cdist(points, means)
            ratios[name] = (far[own] / far.masked_fill(own, torch.inf).amin(1)).sort().values
        told = ", ".join(f"{name} {_percent((of > 1).double().mean())}" for name, of in ratios.items())
        yield Plot(
            title=f"Nearest class mean: {self.name}",
            sentence=f"Nearer to another class's mean than to their own lie: {told}.",
            x_title="distance to own class mean over nearest other",
            y_title="share of images below (%)",
            traces=tuple(_distribution(name, of) for name, of in ratios.items()),
        )

    def places(self) -> Iterator[Plot]:
        """Yield where images lie in the plane of the first two principal components; nothing if they are all alike."""
        mean, axes, explained = self.components
        if self.alike:
            return
        plane = axes[:2].to(self.given)
        points = {CLEAN: self.given, **self.moved}
        found = {name: ((of[:POINTS] - mean) @ plane.T).tolist() for name, of in points.items()}
        share = float(explained[:2].sum() / explained.sum())
        yield Plot(
            title=f"Two components: {self.name}",
            sentence=f"The plane holds {100 * share:.0f} % of the clean images' variance.",
            x_title="first component",
            y_title="second component",
            traces=tuple(
                Trace(name, tuple(x for x, *_ in at), tuple(rest[0] if rest else 0.0 for _, *rest in at))
                for name, at in found.items()
            ),
            kind="points",
        )


def landscape(model: nn.Module, given: Split, made: Mapping[str, Tensor]) -> Plot:
    """Return how many images stay right along their perturbations, and along random directions across them."""
    x, where = given.images(), device_of(model, given.x)
    traces, told = [], []
    for name, x_adv in made.items():
        delta = x_adv - x
        ways = {name: delta, f"across {name}": _across(delta)}
        kept = {}
        for way, step in ways.items():
            images = [(x + t * step).clamp(0, 1) for t in ALONG]
            right = [(predictions(model, each.to(where)).argmax(1).to(given.y) == given.y).double() for each in images]
            kept[way] = [100 * float(each.mean()) for each in right]
            traces.append(Trace(way, ALONG, tuple(kept[way])))
        end = ALONG.index(1.0)
        told.append(f"{kept[name][end]:.0f} % right along {name}, {kept[f'across {name}'][end]:.0f} % across it")
    return Plot(
        title="Along the perturbation and across it",
        sentence=f"At the perturbation's own length are {'; '.join(told)}.",
        x_title="length, in perturbations",
        y_title="right (%)",
        traces=tuple(traces),
    )


def _pixels(reference: Split, given: Split, moved: Mapping[str, Tensor]) -> Space:
    flat = {name: x.flatten(1) for name, x in moved.items()}
    return Space("pixels", reference.images().flatten(1), reference.y, given.images().flatten(1), given.y, flat)


def _features(model: nn.Module, layer: str, reference: Split, given: Split, moved: Mapping[str, Tensor]) -> Space:
    where = device_of(model, given.x)

    def seen(x: Tensor) -> Tensor:
        return features(model, layer, x.to(where)).float().cpu()

    points = {name: seen(x) for name, x in moved.items()}
    name = f"layer {layer}"
    return Space(name, seen(reference.images()), reference.y, seen(given.images()), given.y, points)


def _random_signs(x: Tensor, made: Mapping[str, Tensor]) -> Tensor:
    """Return the images with each value moved up or down at random, as far as the attacks move one at most."""
    most = max((float((x_adv - x).abs().max()) for x_adv in made.values()), default=0.0)
    noise = uniform(0, torch.arange(len(x)), 0, x[0].numel()).view_as(x)
    return (x + most * torch.where(noise < 0.5, -1.0, 1.0)).clamp(0, 1)


def _across(delta: Tensor) -> Tensor:
    """Return for each perturbation (N, C, H, W) a random one of its length, at a right angle to it."""
    flat = delta.flatten(1)
    noise = uniform(1, torch.arange(len(flat)), 0, flat.shape[1]) - 0.5
    length = flat.norm(dim=1, keepdim=True)
    unit = flat / length.clamp(min=torch.finfo(flat.dtype).tiny)
    noise = noise - (noise * unit).sum(1, keepdim=True) * unit
    across: Tensor = noise / noise.norm(dim=1, keepdim=True) * length
    return across.view_as(delta)


def _cumulative(steps: Tensor, axes: Tensor) -> Tensor:
    """Return the share of the energy of steps (N, D) that the first of the axes (K, D) hold, (K,); of no step none."""
    energy = steps.square().sum(1, keepdim=True)
    moved = energy.squeeze(1) > 0
    if not bool(moved.any()):
        return torch.zeros(len(axes), dtype=steps.dtype)
    shares: Tensor = (steps[moved] @ axes.T).square() / energy[moved]
    return torch.cumsum(shares.mean(0), 0)


def _sampled(name: str, share: Tensor) -> Trace:
    """Return the first points and then ever fewer, as on a logarithmic axis."""
    spaced = torch.unique(torch.logspace(0, log10(len(share)), GRID).round().long())
    return Trace(name, tuple(spaced.double().tolist()), tuple((100 * share[spaced - 1]).tolist()))


def _distribution(name: str, values: Tensor) -> Trace:
    """Return the share of the sorted values (N,) up to each."""
    rows = torch.linspace(0, len(values) - 1, min(GRID, len(values))).round().long()
    return Trace(name, tuple(values[rows].tolist()), tuple((100 * (rows + 1) / len(values)).tolist()))


def _change(now: float, before: float) -> str:
    return f"{100 * now / before - 100:+.1f} %" if before else f"to {now:.3g}"


def _percent(share: Tensor) -> str:
    return f"{100 * float(share):.0f} %"

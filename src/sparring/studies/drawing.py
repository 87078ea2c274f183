"""What is measured of one trained generative model: its quality, and pictures of what it draws and gives back."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sparring.core.results import Arrays, Estimate
from sparring.core.statistics import share
from sparring.core.study_results import GenerativeRow, Measured
from sparring.data import Dataset, Split
from sparring.evaluation.curve import predictions
from sparring.generative import GenerativeNetwork
from sparring.generative.codes import Codes, codes_of
from sparring.generative.quality import BATCH, drawn, features, frechet_distance, precision_and_recall
from sparring.generative.recovery import WITHIN, Recovery, recover
from sparring.models.saved import load
from sparring.recipe import Fitted, training_split
from sparring.studies.expansion import Training
from sparring.studies.plan import EvaluationPlan, RowPlan

SHOWN = 10  # images in a row of a picture
WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)  # of the second image
SAME = 1e-3  # how far a coordinate may be off for a code to count as recovered
COMPARED = 10_000  # images at most whose features are compared
QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Drawing:
    """How a study's generative models are measured: its plan, the folder of runs, and the classifier that looks."""

    plan: EvaluationPlan
    runs: Path
    looks: str  # the run of the classifier in whose features images are compared; none if it is empty

    def row(self, row: RowPlan, training: Training, fitted: Fitted, dataset: Dataset) -> GenerativeRow:
        """Return all that is measured of one training."""
        network = fitted.model
        assert isinstance(network, GenerativeNetwork)
        classifier = load(self.runs / self.looks) if self.looks else None
        recovery = self.plan.recoveries.get(row.name)
        quality: list[Measured] = []
        arrays: Arrays = {}
        if network.about.draws and not network.encoder_width:  # else its decoder is another row's
            arrays["samples"] = _samples(network)
            if classifier is not None:
                quality += self._compared(network, classifier, dataset.split(self.plan.split))
        if recovery is not None:
            split = training_split(training.recipe, dataset)
            where = next(network.parameters()).device
            codes = codes_of(fitted.run.path.name, split, recovery, runs=self.runs, device=where)
            quality += _recovered(network, codes, split, classifier)
            if network.about.draws:
                looks = load(self.runs / recovery.classifier) if recovery.classifier else None
                quality += _found_again(network, recovery, looks)
            arrays |= _pictures(network, codes, split)
        return GenerativeRow(
            name=row.name,
            generative=row.generative,
            recipe=training.recipe.to_toml(),
            run=fitted.run.path.name,
            training=fitted.run.read_metrics(),
            quality=tuple(quality),
            arrays=arrays,
        )

    def _compared(self, network: GenerativeNetwork, classifier: nn.Module, real: Split) -> list[Measured]:
        """Return how far what is drawn lies from real images, as many of the one as of the other."""
        real = real.sample(COMPARED, seed=0)
        layer = self.plan.features[1]
        of_real, of_made = (features(classifier, layer, x) for x in (real.images(), drawn(network, real.y)))
        precision, recall = precision_and_recall(of_real, of_made)
        distance = _point(frechet_distance(of_real, of_made), len(real))
        found = [
            Measured("Fréchet distance in a classifier's features", distance, "number"),
            Measured("precision", precision),
            Measured("recall", recall),
        ]
        if network.about.conditional:
            agrees = predictions(classifier, drawn(network, real.y)).argmax(1) == real.y
            named = "drawn images that a classifier takes for the class asked for"
            found.append(Measured(named, share(int(agrees.sum()), len(real))))
        return found


def _recovered(network: GenerativeNetwork, codes: Codes, split: Split, classifier: nn.Module | None) -> list[Measured]:
    """Return how near the recovered training images are, and how often a classifier sees the same in them."""
    known = codes.psnr[codes.psnr.isfinite()]  # an image with NaN pixels has none
    found = [
        Measured(f"PSNR of recovered images, {quantile:.0%} quantile (dB)", _point(value, len(known)), "number")
        for quantile, value in zip(QUANTILES, known.quantile(torch.tensor(QUANTILES)).tolist(), strict=True)
    ]
    if classifier is not None:
        again = _decoded(network, codes.z, split.y)
        same = predictions(classifier, again).argmax(1) == predictions(classifier, split.images()).argmax(1)
        named = "recovered images that a classifier takes for what it takes the image for"
        found.append(Measured(named, share(int(same.sum()), len(split))))
    return found


def _point(value: float, count: int) -> Estimate:
    """Return a figure over so many images, of which no interval is known."""
    return Estimate(value, math.nan, math.nan, count)


def _found_again(network: GenerativeNetwork, recovery: Recovery, classifier: nn.Module | None) -> list[Measured]:
    """Return the share of the model's own codes that recovery finds again, and how near their images come back.

    Several codes may draw much the same image. No code leaves the range within which recovery searches.
    """
    y, where = torch.arange(500) % network.classes, next(network.parameters()).device
    z = network.draw(len(y), torch.Generator().manual_seed(1)).clamp(-WITHIN, WITHIN)
    classifier = None if classifier is None else classifier.to(where)
    x = _decoded(network, z, y).to(where)
    found, error = (part.cpu() for part in recover(network, x, y.to(where), recovery, classifier=classifier))
    again = (found - z).abs().amax(1) < SAME
    near = float(Codes(found, error).psnr.median())
    return [
        Measured("its own codes found again", share(int(again.sum()), len(y))),
        Measured("PSNR of its own images recovered, 50% quantile (dB)", _point(near, len(y)), "number"),
    ]


def _pictures(network: GenerativeNetwork, codes: Codes, split: Split) -> Arrays:
    """Return reconstructions of one image a class, the best and the worst of all, and the ways between some."""
    labels = sorted(set(split.y.tolist()))[:SHOWN]
    first = torch.stack([(split.y == label).nonzero()[0, 0] for label in labels])
    order = codes.error.argsort()
    rows = {"reconstructions": first, "best": order[:SHOWN], "worst": order[-SHOWN:]}
    found = {
        name: torch.stack([split.take(of).images(), _decoded(network, codes.z[of], split.y[of])])
        for name, of in rows.items()
    }
    weights = torch.tensor(WEIGHTS)
    ends = first[: len(first) // 2 * 2].view(-1, 2)
    if len(ends):
        found["interpolations"] = torch.stack([_way(network, codes, split, pair, weights) for pair in ends])
    return {**{name: images.numpy() for name, images in found.items()}, "weights": weights.numpy()}


def _way(network: GenerativeNetwork, codes: Codes, split: Split, pair: Tensor, weights: Tensor) -> Tensor:
    """Return an image, what is drawn on the way to another, and that: (columns, C, H, W)."""
    one, other = pair
    z = torch.lerp(codes.z[one], codes.z[other], weights[:, None])
    labels = torch.eye(network.classes)
    shares = torch.lerp(labels[split.y[one]], labels[split.y[other]], weights[:, None])
    ends = split.take(pair).images()
    return torch.cat([ends[:1], _decoded(network, z, shares), ends[1:]])


def _samples(network: GenerativeNetwork) -> NDArray[np.float32]:
    """Return drawn images, a line a class where the network is conditional: (rows, columns, C, H, W)."""
    rows = min(network.classes, SHOWN) if network.about.conditional else SHOWN // 2
    y = torch.arange(rows).repeat_interleave(SHOWN)
    z = network.draw(len(y), torch.Generator().manual_seed(0))
    made: NDArray[np.float32] = _decoded(network, z, y).view(rows, SHOWN, *network.shape).numpy()
    return made


def _decoded(network: GenerativeNetwork, z: Tensor, y: Tensor) -> Tensor:
    where = next(network.parameters()).device
    with torch.no_grad():
        parts = zip(torch.split(z, BATCH), torch.split(y, BATCH), strict=True)
        return torch.cat([network.decode(codes.to(where), labels.to(where)).cpu() for codes, labels in parts])

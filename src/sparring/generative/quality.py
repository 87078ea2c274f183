"""How good a generative model is: how far what it draws lies from real images, and what its codes give back.

Distances are in the features of a classifier that was trained here: they rank models of the same data by the same
classifier, and are not the FID that papers print, which takes features of an Inception network.
"""

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.core.float64 import in_float64
from sparring.core.randomness import seeded
from sparring.core.results import Estimate
from sparring.core.statistics import share
from sparring.generative.base import GenerativeNetwork
from sparring.models.layers import layer_output
from sparring.models.modes import in_use

BATCH = 500
NEAREST = 3  # neighbours that make a ball around each point
ROWS = 1000  # of a table of distances at a time


def features(classifier: nn.Module, layer: str, x: Tensor) -> Tensor:
    """Return what the layer gives of images (N, C, H, W), flat, as float64 (N, F); random models draw once."""
    with torch.no_grad(), in_use(classifier), seeded(0):
        outputs = [layer_output(classifier, layer, batch).flatten(1) for batch in torch.split(x, BATCH)]
    return in_float64(torch.cat(outputs))


def drawn(network: GenerativeNetwork, y: Tensor, seed: int = 0) -> Tensor:
    """Return an image for each label (N,), (N, C, H, W); a network that is not conditional does not look at them.

    Where the labels are, wherever the network is.
    """
    z, where = network.draw(len(y), torch.Generator(y.device).manual_seed(seed)), next(network.parameters()).device
    with torch.no_grad(), in_use(network):
        parts = zip(torch.split(z, BATCH), torch.split(y, BATCH), strict=True)
        return torch.cat([network.decode(codes.to(where), labels.to(where)).to(y.device) for codes, labels in parts])


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Return the squared Fréchet distance of two normal distributions fitted to features (N, F) and (M, F).

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500).
    """
    if min(len(one), len(other)) < 2:
        raise InputError("frechet_distance: needs at least two images on either side")
    _check_features("frechet_distance", one, other)
    means = one.mean(0) - other.mean(0)
    covariances = torch.cov(one.T).reshape(one.shape[1], -1), torch.cov(other.T).reshape(one.shape[1], -1)
    values, vectors = torch.linalg.eigh(covariances[0])
    root = vectors * values.clamp(min=0).sqrt()  # root @ root.T is the first covariance
    cross = torch.linalg.eigvalsh(root.T @ covariances[1] @ root).clamp(min=0).sqrt().sum()
    return float(means.square().sum() + covariances[0].trace() + covariances[1].trace() - 2 * cross)


def precision_and_recall(real: Tensor, made: Tensor) -> tuple[Estimate, Estimate]:
    """Return the share of `made` features (M, F) among the `real` (N, F), and the share of real ones among the made.

    A point lies among others where it is within the distance from one of them to that one's third neighbour
    (Kynkäänniemi et al. 2019, arXiv:1904.06991).
    """
    if min(len(real), len(made)) <= NEAREST:
        raise InputError(f"precision_and_recall: needs more than {NEAREST} images on either side")
    _check_features("precision_and_recall", real, made)
    return _among(made, real), _among(real, made)


def _check_features(what: str, one: Tensor, other: Tensor) -> None:
    if one.shape[1] != other.shape[1]:
        raise InputError(f"{what}: features of {one.shape[1]} and of {other.shape[1]} values cannot be compared")
    if not bool(one.isfinite().all() & other.isfinite().all()):
        raise InputError(f"{what}: features hold values that are no numbers (NaN or infinite)")


def _among(points: Tensor, others: Tensor) -> Estimate:
    """Return the share of points that lie among the others."""
    radii = torch.cat(
        [torch.cdist(rows, others).topk(NEAREST + 1, largest=False).values[:, -1] for rows in torch.split(others, ROWS)]
    )
    inside = [(torch.cdist(rows, others) <= radii).any(1) for rows in torch.split(points, ROWS)]
    return share(int(torch.cat(inside).sum()), len(points))

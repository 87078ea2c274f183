"""Certificates by randomised smoothing (Cohen, Rosenfeld & Kolter 2019, arXiv:1902.02918, algorithm CERTIFY)."""

import math
from dataclasses import dataclass

import torch
from scipy.special import betaincinv, ndtri
from torch import Tensor, nn

from sparring.attacks.base import device_of, predict
from sparring.attacks.crafting import suitable_batch
from sparring.attacks.freezing import frozen
from sparring.attacks.given import check_images
from sparring.core.errors import InputError
from sparring.core.progress import track
from sparring.core.randomness import derive, seeded
from sparring.core.results import Certified
from sparring.core.statistics import clopper_pearson
from sparring.core.threat import Linf, ThreatModel
from sparring.defences.masks.smooth import GaussianNoise
from sparring.models.batch_statistics import depends_on_batch_mates
from sparring.models.mask import Masked

ALPHA = 0.001  # the most that each certificate may be wrong by chance, as in the paper
SELECT = 100  # draws that choose the class, apart from those that certify it
STREAM = 3  # of the seed
RADII = 20  # points of the curve
ABSTAINS = -1


@dataclass(frozen=True, eq=False)
class Certificates:
    """Of each example the class (N,), int64, -1 where it abstains, and the L2 radius within which it is proven (N,)."""

    predicted: Tensor
    radius: Tensor


def noise_of(model: nn.Module) -> float:
    """Return the standard deviation of the Gaussian noise that the model adds to its input first; 0 if to none."""
    if not isinstance(model, Masked):
        return 0.0
    first = next(iter(model.before.children()))
    return first.sigma if isinstance(first, GaussianNoise) else 0.0


def certify(
    model: nn.Module, x: Tensor, *, draws: int = 1000, alpha: float = ALPHA, seed: int = 0, ids: Tensor | None = None
) -> Certificates:
    """Say of each image (N, C, H, W) what the smoothed model classifies it as, and within which L2 radius surely.

    Of 100 draws the class seen most often is taken. If the share p of `draws` further ones that see it is more than a
    half by the lower end of its one-sided Clopper-Pearson interval of confidence 1 - `alpha`, then no perturbation of
    length below sigma * Phi^-1(p) changes what the smoothed model says; else it abstains, with radius 0. Noise depends
    on `seed` and `ids` (N,) alone, by default an image's place. A draw of which the model says NaN sees no class.
    Raises InputError unless the model's first mask is `smooth`, for only noise on the image itself proves anything of
    the image, and for a model whose answer depends on batch-mates: its draws would depend on each other.
    """
    sigma = noise_of(model)
    if not sigma:
        raise InputError("certify: the model's first mask is not smooth(sigma=...), so nothing can be certified")
    if draws < 1 or not 0 < alpha < 1:
        raise InputError(f"certify: draws must be at least 1 and alpha between 0 and 1, not {draws} and {alpha}")
    if alpha ** (1 / draws) <= 0.5:
        least_draws = math.floor(math.log(alpha) / math.log(0.5)) + 1
        raise InputError(f"certify: {draws} draws prove nothing even where all agree; take {least_draws} or more")
    if depends_on_batch_mates(model):
        raise InputError("certify: with the batch's statistics draws depend on each other, and prove nothing")
    check_images(x)
    if ids is not None and len(ids) != len(x):
        raise InputError(f"certify: {len(ids)} ids for {len(x)} images")
    numbers = range(len(x)) if ids is None else ids.tolist()
    predicted, radius = torch.full((len(x),), ABSTAINS), torch.zeros(len(x))
    with frozen(model):
        for row, number in enumerate(track(numbers, "certify", len(x))):
            with seeded(derive(seed, STREAM, number)):
                likeliest = int(votes(model, x[row], SELECT).argmax())
                agreeing = int(votes(model, x[row], draws)[likeliest])
            least = float(betaincinv(agreeing, draws - agreeing + 1, alpha)) if agreeing else 0.0
            if least > 0.5:
                predicted[row], radius[row] = likeliest, sigma * float(ndtri(least))
    return Certificates(predicted, radius)


def certified(found: Certificates, y: Tensor, sigma: float, draws: int, threat: ThreatModel, size: int) -> Certified:
    """Return the record of certificates of images with labels `y` (N,) of `size` values each, within `threat`."""
    right, n = found.predicted == y, len(y)
    within, most = l2_radius(threat, size), sigma * float(ndtri(ALPHA ** (1 / draws)))  # where all draws agree
    radii = [most * step / RADII for step in range(RADII + 1)]

    def share_at(radius: float) -> int:
        return int((right & (found.radius > radius)).sum())

    return Certified(
        sigma=sigma,
        draws=draws,
        alpha=ALPHA,
        radius=within,
        accuracy=clopper_pearson(share_at(within), n),
        smoothed=clopper_pearson(int(right.sum()), n),
        abstained=clopper_pearson(int((found.predicted == ABSTAINS).sum()), n),
        curve=tuple((radius, clopper_pearson(share_at(radius), n)) for radius in radii),
    )


def l2_radius(threat: ThreatModel, size: int) -> float:
    """Return the least L2 radius that holds the ball of `threat` around an image of `size` values."""
    return threat.eps * math.sqrt(size) if isinstance(threat, Linf) else threat.eps  # an L1 ball lies in the L2 ball


def votes(model: nn.Module, image: Tensor, draws: int) -> Tensor:
    """Return how many of `draws` say each class, (K,)."""
    image = image.to(device_of(model, image))
    most = suitable_batch(image[None], image.device)
    counts = []
    for count in [most] * (draws // most) + [draws % most] * bool(draws % most):
        said = predict(model, image.expand(count, *image.shape))
        seen = torch.nn.functional.one_hot(said.argmax(1), said.shape[1])
        counts.append(seen[~said.isnan().any(1)].sum(0))
    return torch.stack(counts).sum(0)

"""Principal component analysis in front of a classifier (Bhagoji et al. 2018, arXiv:1704.02654; Liang et al. 2017)."""

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from sklearn import decomposition
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.core.trainable import Setup
from sparring.data.dataset import to_float
from sparring.models.mask import Mask


@dataclass(frozen=True, kw_only=True)
class PCA(Mask):
    """Projects each image onto the first principal components of the training images, and back into pixels.

    As many components as explain the share `variance` of the training images' variance, or `components` of them.
    `examples`: fitted on so many images, drawn by the seed 0; 0: on all. What comes back may lie a little outside
    [0, 1]. An attacker goes through it by its own gradient, which is the same projection.
    """

    name = "pca"
    source = "arXiv:1704.02654"
    variance: float = 0.99
    components: int = 0
    examples: int = 10_000

    def __post_init__(self) -> None:
        if not 0 < self.variance <= 1:
            raise InputError(f"pca: variance is a share, above 0 and up to 1, not {self.variance}")
        if self.components < 0 or self.examples < 0:
            raise InputError("pca: components and examples must be at least 0")

    def fit(self, setup: Setup) -> nn.Module:
        images, _, _ = setup.training()
        if self.examples and self.examples < len(images):
            order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
            images = images[order[: self.examples].sort().values]
        if len(images) < 2:
            raise InputError(f"pca: {len(images)} image to fit on has no components; it takes two or more")
        if not bool(to_float(images).isfinite().all()):
            raise InputError("pca: images to fit on hold values that are no numbers (NaN or infinite)")
        if not self.components <= min(len(images) - 1, prod(setup.shape)):
            raise InputError(
                f"pca: asked for {self.components} components of {len(images)} images of {prod(setup.shape)} values: "
                f"there are at most {min(len(images) - 1, prod(setup.shape))}"
            )
        mean, axes, explained = principal_components(to_float(images.cpu()).flatten(1))
        if len(axes) < self.components:
            raise InputError(f"pca: asked for {self.components} components, but the images differ in {len(axes)} only")
        count = self.components or _leading(explained.double(), self.variance)
        return Projection(mean, axes[:count])

    def blank(self, shape: tuple[int, int, int], about: dict[str, Any]) -> nn.Module:
        return Projection(torch.zeros(prod(shape)), torch.zeros(int(about["components"]), prod(shape)))

    def describe(self, module: nn.Module) -> dict[str, Any]:
        assert isinstance(module, Projection)
        return {"components": len(module.axes)}


def _leading(explained: Tensor, share: float) -> int:
    """Return how many of the components, falling, explain that share of what all do; 1e-9 of it is rounding."""
    return int((explained.cumsum(0) < (share - 1e-9) * explained.sum()).sum()) + 1


class Projection(nn.Module):
    """Images (B, C, H, W) to their projections onto `axes` (K, C*H*W) through `mean` (C*H*W,)."""

    mean: Tensor
    axes: Tensor

    def __init__(self, mean: Tensor, axes: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("axes", axes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the projected images."""
        return ((x.flatten(1) - self.mean) @ self.axes.T @ self.axes + self.mean).view_as(x)


def principal_components(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return of points (N, D) the mean (D,), the principal axes (K, D), largest first, and the variance along each.

    scikit-learn's; but where there are fewer points than values, from the eigenvectors of their products with each
    other, an (N, N) matrix, which spares the decomposition of a matrix as wide as an image. Points that are all alike
    have no axes.
    """
    if bool((x == x[0]).all()):
        return x[0], x[:0], x.new_zeros(0)
    if len(x) > x.shape[1]:
        # in double: the covariance is a difference of large numbers where the images differ little
        fit = decomposition.PCA(svd_solver="covariance_eigh").fit(x.double().numpy())
        mean, axes, variances = map(torch.from_numpy, (fit.mean_, fit.components_, fit.explained_variance_))
        return mean.to(x.dtype), axes.to(x.dtype), variances.to(x.dtype)
    mean = x.mean(0)
    centred = (x - mean).double()
    values, vectors = torch.linalg.eigh(centred @ centred.T)
    values, vectors = values.flip(0)[:-1].clamp(min=0), vectors.flip(1)[:, :-1]  # the mean took away one dimension
    kept = values > 1e-10 * values[0]
    axes = (vectors[:, kept].T @ centred) / values[kept].sqrt()[:, None]
    return mean, axes.float(), (values[kept] / (len(x) - 1)).float()

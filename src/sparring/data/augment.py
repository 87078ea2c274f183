"""Augmentation for training: whole batches at once, an offset or a flip of its own for each image."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sparring.core.errors import InputError
from sparring.core.spec import Catalogue, Component


@dataclass(frozen=True)
class Augmentation(Component, ABC):
    """A random change of training images (B, C, H, W), uint8 or float, that keeps shape, type and labels."""

    @abstractmethod
    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Return the changed images; all randomness comes from `generator`, and `x` stays as it is."""


@dataclass(frozen=True, kw_only=True)
class NoAugmentation(Augmentation):
    """The images as they are."""

    name = "none"

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return x


@dataclass(frozen=True, kw_only=True)
class Crop(Augmentation):
    """Pad with black by `padding` pixels, then cut out the old size at a random place."""

    name = "crop"
    padding: int = 4

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise InputError(f"{self.name}: padding must be at least 0, not {self.padding}")

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return cut(x, self.padding, draw_offsets(len(x), self.padding, generator).to(x.device))


@dataclass(frozen=True, kw_only=True)
class Flip(Augmentation):
    """Mirror left and right, every second image on average."""

    name = "flip"

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return mirror(x, draw_flips(len(x), generator).to(x.device))


@dataclass(frozen=True, kw_only=True)
class CropFlip(Crop):
    """Crop, then flip: the usual augmentation for CIFAR-10."""

    name = "crop_flip"

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        cropped = super().__call__(x, generator)
        return mirror(cropped, draw_flips(len(x), generator).to(x.device))


@dataclass(frozen=True, kw_only=True)
class Blur(Augmentation):
    """A Gaussian blur by a kernel of `size` by `size` pixels, the same for all images; edges are mirrored."""

    name = "blur"
    size: int = 5
    sigma: float = 5.0

    def __post_init__(self) -> None:
        if self.size < 1 or self.size % 2 == 0:
            raise InputError(f"blur: size must be an odd whole number, not {self.size}")
        if not self.sigma > 0:
            raise InputError(f"blur: sigma must be more than 0 pixels, not {self.sigma}")

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        reach = self.size // 2
        if reach >= min(x.shape[2:]):
            raise InputError(
                f"blur: a kernel of {self.size} pixels is too large for images of {x.shape[2]}x{x.shape[3]}"
            )
        places = torch.arange(-reach, reach + 1, device=x.device, dtype=torch.float32)
        kernel = torch.exp(-(places**2) / (2 * self.sigma**2))
        kernel /= kernel.sum()
        whole = F.pad(x.float(), (reach,) * 4, mode="reflect").flatten(0, 1)[:, None]
        blurred = F.conv2d(F.conv2d(whole, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1)).view(x.shape)
        return blurred.to(x.dtype) if x.is_floating_point() else blurred.round().to(x.dtype)


def draw_offsets(count: int, padding: int, generator: torch.Generator) -> Tensor:
    """Return a place in 0..2*padding, row and column, for each image: (2, count)."""
    return torch.randint(2 * padding + 1, (2, count), generator=generator, device=generator.device)


def draw_flips(count: int, generator: torch.Generator) -> Tensor:
    """Return a fair coin for each image: (count,), bool."""
    return torch.rand(count, generator=generator, device=generator.device) < 0.5


def cut(x: Tensor, padding: int, offsets: Tensor) -> Tensor:
    """Return windows of the old size (B, C, H, W) from the padded images, at `offsets` (2, B)."""
    height, width = x.shape[2:]
    windows = F.pad(x, (padding,) * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(len(x), device=x.device), :, offsets[0], offsets[1]]


def mirror(x: Tensor, flips: Tensor) -> Tensor:
    """Return the images (B, C, H, W), left and right exchanged where `flips` (B,)."""
    return torch.where(flips[:, None, None, None], x.flip(3), x)


AUGMENTATIONS = Catalogue(Augmentation, "augmentation", (NoAugmentation, Crop, Flip, CropFlip, Blur))

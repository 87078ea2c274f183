"""A small strided convolutional network, the one of fast adversarial training (Wong et al. 2020, arXiv:2001.03994)."""

from dataclasses import dataclass

from torch import nn

from sparring.core.errors import InputError
from sparring.models.base import Model


@dataclass(frozen=True, kw_only=True)
class CNN(Model):
    """Two strided convolutions (16, 32) and a hidden layer of 100; any image of at least 4x4."""

    name = "cnn"

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        channels, height, width = shape
        if min(height, width) < 4:
            raise InputError(f"cnn: takes images of at least 4x4, not {height}x{width}")
        return nn.Sequential(
            nn.Conv2d(channels, 16, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=4, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * (height // 4) * (width // 4), 100),
            nn.ReLU(),
            nn.Linear(100, classes),
        )

"""Two convolutions, a pool and a hidden layer: the MNIST network of the code known of "Latent interpolation"."""

from dataclasses import dataclass

from torch import nn

from sparring.core.errors import InputError
from sparring.models.base import Model


@dataclass(frozen=True, kw_only=True)
class ConvNet(Model):
    """Convolutions 16 and 32 (3x3), a max-pool, a hidden layer of 128 and dropout; any image of at least 6x6."""

    name = "convnet"
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise InputError(f"convnet: dropout is a share below 1, not {self.dropout}")

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        channels, height, width = shape
        if min(height, width) < 6:
            raise InputError(f"convnet: takes images of at least 6x6, not {height}x{width}")
        return nn.Sequential(
            nn.Conv2d(channels, 16, kernel_size=3),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * ((height - 4) // 2) * ((width - 4) // 2), 128),
            nn.ReLU(),
            nn.Dropout(self.dropout),
            nn.Linear(128, classes),
        )

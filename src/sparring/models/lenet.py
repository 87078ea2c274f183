"""LeNet, with one ReLU only (LeCun et al. 1998, doi:10.1109/5.726791, as MatConvNet's example has it)."""

from dataclasses import dataclass

from torch import nn

from sparring.core.errors import InputError
from sparring.models.base import Model


@dataclass(frozen=True, kw_only=True)
class LeNet(Model):
    """LeNet for 28x28: conv 20, pool, conv 50, pool, conv 500, ReLU, conv to the classes."""

    name = "lenet"

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        channels, *size = shape
        if size != [28, 28]:
            raise InputError(f"lenet: takes images of 28x28, not {size[0]}x{size[1]}; for other sizes use cnn()")
        return nn.Sequential(
            nn.Conv2d(channels, 20, kernel_size=5),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, kernel_size=5),
            nn.MaxPool2d(2),
            nn.Conv2d(50, 500, kernel_size=4),
            nn.ReLU(),
            nn.Conv2d(500, classes, kernel_size=1),
            nn.Flatten(),
        )

"""ResNet-18 for small images (He et al. 2016, arXiv:1512.03385): a 3x3 stem without pooling, as used on CIFAR-10."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from sparring.core.errors import InputError
from sparring.models.base import Model

STAGES = ((1, 1), (2, 2), (4, 2), (8, 2))  # channels over `width`, stride of the first of two blocks


@dataclass(frozen=True, kw_only=True)
class ResNet18(Model):
    """ResNet-18 with a 3x3 stem; any image size. `width` is the stem's channels, 64 in the original."""

    name = "resnet18"
    width: int = 64

    def __post_init__(self) -> None:
        if self.width < 1:
            raise InputError(f"resnet18: width must be at least 1, not {self.width}")

    def build(self, shape: tuple[int, int, int], classes: int) -> nn.Module:
        before = self.width
        stem = [nn.Conv2d(shape[0], before, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(before), nn.ReLU()]
        blocks: list[nn.Module] = []
        for multiple, stride in STAGES:
            channels = multiple * self.width
            blocks += [BasicBlock(before, channels, stride), BasicBlock(channels, channels, 1)]
            before = channels
        return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, classes))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, channels, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != channels:
            convolution = nn.Conv2d(before, channels, kernel_size=1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(convolution, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features (B, channels, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))

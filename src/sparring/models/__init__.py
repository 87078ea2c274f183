"""Classifiers, and what stands inside them: each takes float images in [0, 1] and gives logits."""

from collections import OrderedDict

import torch
from torch import nn

from sparring.core.spec import Catalogue
from sparring.models.adapted import adapt
from sparring.models.base import Model
from sparring.models.cnn import CNN
from sparring.models.convnet import ConvNet
from sparring.models.external import External
from sparring.models.from_timm import Timm
from sparring.models.from_torchvision import Torchvision
from sparring.models.lenet import LeNet
from sparring.models.mlp import MLP
from sparring.models.resnet import ResNet18
from sparring.models.squeezenet import SqueezeNet

MODELS = Catalogue(Model, "model", (MLP, LeNet, CNN, ConvNet, ResNet18, SqueezeNet, Timm, Torchvision, External))


def assemble(normalise: nn.Module, network: nn.Module) -> nn.Module:
    """Return the classifier: normalisation, then the network; convolutions in the layout that is fastest here."""
    whole = nn.Sequential(OrderedDict(normalise=normalise, network=network))
    whole.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing from torch's stubs
    return whole


__all__ = [
    "CNN",
    "MLP",
    "MODELS",
    "ConvNet",
    "External",
    "LeNet",
    "Model",
    "ResNet18",
    "SqueezeNet",
    "Timm",
    "Torchvision",
    "adapt",
    "assemble",
]

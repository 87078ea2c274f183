"""Optimisers by call string: `sgd(lr=0.1)`, `adam()`; they are torch's own."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import nn

from sparring.core.errors import InputError
from sparring.core.spec import Catalogue, Component


@dataclass(frozen=True, kw_only=True)
class Optimiser(Component, ABC):
    """How a network's parameters follow its gradient."""

    lr: float

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise InputError(f"{self.name}: lr must be more than 0, not {self.lr}")

    @abstractmethod
    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        """Return torch's optimiser over the network's parameters."""


@dataclass(frozen=True, kw_only=True)
class SGD(Optimiser):
    """Stochastic gradient descent with momentum."""

    name = "sgd"
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            network.parameters(), self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov
        )


@dataclass(frozen=True, kw_only=True)
class Adam(Optimiser):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980)."""

    name = "adam"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(network.parameters(), self.lr, self.betas, weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class AdamW(Optimiser):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    name = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(network.parameters(), self.lr, self.betas, weight_decay=self.weight_decay)


OPTIMISERS = Catalogue(Optimiser, "optimiser", (SGD, Adam, AdamW))

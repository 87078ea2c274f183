"""Optimisers by call string: `sgd(lr=0.1)`, `adam()`; they are torch's own."""

import math
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
        if not 0 < self.lr < math.inf:
            raise InputError(f"{self.name}: lr must be more than 0, and finite, not {self.lr}")

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

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise InputError(f"sgd: momentum is a share from 0 to less than 1, not {self.momentum}")
        if self.nesterov and not self.momentum:
            raise InputError("sgd: nesterov looks ahead by the momentum; set momentum, too, such as momentum=0.9")
        _check_decay("sgd", self.weight_decay)

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

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_betas(self.name, self.betas)
        _check_decay(self.name, self.weight_decay)

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(network.parameters(), self.lr, self.betas, weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class AdamW(Optimiser):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101)."""

    name = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_betas(self.name, self.betas)
        _check_decay(self.name, self.weight_decay)

    def build(self, network: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(network.parameters(), self.lr, self.betas, weight_decay=self.weight_decay)


def _check_betas(name: str, betas: tuple[float, float]) -> None:
    if not all(0 <= beta < 1 for beta in betas):
        raise InputError(f"{name}: betas are shares from 0 to less than 1, not {betas}")


def _check_decay(name: str, weight_decay: float) -> None:
    if not 0 <= weight_decay < math.inf:
        raise InputError(f"{name}: weight_decay must be at least 0, and finite, not {weight_decay}")


OPTIMISERS = Catalogue(Optimiser, "optimiser", (SGD, Adam, AdamW))

"""Manifold mixup (Verma et al. 2019, arXiv:1806.05236)."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparring.attacks import Attack
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.core.trainable import Setup, State
from sparring.defences.base import LossDefence
from sparring.defences.crafted import CraftedOnDemand
from sparring.defences.mixup import blend, draw_mix, mixed_loss
from sparring.defences.proportions import check_alpha
from sparring.models.layers import named_layer

INPUT = "input"


@dataclass(frozen=True, kw_only=True)
class ManifoldMixup(CraftedOnDemand, LossDefence):
    """Mixup of what one of `layers` gives out, drawn anew for each batch; "input" stands for the images themselves.

    With an `attack` it mixes images that this makes of the batch within `threat` (arXiv:1906.06784, without the half of
    the loss that is on clean images).
    """

    name = "manifold_mixup"
    source = "arXiv:1806.05236"
    layers: tuple[str, ...]
    alpha: float = 2.0
    attack: Attack | None = None
    threat: ThreatModel | None = None

    def __post_init__(self) -> None:
        check_alpha(self.name, self.alpha)
        self.check_attack()
        if not self.layers:
            raise InputError('manifold_mixup: layers is empty; name some, such as layers=("input", "1")')

    def init(self, setup: Setup) -> State:
        state = super().init(setup)
        for name in self.layers:
            if name != INPUT:
                named_layer(state.learners["classifier"].network, name)
        return state

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        self.keep(state, x, y)
        return super().step(state, x, y, progress=progress, generator=generator)

    def loss(
        self, net: nn.Module, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x = self.images(net, x, y, generator=generator)
        share, order = draw_mix(len(x), self.alpha, generator)
        chosen = torch.randint(len(self.layers), (), generator=generator, device=generator.device)
        with ExitStack() as hooks:
            for place, name in enumerate(self.layers):
                # a share of 1 changes nothing in the others: to skip them would be to wait for the device
                own = torch.where(chosen == place, share, 1.0)
                if name == INPUT:
                    x = blend(x, own, order)
                else:
                    hooks.enter_context(blended(named_layer(net, name), own, order))
            return mixed_loss(net(x), y, share, order)


@contextmanager
def blended(layer: nn.Module, share: Tensor, order: Tensor) -> Iterator[None]:
    """Blend what a layer gives, once: where a network uses it again it would blend what is blended."""

    def once(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        hook.remove()
        return blend(output, share, order)

    hook = layer.register_forward_hook(once)
    try:
        yield
    finally:
        hook.remove()

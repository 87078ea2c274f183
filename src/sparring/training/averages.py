"""A moving average of a network's weights, kept in a training's state."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from sparring.core.trainable import State

STEPS = "steps"  # of an average; no parameter is so called, for theirs have a dot or are a layer's


def begin_average(state: State, kept: str, network: nn.Module) -> None:
    """Begin an average of `network`, its parameters and running statistics, under names that begin with `kept`."""
    averages = {kept + name: value.clone() for name, value in _averaged(network).items()}
    where = next(iter(averages.values())).device
    state.extra |= {**averages, kept + STEPS: torch.zeros((), dtype=torch.int64, device=where)}


def follow(state: State, kept: str, network: nn.Module, decay: float) -> None:
    """Move the average towards the network: average = d * average + (1 - d) * network.

    d is `decay`, but in the t-th step no more than t / (9 + t): the first weights, which know nothing, are soon
    forgotten.
    """
    steps = state.extra[kept + STEPS].add_(1)
    share = 1 - (steps / (9 + steps)).clamp(max=decay)
    for name, value in _averaged(network).items():
        state.extra[kept + name].lerp_(value, share.to(value.dtype))


def with_values(network: nn.Module, values: dict[str, Tensor], kept: str) -> nn.Module:
    """Return a copy of `network` with those of its parameters and buffers that `values` has, by `kept` and name."""
    copy = deepcopy(network)
    copy.load_state_dict({name: values.get(kept + name, value) for name, value in network.state_dict().items()})
    return copy


def _averaged(network: nn.Module) -> dict[str, Tensor]:
    """Return what is averaged of the network, by name, without its graph; counters are not."""
    return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}

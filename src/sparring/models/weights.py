"""Weights from elsewhere, by name: found, read without running anything, and compared before they are loaded."""

import logging
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.data.download import data_folders

log = logging.getLogger("sparring")


def read_weights(name: str) -> dict[str, Tensor]:
    """Read a safetensors file, as `name` says or below a data folder; raises InputError naming it."""
    places = [Path(name), *(folder / name for folder in data_folders())]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise InputError(f"weights: {name} is not to be found; looked at {', '.join(map(str, places))}")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: not readable as safetensors ({error})") from None


def fill(network: nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """Load weights by name; raises InputError that says which names or shapes differ."""
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    missing, foreign = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    shapes = [
        f"{name} is {given[name]}, not {wanted[name]}"
        for name in wanted
        if name in given and given[name] != wanted[name]
    ]
    told = [f"missing {_some(missing)}"] * bool(missing) + [f"unknown {_some(foreign)}"] * bool(foreign) + shapes[:3]
    if told:
        raise InputError(f"{where}: these weights are of another network: {'; '.join(told)}")
    network.load_state_dict(weights)


def fill_but_last(network: nn.Module, weights: dict[str, Tensor], where: str) -> None:
    """As `fill`, but a last layer for another number of classes keeps what it has, with a line that says so."""
    own = network.state_dict()
    other = [name for name, value in weights.items() if name in own and own[name].shape != value.shape]
    rows_alone = all(own[name].shape[1:] == weights[name].shape[1:] for name in other)
    if other and rows_alone and len({name.rpartition(".")[0] for name in other}) == 1:
        classes = len(own[other[0]])
        log.warning("%s: %s begins anew, for %d classes", where, other[0].rpartition(".")[0], classes)
        weights = weights | {name: own[name] for name in other}
    fill(network, weights, where)


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

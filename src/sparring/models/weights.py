"""Weights from elsewhere, by name: found, read without running anything, and compared before they are loaded."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.data.download import data_folders


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


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")

"""The layers of a network by name, and what they give out."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.models.mask import Masked
from sparring.models.modes import in_use

OURS = "network."  # where `assemble` puts the network; its layers may be named without it


def named_layer(classifier: nn.Module, name: str) -> nn.Module:
    """Return the layer called `name`, of what stands behind masks; raises InputError that lists those there are."""
    whole: dict[str, nn.Module] = dict(classifier.named_modules())
    while isinstance(classifier, Masked):
        classifier = classifier.classifier
    layers: dict[str, nn.Module] = dict(classifier.named_modules())
    for known in (name, OURS + name, *(known for known in layers if known.endswith("." + OURS + name))):
        if name and known in layers:
            return layers[known]
    if name and name in whole:
        return whole[name]
    names = [known.split(OURS)[-1] for known, module in layers.items() if known and not list(module.children())]
    raise InputError(f"the model has no layer {name!r}; it has {', '.join(names)}")


def feature_size(classifier: nn.Module, name: str, shape: tuple[int, int, int]) -> int:
    """Return how many values the layer called `name` gives out for one image of `shape` (C, H, W)."""
    where = next(iter(classifier.parameters())).device
    with torch.no_grad(), in_use(classifier):
        return layer_output(classifier, name, torch.zeros(1, *shape, device=where)).numel()


def layer_output(classifier: nn.Module, name: str, x: Tensor) -> Tensor:
    """Return what the layer called `name` gives out when the classifier is shown `x` (B, C, H, W), in the graph.

    Raises InputError if it is not used just once.
    """
    with tapped(named_layer(classifier, name)) as outputs:
        classifier(x)
    if len(outputs) != 1:
        raise InputError(f"the model uses its layer {name!r} {len(outputs)} times for an image; name one it uses once")
    return outputs[0]


@contextmanager
def tapped(layer: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what `layer` gives out at each call, in the graph, in a list."""
    outputs: list[Tensor] = []
    hook = layer.register_forward_hook(lambda _layer, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        hook.remove()

"""What a model's modules say of how an attack must go through them; see `sparring.attacks.adaptation`."""

from torch import nn

KNOWN = frozenset({"bpda", "eot"})


def adaptation(model: nn.Module) -> frozenset[str]:
    """Return what an attack on the whole model needs: the union over what its modules declare."""
    found: frozenset[str] = frozenset()
    for module in model.modules():
        found |= declared(module) & KNOWN
    return found


def declared(module: nn.Module) -> frozenset[str]:
    """Return what one module says."""
    found: object = getattr(module, "adaptive", None)  # any module may be there, not only ours
    words = (found,) if isinstance(found, str) else found
    if not isinstance(words, set | frozenset | list | tuple):
        return frozenset()
    return frozenset(str(word).lower() for word in words)

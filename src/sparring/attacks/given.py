"""What is handed to an attack, and what it hands back, refused in one clear line if it is not as said."""

import torch
from torch import Tensor, nn

from sparring.core.errors import InputError

CHANNELS = (1, 3)  # that most images have
PRECISIONS = (torch.float32, torch.float64)  # eps is finer than what 16 bits can tell apart


def check_model(model: object) -> None:
    """Raise InputError if the model is no module, or if torch is told not to follow gradients."""
    if not isinstance(model, nn.Module):
        raise InputError(f"model: expected a torch.nn.Module, not {type(model).__name__}; put a function into a module")
    if torch.is_inference_mode_enabled():
        raise InputError("torch.inference_mode() is on, so no gradient can be taken; call this outside of it")


def check_images(x: Tensor) -> None:
    """Raise InputError unless `x` is float32 or float64 (N, C, H, W), N at least 1, in [0, 1]."""
    _check_tensor(x, "x")
    if x.ndim != 4 or x.dtype not in PRECISIONS or x.numel() == 0:
        raise InputError(f"x: expected float32 images (N, C, H, W), N at least 1, not {x.dtype} {tuple(x.shape)}")
    _check_pixels(x)


def check_examples(
    x: Tensor, y: Tensor, target: Tensor | None, ids: Tensor | None, start: Tensor | None, batch_size: int | None
) -> None:
    """Raise InputError unless `x` is (N, C, H, W) in [0, 1], and labels and ids are int64 (N,)."""
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    check_images(x)
    for name, numbers in (("y", y), ("target", target), ("ids", ids)):
        if name != "y" and numbers is None:
            continue
        _check_tensor(numbers, name)
        assert numbers is not None
        if numbers.shape != (len(x),) or numbers.dtype != torch.int64:
            raise InputError(f"{name}: expected int64 ({len(x)},), not {numbers.dtype} {tuple(numbers.shape)}")
    if start is not None and (not isinstance(start, Tensor) or start.shape != x.shape or start.dtype != x.dtype):
        raise InputError(f"start: expected images of shape {tuple(x.shape)} and {x.dtype}, like x")


def check_labels(labels: Tensor | None, classes: int, what: str) -> None:
    """Raise InputError if a label is not one of the model's classes."""
    if labels is None:
        return
    wrong = (labels < 0) | (labels >= classes)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise InputError(f"{what}[{row}] is {int(labels[row])}, but the model has classes 0 to {classes - 1}")


def remedy(model: nn.Module, x: Tensor) -> str:
    """Return what may help a model that fails on images `x`, begun with a semicolon; empty if nothing is known."""
    own = next((each.dtype for each in model.parameters() if each.is_floating_point()), x.dtype)
    if own != x.dtype:
        return "; sparring.models.adapt(net) gives a network images of its own type"
    if x.shape[1] not in CHANNELS and x.shape[-1] in CHANNELS:
        return "; images whose channels come last are turned by x.permute(0, 3, 1, 2)"
    return ""


def wrapping(given: object) -> str:
    """Return what to do with a model that gives this instead of logits."""
    if isinstance(given, dict):
        return f"wrap it: sparring.models.adapt(net, output=...), one of {', '.join(map(repr, given))}"
    return "wrap it: sparring.models.adapt(net, output=0)" if isinstance(given, tuple | list) else "wrap it"


def perturbed(given: object, x: Tensor, name: str) -> Tensor:
    """Return the images that the attack `name` made of `x`, without gradient.

    Raises InputError unless they are of the shape, type and device of `x`: others would be stretched to fit.
    """
    if not isinstance(given, Tensor):
        raise InputError(f"{name}: perturb returned {type(given).__name__}; let it return images {_kind(x)}, like x")
    if (given.shape, given.dtype, given.device) != (x.shape, x.dtype, x.device):
        raise InputError(f"{name}: perturb returned {_kind(given)}; let it return images {_kind(x)}, like x")
    return given.detach()


def _kind(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)} on {x.device}"


def _check_tensor(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        raise InputError(f"{name}: expected a tensor, not {type(value).__name__}")


def _check_pixels(x: Tensor) -> None:
    bad = ~((x >= 0) & (x <= 1)).flatten(1).all(1)
    if bool(bad.any()):
        row = int(bad.nonzero()[0])
        seen = "NaN" if bool(x[row].isnan().any()) else f"{x[row].min():.4g} to {x[row].max():.4g}"
        raise InputError(f"x[{row}] has pixels outside [0, 1] ({seen}); scale images to [0, 1], normalise in the model")

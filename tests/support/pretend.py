"""A device that is none: tensors of "pretend" compute on the CPU, and refuse to meet those of the CPU as a GPU's do.

They have no float64, as those of Apple's GPUs have none. What forgets to move a tensor, or draws from the wrong
generator, fails here as it would on a GPU, which few machines that run these tests have. Built on torch's hook for
devices from outside (PrivateUse1), in Python.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
aten = torch.ops.aten
CROSSING = (aten.copy_.default, aten._to_copy.default)  # what may name two devices
INDEXING = (aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default)
# What the fallback cannot do: some make an empty tensor and then give it a size, some are called from within torch.
MADE = (
    *("_to_copy", "copy_", "empty_strided", "empty.memory_format", "detach", "alias"),
    *("arange", "arange.start", "arange.start_step", "linspace", "eye", "eye.m"),
)


class PretendTensor(Tensor):
    """A tensor that says it is on the device; `raw` is the one on the CPU that it stands for."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> "PretendTensor":
        made = Tensor._make_wrapper_subclass(
            cls,
            raw.shape,
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            device=torch.device(NAME, 0),
        )
        made.raw = raw
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(op, args, kwargs or {})

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.raw.__reduce_ex__(protocol)  # a file is read to the CPU, whatever it was written from

    def __repr__(self) -> str:  # type: ignore[override]
        return f"{NAME}({self.raw})"


PlainGenerator = torch.Generator
generators: "weakref.WeakSet[torch.Generator]" = weakref.WeakSet()


class PretendGenerator(PlainGenerator):
    """A generator that knows the device it was made for, though its numbers come from the CPU."""

    def __new__(cls, device: Any = "cpu") -> "PretendGenerator":
        made = PlainGenerator.__new__(cls, "cpu")
        made.where = torch.device(device)
        generators.add(made)
        return made

    def __init__(self, device: Any = "cpu") -> None:
        pass

    @property
    def device(self) -> torch.device:
        return self.where


class Watching(TorchFunctionMode):
    """Sees that a generator of the device draws there: torch takes it for the CPU's, and would let it draw here."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        generator = (kwargs or {}).get("generator")
        if isinstance(generator, PretendGenerator) and isinstance(found, Tensor) and found.device != generator.device:
            raise RuntimeError(f"{function}: the generator is of {generator.device}, and draws on {found.device}")
        return found


def _belongs(generator: torch.Generator) -> str:
    """Return the device of a generator that lost its Python object on its way through torch, found by its state."""
    state = generator.get_state()
    return next((g.device.type for g in generators if torch.equal(g.get_state(), state)), "cpu")


def _computed(op: Any, args: Any, kwargs: Any) -> Any:
    """Compute on the CPU what is asked of the device, if its tensors and generators are all there."""
    leaves = tree_leaves((args, kwargs))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    ours = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
    _refuse_strangers(op, args, tensors)
    place = kwargs.get("device")
    away = op is aten._to_copy.default and place is not None and torch.device(place).type == "cpu"
    for generator in (leaf for leaf in leaves if isinstance(leaf, PlainGenerator)):
        if _belongs(generator) != NAME:
            raise RuntimeError(f"{op}: expected a generator of {NAME}, not of {_belongs(generator)}")
    raw_args, raw_kwargs = tree_map_only(PretendTensor, lambda tensor: tensor.raw, (args, kwargs))
    raw_kwargs = {k: torch.device("cpu") if k == "device" and v is not None else v for k, v in raw_kwargs.items()}
    raw_kwargs.pop("pin_memory", None)
    with _own_noise(op):
        found = op(*raw_args, **raw_kwargs)
    if any(tensor.shape != tensor.raw.shape for tensor in ours):
        raise NotImplementedError(f"{op} changes a shape in place, which {NAME} cannot follow")
    if away or op is aten._local_scalar_dense.default:
        return found
    if any(isinstance(raw, Tensor) and raw.dtype == torch.float64 for raw in tree_leaves(found)):
        raise TypeError(f"{op}: {NAME} has no float64, as Apple's GPUs have none")
    known = {id(tensor.raw): tensor for tensor in ours}
    if op is aten.copy_.default:
        return args[0]
    return tree_map_only(Tensor, lambda raw: known[id(raw)] if id(raw) in known else PretendTensor(raw), found)


def _refuse_strangers(op: Any, args: Any, tensors: list[Tensor]) -> None:
    """Raise RuntimeError where tensors of both devices meet; numbers, and the places of an index, may be the CPU's."""
    if op in CROSSING or not any(isinstance(tensor, PretendTensor) for tensor in tensors):
        return
    written = [given for told, given in zip(op._schema.arguments, args, strict=False) if _is_written(told)]
    if any(isinstance(given, Tensor) and not isinstance(given, PretendTensor) for given in written):
        raise RuntimeError(f"{op}: a tensor of the CPU cannot hold what is on {NAME}")
    meeting = [args[0], *args[2:3]] if op in INDEXING else tensors
    if any(isinstance(tensor, Tensor) and tensor.ndim and not isinstance(tensor, PretendTensor) for tensor in meeting):
        raise RuntimeError(f"{op}: tensors are on {' and '.join(sorted({tensor.device.type for tensor in tensors}))}")


def _is_written(argument: Any) -> bool:
    """Return whether an operation changes this argument in place."""
    return argument.alias_info is not None and bool(argument.alias_info.is_write)


@contextmanager
def _own_noise(op: Any) -> Iterator[None]:
    """Let what draws without a generator draw from the device's global state, not the CPU's."""
    if torch.Tag.nondeterministic_seeded not in op.tags:
        yield
        return
    held = torch.default_generator.get_state()
    torch.default_generator.set_state(_everyone.get_state())
    try:
        yield
    finally:
        _everyone.set_state(torch.default_generator.get_state())
        torch.default_generator.set_state(held)


_everyone = PlainGenerator()


class _Module:
    """What torch asks about a device, as `torch.pretend`."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        _everyone.manual_seed(seed)

    def get_rng_state(self, device: Any = None) -> Tensor:
        return _everyone.get_state()

    def set_rng_state(self, state: Tensor, device: Any = None) -> None:
        _everyone.set_state(state)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


def fabric(accelerator: str = "auto", devices: Any = 1, **settings: Any) -> Fabric:
    """Return Lightning's Fabric, of this device where it is named, which Lightning itself would take for the CPU."""
    if accelerator != NAME:
        return Fabric(accelerator=accelerator, devices=devices, **settings)
    return Fabric(strategy=SingleDeviceStrategy(device=present(), accelerator=CPUAccelerator()), **settings)


@cache
def present() -> torch.device:
    """Return the device, made known to torch for the rest of this process at the first call."""
    _setup_privateuseone_for_python_backend(NAME, _Module())
    everything = torch.library.Library("_", "IMPL")
    everything.fallback(lambda op, *args, **kwargs: _computed(op, args, kwargs), "PrivateUse1")
    some = torch.library.Library("aten", "IMPL")
    for name in MADE:
        packet, _, overload = name.partition(".")
        some.impl(name, partial(_called, getattr(getattr(aten, packet), overload or "default")), "PrivateUse1")
    _libraries.extend((everything, some))  # which take back what they registered when they go
    return torch.device(NAME, 0)


_libraries: list[torch.library.Library] = []


def _called(op: Any, *args: Any, **kwargs: Any) -> Any:
    return _computed(op, args, kwargs)

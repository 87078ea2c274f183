"""Code from outside that a call string names, `external("package.module:name", width=3)`: importing it runs it."""

import functools
import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from sparring.core.errors import InputError

EXTERNAL = "external"
_shut: ContextVar[bool] = ContextVar("_shut", default=False)


@contextmanager
def nothing_imported() -> Iterator[None]:
    """Refuse whatever names code from outside meanwhile: what is read comes from a file, and who knows from whom."""
    before = _shut.set(True)
    try:
        yield
    finally:
        _shut.reset(before)


def imported(module: str, asked: str) -> ModuleType:
    """Import a module; raises InputError that says who asked for it and how it is to be had."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{asked}: the module {module!r} cannot be imported ({error})") from None


@contextmanager
def told(path: str) -> Iterator[None]:
    """Turn whatever goes wrong in code from outside into one line that names it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise InputError(f"external: {path} failed: {type(error).__name__}: {text}") from error


def found(path: str, what: str) -> Callable[..., Any]:
    """Import what "package.module:name" names, a function or a class (`what`); raises InputError if it is not there."""
    module, colon, name = path.partition(":")
    if not colon or not module or not name or module.startswith("."):
        raise InputError(f'external: expected "package.module:{what}", not {path!r}')
    if _shut.get():
        raise InputError(f"external({path!r}): code from outside is not imported for what a file says")
    with told(path):
        made = getattr(imported(module, f"external({path!r})"), name, None)
    if not callable(made):
        raise InputError(f"external: {module} has no {what} {name!r}")
    return made  # type: ignore[no-any-return]  # whatever is there, known to be callable


def code_named(text: str) -> list[str]:
    """Return a hash of each file of code from outside that call strings in `text` name: what is kept is kept of it."""
    modules = sorted(set(re.findall(rf"""{EXTERNAL}\(\s*\\*['"]([\w.]+):""", text)))
    return [hashlib.sha256(_file(module).read_bytes()).hexdigest() for module in modules]


def _file(module: str) -> Path:
    with told(module):
        spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        raise InputError(f"external: the module {module!r} is in no file")
    return Path(spec.origin)


@functools.cache
def component_class(path: str, base: type[Any]) -> type[Any]:
    """Return the class at "package.module:Class", whose `origin` says where it was found; the same for the same path.

    Raises InputError if there is none, or it does not extend `base`.
    """
    made = found(path, "class")
    if not (isinstance(made, type) and issubclass(made, base)):
        raise InputError(f"external: {path} is no class that extends {base.__module__.split('.')[1]}.{base.__name__}")
    said = {"__module__": made.__module__, "__doc__": made.__doc__, "__qualname__": made.__qualname__, "origin": path}
    pickled = {"__reduce__": lambda self: (_rebuilt, (path, base, vars(self)))}  # by its name the bare class is found
    return type(made.__name__, (made,), {**said, **pickled})


def _rebuilt(path: str, base: type[Any], values: dict[str, object]) -> object:
    made = object.__new__(component_class(path, base))  # type: ignore[arg-type]  # classes do have hashes
    vars(made).update(values)
    return made

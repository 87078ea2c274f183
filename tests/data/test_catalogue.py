"""The contract of every source and augmentation: listed, frozen, and named by its own call string."""

import dataclasses
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import pytest

import sparring.data
from sparring.core.errors import InputError
from sparring.core.spec import Catalogue
from sparring.data import SOURCES, Dataset, FashionMnist, Mnist, Source, load
from sparring.data.augment import AUGMENTATIONS, Augmentation
from sparring.data.cifar import ARCHIVE
from sparring.data.dataset import PublishedFile

CASES = [(catalogue, component) for catalogue in (SOURCES, AUGMENTATIONS) for component in catalogue]


def concrete(base: type) -> set[type]:
    found = {cls for child in base.__subclasses__() for cls in (child, *concrete(child))}
    return {cls for cls in found if not inspect.isabstract(cls) and cls.__module__.startswith("sparring.")}


@pytest.mark.parametrize(("base", "catalogue"), [(Source, SOURCES), (Augmentation, AUGMENTATIONS)])
def test_no_concrete_class_is_missing_from_its_catalogue(base: type, catalogue: Catalogue[Any]) -> None:
    for module in pkgutil.iter_modules(sparring.data.__path__, "sparring.data."):
        importlib.import_module(module.name)
    assert concrete(base) == set(catalogue)


@pytest.mark.parametrize(("catalogue", "component"), CASES)
def test_a_component_is_frozen_and_says_what_it_is_in_one_line(catalogue: Catalogue[Any], component: type) -> None:
    example = component(**({"path": "x"} if component.name == "folder" else {}))
    with pytest.raises(dataclasses.FrozenInstanceError):
        example.name = "other"
    assert "name" in vars(component)
    assert (inspect.getdoc(component) or "").splitlines()[0].endswith(".")
    assert not component.__doc__.startswith(f"{component.__name__}(")  # the text that @dataclass writes by itself


@pytest.mark.parametrize(("catalogue", "component"), CASES)
def test_repr_reads_back_as_the_same_component(catalogue: Catalogue[Any], component: type) -> None:
    odd = {"validation": 17, "padding": 3, "seed": 5}
    fields = {f.name for f in dataclasses.fields(component)}
    arguments = {name: value for name, value in odd.items() if name in fields}
    if component.name == "folder":
        arguments = {"path": 'it\'s "here"', "validation": 0.25, "seed": 5, "size": 7}
    original = component(**arguments)
    assert catalogue.parse(repr(original)) == original
    assert catalogue.parse(str(original)) == original


def test_load_takes_a_call_string_or_a_source_and_names_the_nearest_dataset() -> None:
    assert isinstance(load("digits()"), Dataset)
    assert load(SOURCES.parse("digits(seed=3)")).source == "digits(validation=180, seed=3)"
    with pytest.raises(InputError, match="did you mean 'mnist'"):
        load("minst()")


@pytest.mark.parametrize("file", [*Mnist().files(), *FashionMnist().files(), ARCHIVE])
def test_what_is_published_can_be_checked_and_had_from_two_places(file: PublishedFile) -> None:
    algorithm, digest = file.checksum.split(":")
    assert algorithm == "sha256"
    assert len(bytes.fromhex(digest)) == 32
    assert len({address.split("/")[2] for address in file.mirrors}) >= 2
    wanted = Path(file.path).name.removesuffix(".gz") + ".gz"
    assert all(address.endswith(f"/{wanted}") for address in file.mirrors)

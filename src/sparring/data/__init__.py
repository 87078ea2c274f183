"""Datasets: where images come from, as one tensor a split. Nothing here is downloaded before it is asked for."""

from sparring.core.spec import Catalogue
from sparring.data.cifar import Cifar10
from sparring.data.dataset import Dataset, Source, Split
from sparring.data.digits import Digits
from sparring.data.folder import Folder
from sparring.data.idx import FashionMnist, Mnist

SOURCES = Catalogue(Source, "dataset", (Digits, Mnist, FashionMnist, Cifar10, Folder))


def load(source: str | Source) -> Dataset:
    """Return the dataset that a call string such as "mnist()" or a source names; raise InputError if that cannot be."""
    return SOURCES.parse(source).load()


__all__ = ["SOURCES", "Cifar10", "Dataset", "Digits", "FashionMnist", "Folder", "Mnist", "Source", "Split", "load"]

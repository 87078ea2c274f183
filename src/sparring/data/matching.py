"""Datasets whose classes are not a model's, label by label: matched by name, or by place with a word about it."""

import logging
from dataclasses import replace

import torch

from sparring.core.errors import InputError
from sparring.data.dataset import Dataset, Split

log = logging.getLogger("sparring")


def matched(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    """Return the dataset with labels that are places in `classes`, those of the model that is to judge it.

    Classes that the model knows are matched by name. With other names, but as many, labels stay as they are, and the
    note says so. Raises InputError, naming the first class that differs, where neither can be.
    """
    if dataset.classes == classes:
        return dataset
    unknown = [name for name in dataset.classes if name not in classes]
    if not unknown:
        return _renumbered(dataset, classes)
    if len(dataset.classes) != len(classes):
        raise InputError(
            f"{dataset.source}: the model knows no class {unknown[0]!r}; its {len(classes)} are {_some(classes)}, the "
            f"data's {len(dataset.classes)} {_some(dataset.classes)}"
        )
    note = f"labels are matched by place: the data's {unknown[0]!r} is no class of the model's ({_some(classes)})"
    log.warning("%s: %s", dataset.source, note)
    return replace(dataset, note="; ".join(filter(None, (dataset.note, note))))


def _renumbered(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    places = torch.tensor([classes.index(name) for name in dataset.classes])

    def of(part: Split) -> Split:
        return replace(part, y=places[part.y])

    note = "; ".join(filter(None, (dataset.note, "labels are matched to the model's classes by name")))
    train, validation, test = map(of, (dataset.train, dataset.validation, dataset.test))
    return Dataset(dataset.source, classes, train, validation, test, note)


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")

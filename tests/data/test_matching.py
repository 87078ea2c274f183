"""Labels are matched to a model's classes by name where its names are the data's, and by place with a word about it."""

import logging

import pytest
import torch

from sparring.core.errors import InputError
from sparring.data import Dataset, Split
from sparring.data.matching import matched


def dataset(*classes: str) -> Dataset:
    count = len(classes)
    part = Split(torch.zeros(count, 1, 2, 2, dtype=torch.uint8), torch.arange(count), torch.arange(count))
    return Dataset("mine", classes, part, part, part, "as found")


def test_the_same_classes_leave_the_data_as_it_is() -> None:
    data = dataset("ant", "bee")
    assert matched(data, ("ant", "bee")) is data


def test_a_permutation_and_a_part_of_the_models_classes_are_matched_by_name() -> None:
    for names, labels in ((("cat", "ant", "bee"), [2, 0, 1]), (("cat", "bee"), [2, 1])):
        found = matched(dataset(*names), ("ant", "bee", "cat"))
        assert found.classes == ("ant", "bee", "cat")
        assert found.train.y.tolist() == found.validation.y.tolist() == found.test.y.tolist() == labels
        assert found.note == "as found; labels are matched to the model's classes by name"


def test_other_names_as_many_are_matched_by_place_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "sparring"):
        found = matched(dataset("ant", "wasp"), ("ant", "bee"))
    assert found.test.y.tolist() == [0, 1]
    assert "matched by place: the data's 'wasp' is no class of the model's (ant, bee)" in found.note
    assert "matched by place" in caplog.text


def test_other_names_in_another_number_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"mine: the model knows no class 'wasp'; its 3 are ant, bee, cat, the data's 2"
    ):
        matched(dataset("ant", "wasp"), ("ant", "bee", "cat"))

"""What may be handed over as data: every form gives the same examples, and what is wrong is named with its row."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils import data as torch_data
from torch.utils.data import DataLoader, TensorDataset

from sparring.core.errors import InputError
from sparring.data import Digits, Folder, load
from sparring.data.dataset import Dataset, to_float
from sparring.data.given import Data, Examples, examples_of

X = torch.rand(12, 3, 4, 5, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 4


def changed(x: Tensor, row: int, value: float) -> Tensor:
    out = x.clone()
    out[row, 1, 2, 3] = value
    return out


def test_a_call_string_a_source_and_a_dataset_mean_the_same() -> None:
    data = load("digits()")
    for given in ("digits()", Digits(), data):
        found = examples_of(given, "validation")
        assert torch.equal(found.x, data.validation.x)
        assert torch.equal(found.ids, data.validation.ids)
        assert found.source == "digits(validation=180, seed=0)"
        assert (found.split, found.classes) == ("validation", data.classes)
    assert len(examples_of("digits()")) == 360


def test_float_tensors_are_kept_to_the_bit_and_bytes_stay_bytes() -> None:
    found = examples_of((X, Y))
    assert torch.equal(found.x, X)
    assert (found.source, found.classes, found.ids.tolist()) == ("given tensors", (), list(range(12)))
    as_bytes = (X * 255).to(torch.uint8)
    assert examples_of((as_bytes, Y)).x.dtype == torch.uint8
    assert torch.equal(examples_of((as_bytes, Y)).images(), to_float(as_bytes))
    assert torch.equal(examples_of((X.half(), Y)).x, X.half().float())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_labels_of_any_whole_number_type_become_int64(dtype: torch.dtype) -> None:
    found = examples_of((X, Y.to(dtype)))
    assert found.y.dtype == torch.int64
    assert torch.equal(found.y, Y)


def test_images_that_carry_a_gradient_are_cut_off_from_it() -> None:
    x = X.clone().requires_grad_()
    assert not examples_of((x, Y)).x.requires_grad


def test_examples_keep_their_provenance_through_sample_and_take() -> None:
    found = examples_of("digits()").sample(5, seed=1)
    assert isinstance(found, Examples)
    assert (len(found), found.split, found.source) == (5, "test", "digits(validation=180, seed=0)")
    assert found.take(torch.tensor([4])).ids == found.ids[4]
    assert examples_of(found) is found


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_loader_is_read_whole_and_leaves_the_global_random_state(shuffle: bool) -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=5, shuffle=shuffle)
    state = torch.get_rng_state()
    found = examples_of(loader)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.source == "given loader"
    rows = [int((image == X).flatten(1).all(1).nonzero()) for image in found.x]
    assert sorted(rows) == list(range(12))
    assert torch.equal(found.y, Y[rows])
    assert (rows == list(range(12))) is not shuffle


@pytest.mark.parametrize(
    ("x", "says"),
    [
        (changed(X, 7, float("nan")), "example 7 holds NaN"),
        (changed(changed(X, 9, float("nan")), 4, float("-inf")), "example 4 holds infinite pixels"),
        (changed(X, 3, 1.5), r"example 3 lie in .*\.\.1\.5.* divide by 255"),
        (changed(X, 3, 1.0000002), r"example 3 .* x\.clamp"),
        (changed(X, 11, -1e-8), r"example 11 .* x\.clamp"),
        (X * 255, r"example 0 .* divide by 255"),
        ((X - 0.4) / 0.2, r"example 0 .* undo the normalisation"),
        (X[:, 0], r"shape \(N, C, H, W\), not \(12, 4, 5\).*unsqueeze"),
        (X[0, 0], r"shape \(N, C, H, W\)"),
        (X[:, :0], r"shape \(N, C, H, W\)"),
        ((X * 255).long(), "images are int64"),
        (X > 0.5, "images are bool"),
        (X[:5], "5 images and 12 labels"),
    ],
)
def test_bad_images_are_named_with_the_fix(x: Tensor, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        examples_of((x, Y))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (Y - 1, "label -1 of example 0 is negative"),
        (Y + 0.5 * (Y == 2), "label 2.5 of example 2 is not a whole number"),
        (torch.where(Y == 3, torch.nan, Y), "label nan of example 3"),
        (Y.float(), r"labels are float32.*y\.long\(\)"),
        (Y > 1, r"labels are bool.*y\.long\(\)"),
        (torch.eye(4)[Y], r"one-hot labels, y\.argmax\(1\)"),
    ],
)
def test_bad_labels_are_named_with_the_fix(y: Tensor, says: str) -> None:
    with pytest.raises(InputError, match=says):
        examples_of((X, y))


def test_no_examples_are_refused_in_every_form() -> None:
    empty = TensorDataset(X[:0], Y[:0])
    for given in ((X[:0], Y[:0]), DataLoader(empty)):
        with pytest.raises(InputError, match=r"no (examples|batches)"):
            examples_of(given)
    data = load("digits()")
    hollow = Dataset("hollow", data.classes, data.train, data.validation, data.test.take(torch.tensor([], dtype=int)))
    with pytest.raises(InputError, match="hollow: there are no examples in test"):
        examples_of(hollow)


def test_loaders_of_something_else_are_refused() -> None:
    with pytest.raises(InputError, match=r"batch 0 to be \(images, labels\), not \(Tensor\)"):
        examples_of(DataLoader(TensorDataset(X)))
    ragged = [(X[0], 1), (X[0, :, :2], 1)]
    with pytest.raises(InputError, match="batch 1 has"):
        examples_of(DataLoader(ragged, batch_size=1))
    bad = DataLoader(TensorDataset(changed(X, 8, 2.0), Y), batch_size=5)
    with pytest.raises(InputError, match="given loader: pixels of example 8"):
        examples_of(bad)


@pytest.mark.parametrize("given", [X, None, 3, (X.tolist(), Y), (X, Y, Y), {"x": X}])
def test_anything_else_is_refused_in_one_line_that_says_what_is_possible(given: object) -> None:
    with pytest.raises(InputError, match="expected a dataset's call string, a Dataset, a pair of tensors") as error:
        examples_of(given)  # type: ignore[arg-type]
    assert len(str(error.value)) < 300


def test_a_dataset_of_floats_is_checked_too() -> None:
    data = load("digits()")
    broken = to_float(data.test.x)
    broken[5] = torch.nan
    parts = [type(p)(to_float(p.x), p.y, p.ids) for p in (data.train, data.validation)]
    with pytest.raises(InputError, match="floats: test: example 5 holds NaN"):
        examples_of(Dataset("floats", data.classes, *parts, type(data.test)(broken, data.test.y, data.test.ids)))


def test_a_wrong_call_string_or_split_is_an_input_error() -> None:
    with pytest.raises(InputError, match="unknown dataset"):
        examples_of("digit")
    with pytest.raises(InputError, match="unknown split 'tset'"):
        examples_of("digits()", "tset")
    with pytest.raises(InputError, match="does not exist"):
        examples_of(Folder("nowhere"))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_numpy_arrays_are_as_good_as_tensors(dtype: type) -> None:
    x = (np.random.default_rng(0).random((5, 2, 3, 4)) * (255 if dtype is np.uint8 else 1)).astype(dtype)
    y = np.arange(5)
    given, tensors = examples_of((x, y)), examples_of((torch.from_numpy(x), torch.from_numpy(y)))
    assert torch.equal(given.x, tensors.x)
    assert torch.equal(given.y, tensors.y)
    assert examples_of((x[:, :, ::-1], y)).x.shape == (5, 2, 3, 4)  # negative strides are no tensor's
    with pytest.raises(InputError, match="not an array of"):
        examples_of((x, np.array(list("abcde"))))


def test_a_dataset_of_pytorch_is_read_whole() -> None:
    x, y = torch.rand(600, 1, 2, 2), torch.arange(600) % 3
    given = examples_of(TensorDataset(x, y))
    assert torch.equal(given.x, x)
    assert torch.equal(given.y, y)


class Counting(torch_data.Dataset[tuple[Tensor, int]]):
    """Its images say which they are; it notes what was read."""

    def __init__(self, length: int, bad: int = -1, label: int = -1) -> None:
        self.length, self.bad, self.label = length, bad, label
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        self.read.append(row)
        value = 2.0 if row == self.bad else row / self.length
        return torch.full((1, 2, 2), value), -1 if row == self.label else row % 3


class Streaming(torch_data.IterableDataset[tuple[Tensor, int]]):
    def __len__(self) -> int:
        return 100

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return iter(Counting(100)[row] for row in range(100))


def test_of_a_dataset_with_a_length_only_the_drawn_examples_are_read() -> None:
    """A million images were decoded to judge five of them."""
    data = Counting(1000)
    some, whole = examples_of(data, count=5, seed=3), examples_of(Counting(1000)).sample(5, seed=3)
    assert data.read == some.ids.tolist() == whole.ids.tolist()
    assert torch.equal(some.x, whole.x)
    assert torch.equal(some.y, whole.y)
    assert (some.source, some.split) == (whole.source, whole.split)


@pytest.mark.parametrize("data", [Streaming(), DataLoader(Counting(100), batch_size=7), (X, Y), "digits()"])
def test_all_that_is_read_whole_gives_the_same_subset_as_before(data: Data) -> None:
    assert examples_of(data, count=5, seed=3).ids.tolist() == examples_of(data).sample(5, seed=3).ids.tolist()
    assert len(examples_of(data, count=5, seed=3)) == 5
    assert len(examples_of(data, count=5000)) == len(examples_of(data))


def test_a_bad_one_among_the_drawn_is_called_by_its_place_in_the_whole() -> None:
    bad = int(examples_of(Counting(1000), count=5, seed=3).ids[2])
    with pytest.raises(InputError, match=f"pixels of example {bad} lie"):
        examples_of(Counting(1000, bad=bad), count=5, seed=3)
    with pytest.raises(InputError, match=f"label -1 of example {bad} is negative"):
        examples_of(Counting(1000, label=bad), count=5, seed=3)
    with pytest.raises(InputError, match="examples: expected at least 1"):
        examples_of(Counting(1000), count=0)


def test_images_that_are_no_tensors_are_refused_in_one_line() -> None:
    pictures = [(Image.new("L", (2, 2)), 0)] * 3
    with pytest.raises(InputError, match="give images as tensors"):
        examples_of(DataLoader(pictures, batch_size=2))

"""Splits and datasets: what they refuse, and that dividing one loses nothing and repeats by seed."""

import pytest
import torch

from sparring.core.errors import InputError
from sparring.data import Dataset, Digits, Split, load
from sparring.data.dataset import check_labels, holdout, stratified, to_float


def make_split(count: int = 10, dtype: torch.dtype = torch.uint8) -> Split:
    x = torch.arange(count * 4, dtype=torch.uint8).view(count, 1, 2, 2)
    return Split(to_float(x) if dtype == torch.float32 else x, torch.arange(count) % 3, torch.arange(count))


def test_digits_are_scikit_learns_with_sixteen_steps_over_the_whole_range() -> None:
    from sklearn.datasets import load_digits

    data = load("digits()")
    whole = torch.empty(1797, 1, 8, 8, dtype=torch.uint8)
    labels = torch.empty(1797, dtype=torch.int64)
    for part in (data.train, data.validation, data.test):
        whole[part.ids], labels[part.ids] = part.x, part.y
    published = load_digits()
    assert (len(data.train), len(data.validation), len(data.test)) == (1257, 180, 360)
    assert torch.equal((whole[:, 0].double() * 16 / 255).round(), torch.from_numpy(published.images))
    assert torch.equal(labels, torch.from_numpy(published.target).long())
    assert (int(whole.min()), int(whole.max())) == (0, 255)
    assert data.shape == (1, 8, 8)


def test_the_seed_moves_the_validation_split_of_digits_but_never_the_test_split() -> None:
    one, other, again = (Digits(seed=seed).load() for seed in (0, 1, 0))
    assert torch.equal(one.test.ids, other.test.ids)
    assert not torch.equal(one.validation.ids, other.validation.ids)
    assert torch.equal(one.validation.ids, again.validation.ids)
    everything = torch.cat([part.ids for part in (one.train, one.validation, one.test)])
    assert torch.equal(everything.sort().values, torch.arange(1797))
    assert set(other.test.y.tolist()) == set(range(10))


@pytest.mark.parametrize("size", [0, 10, 11, -1])
def test_holding_out_nothing_or_everything_is_refused(size: int) -> None:
    with pytest.raises(InputError, match="validation: cannot hold out"):
        holdout(torch.zeros(10, 1, 2, 2, dtype=torch.uint8), torch.zeros(10, dtype=torch.int64), size, 0)


def test_stratified_takes_the_rounded_share_of_every_class() -> None:
    y = torch.tensor([0] * 10 + [1] * 5 + [3] * 1)[torch.randperm(16, generator=torch.Generator().manual_seed(1))]
    drawn = stratified(y, 0.36, seed=0)
    assert y[drawn].bincount(minlength=4).tolist() == [4, 2, 0, 0]
    assert torch.equal(drawn, stratified(y, 0.36, seed=0))
    assert not torch.equal(drawn, stratified(y, 0.36, seed=1))
    assert stratified(y, 1.0, 0).all()
    assert not stratified(y, 0.0, 0).any()


def test_stratified_draws_each_member_of_a_class_equally_often() -> None:
    y = torch.zeros(10, dtype=torch.int64)
    times = sum(stratified(y, 0.3, seed).int() for seed in range(1000))
    assert torch.is_tensor(times)
    assert (times - 300).abs().max() < 75  # five standard deviations


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_torch_cannot_take_is_an_input_error(seed: int) -> None:
    with pytest.raises(InputError, match="seed"):
        make_split().sample(3, seed)


def test_a_split_refuses_other_types_and_lengths() -> None:
    good = make_split()
    for x, y in (
        (good.x.int(), good.y),
        (good.x[:, 0], good.y),
        (good.x.double(), good.y),
        (good.x, good.y.int()),
        (good.x, good.y[1:]),
    ):
        with pytest.raises(InputError):
            Split(x, y, good.ids)


def test_sample_keeps_rows_together_and_in_order() -> None:
    part = make_split().sample(4, seed=2)
    assert len(part) == 4
    assert part.ids.tolist() == sorted(part.ids.tolist())
    assert torch.equal(part.x[:, 0, 0, 0].long(), part.ids * 4)
    assert torch.equal(part.y, part.ids % 3)
    assert len(make_split().sample(99, seed=0)) == 10
    with pytest.raises(InputError, match="at least 1"):
        make_split().sample(0, seed=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_batch_is_float_in_the_unit_range_and_float_images_are_kept_to_the_bit(dtype: torch.dtype) -> None:
    whole = make_split(dtype=dtype)
    x, y = whole.batch(torch.tensor([7, 2]))
    assert x.dtype == torch.float32
    assert torch.equal(x, to_float(make_split().x)[[7, 2]])
    assert y.tolist() == [1, 2]
    assert torch.equal(whole.images(), to_float(make_split().x))


def test_a_dataset_refuses_labels_without_a_class_and_images_of_another_shape() -> None:
    part = make_split()
    with pytest.raises(InputError, match=r"given: train: label 2 of example 2 is outside 0\.\.1"):
        Dataset("given", ("a", "b"), part, part, part)
    narrow = Split(part.x[..., :1], part.y, part.ids)
    with pytest.raises(InputError, match="test images"):
        Dataset("given", ("a", "b", "c"), part, part, narrow)
    with pytest.raises(InputError, match="example 1"):
        check_labels(torch.tensor([0, -1]), 3, "here")


def test_train_and_validation_can_be_had_together_and_an_unknown_split_is_named() -> None:
    data = load("digits()")
    both = data.split("train+validation")
    assert len(both) == 1437
    assert torch.equal(both.ids, torch.cat([data.train.ids, data.validation.ids]))
    with pytest.raises(InputError, match="unknown split 'dev'"):
        data.split("dev")

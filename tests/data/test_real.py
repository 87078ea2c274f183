"""The published data itself, where this machine has it: SPARRING_DATA, or the folder beside the repository."""

import os
from pathlib import Path

import pytest
import torch

from sparring.data import FashionMnist, Folder, Mnist, Source, load

REAL = Path(os.environ.get("SPARRING_DATA") or Path(__file__).parents[3] / "shared" / "data")


def needs(path: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (REAL / path).exists(), reason=f"there is no {path} in {REAL}")


@pytest.fixture(autouse=True)
def real(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the folder to the library."""
    monkeypatch.setenv("SPARRING_DATA", str(REAL))


@pytest.mark.parametrize(
    ("source", "first_train", "first_test", "counts"),
    [
        pytest.param(
            Mnist(),
            [5, 0, 4, 1, 9],
            [7, 2, 1, 0, 4],
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            marks=needs("mnist"),
        ),
        pytest.param(FashionMnist(), [9, 0, 0, 3, 0], [9, 2, 1, 1, 6], [6000] * 10, marks=needs("fashion-mnist")),
    ],
)
def test_the_published_idx_files(
    source: Source, first_train: list[int], first_test: list[int], counts: list[int]
) -> None:
    data = load(source)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [55_000, 5_000, 10_000]
    assert data.shape == (1, 28, 28)
    both = data.split("train+validation")
    order = both.ids.argsort()
    assert torch.equal(both.ids[order], torch.arange(60_000))
    assert both.y[order][:5].tolist() == first_train
    assert data.test.y[:5].tolist() == first_test
    assert both.y.bincount().tolist() == counts
    assert (int(data.test.x.min()), int(data.test.x.max())) == (0, 255)


@needs("imagenet-sample/images.zip")
def test_a_zip_of_photographs_one_a_class() -> None:
    data = load(Folder("imagenet-sample/images.zip", size=8, test=1.0))
    assert len(data.test) == len(data.classes) == 1000
    assert data.classes[0] == "n01440764"
    assert torch.equal(data.test.y, torch.arange(1000))
    assert data.shape == (3, 8, 8)

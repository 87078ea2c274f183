"""MNIST and Fashion-MNIST: IDX files, gzipped or plain, as their authors publish them."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sparring.core.errors import InputError
from sparring.data.dataset import Dataset, PublishedFile, Source, Split, holdout
from sparring.data.download import contents

UNSIGNED_BYTES = 0x08  # the IDX code of the only type that these files use
NAMES_AND_SIZES = (
    ("train-images-idx3-ubyte", 47_040_016),
    ("train-labels-idx1-ubyte", 60_008),
    ("t10k-images-idx3-ubyte", 7_840_016),
    ("t10k-labels-idx1-ubyte", 10_008),
)


@dataclass(frozen=True, kw_only=True)
class IdxSource(Source):
    """Four IDX files: 60,000 images, of which `seed` draws `validation`, and 10,000 for the test."""

    classes: ClassVar[tuple[str, ...]]
    validation: int = 5000
    seed: int = 0

    @abstractmethod
    def files(self) -> tuple[PublishedFile, ...]:
        """Return the four published files, train before test and images before labels."""

    def load(self) -> Dataset:
        x, y, x_test, y_test = (parse_idx(contents(file), file.path) for file in self.files())
        train, validation = holdout(x[:, None], y.long(), self.validation, self.seed)
        test = Split(x_test[:, None], y_test.long(), torch.arange(len(y_test)))
        return Dataset(repr(self), self.classes, train, validation, test)


@dataclass(frozen=True, kw_only=True)
class Mnist(IdxSource):
    """MNIST: 70,000 handwritten digits, 28x28 grey (LeCun et al. 1998)."""

    name = "mnist"
    classes = tuple("0123456789")

    def files(self) -> tuple[PublishedFile, ...]:
        return _published(
            "mnist",
            ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
            (
                "sha256:ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "sha256:65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "sha256:0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "sha256:ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        )


@dataclass(frozen=True, kw_only=True)
class FashionMnist(IdxSource):
    """Fashion-MNIST: 70,000 pieces of clothing, 28x28 grey (Xiao et al. 2017, arXiv:1708.07747)."""

    name = "fashion_mnist"
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )

    def files(self) -> tuple[PublishedFile, ...]:
        return _published(
            "fashion-mnist",
            (
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            ),
            (
                "sha256:c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "sha256:bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "sha256:5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "sha256:0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        )


def parse_idx(data: bytes, where: str) -> Tensor:
    """Return the uint8 tensor that an IDX file's bytes hold; raise InputError, naming `where`, if they are not one."""
    zeros, kind, dims = data[:2], data[2:3], data[3:4]
    if zeros != b"\0\0" or kind != bytes([UNSIGNED_BYTES]) or dims not in (b"\1", b"\2", b"\3", b"\4"):
        raise InputError(f"{where}: begins with {data[:4].hex() or 'nothing'}, so it is not an IDX file of bytes")
    start = 4 + 4 * dims[0]
    shape = [int.from_bytes(data[at : at + 4], "big") for at in range(4, start, 4)]
    if len(data) != start + math.prod(shape):
        size = "x".join(map(str, shape))
        raise InputError(f"{where}: holds {len(data)} bytes where its header promises {size} and {start} before them")
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)[start:].view(shape)


def _published(folder: str, mirrors: tuple[str, ...], checksums: tuple[str, ...]) -> tuple[PublishedFile, ...]:
    return tuple(
        PublishedFile(f"{folder}/{name}", size, checksum, tuple(f"{mirror}{name}.gz" for mirror in mirrors))
        for (name, size), checksum in zip(NAMES_AND_SIZES, checksums, strict=True)
    )

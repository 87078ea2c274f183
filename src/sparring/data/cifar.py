"""CIFAR-10: the binary version of its authors' archive, read without unpacking it to disk."""

import io
import tarfile
from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.core.errors import InputError
from sparring.data.dataset import Dataset, PublishedFile, Source, Split, holdout
from sparring.data.download import contents, find

INNER = "cifar-10-batches-bin"
RECORD = 1 + 3 * 32 * 32  # a label, then the red, green and blue planes
MEMBER_SIZE = 10_000 * RECORD

# The authors publish the archive's MD5 only, c32a1d4ab5d03f1284b67883e8d87530. The SHA-256 of that archive is the one
# that the checksum lists of TensorFlow Datasets and of TorchVision.rb agree on; the members' are TorchVision.rb's.
ARCHIVE = PublishedFile(
    "cifar10/cifar-10-binary.tar.gz",
    170_052_171,
    "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    (
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/cifar-10-binary.tar.gz",
    ),
)
MEMBERS = {
    "data_batch_1.bin": "sha256:cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "sha256:a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "sha256:bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "sha256:014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "sha256:755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "sha256:8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
EXTRACTED = tuple(PublishedFile(f"cifar10/{INNER}/{name}", MEMBER_SIZE, checksum) for name, checksum in MEMBERS.items())


@dataclass(frozen=True, kw_only=True)
class Cifar10(Source):
    """CIFAR-10: 60,000 photographs, 32x32 colour, 10 classes (Krizhevsky 2009).

    Reads cifar-10-binary.tar.gz, or the folder cifar-10-batches-bin that it unpacks to, from the data folder's cifar10.
    Either is checked against its SHA-256 first (the published MD5, c32a1d4a…, is of the same archive).
    `seed` draws `validation` of the 50,000 training images.
    """

    name = "cifar10"
    validation: int = 5000
    seed: int = 0

    def load(self) -> Dataset:
        files = self.files()
        parts = read_archive(contents(ARCHIVE)) if files == (ARCHIVE,) else [contents(file) for file in files]
        *batches, test = (parse_records(part, name) for part, name in zip(parts, MEMBERS, strict=True))
        x, y = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
        train, validation = holdout(x, y, self.validation, self.seed)
        classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
        return Dataset(repr(self), classes, train, validation, Split(*test, torch.arange(len(test[1]))))

    def files(self) -> tuple[PublishedFile, ...]:
        """Return the archive, or the six unpacked files where some of those, but no archive, lie in a data folder."""
        unpacked = find(ARCHIVE) is None and any(find(file) for file in EXTRACTED)
        return EXTRACTED if unpacked else (ARCHIVE,)


def read_archive(data: bytes) -> list[bytes]:
    """Return the six members' bytes, in the order of MEMBERS; nothing is written to disk.

    Raises InputError when `data` is no such archive, or a member is missing or not of its published size.
    """
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
            return [_member(tar, f"{INNER}/{name}") for name in MEMBERS]
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"{ARCHIVE.path}: cannot be read as a tar.gz archive ({error})") from None


def parse_records(data: bytes, where: str) -> tuple[Tensor, Tensor]:
    """Return images (N, 3, 32, 32), uint8, and labels (N,), int64, of records of one label byte and 3,072 pixels."""
    if not data or len(data) % RECORD:
        raise InputError(f"{where}: holds {len(data)} bytes, which is no whole number of {RECORD}-byte records")
    records = torch.frombuffer(bytearray(data), dtype=torch.uint8).view(-1, RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].long()


def _member(tar: tarfile.TarFile, name: str) -> bytes:
    try:
        info = tar.getmember(name)
    except KeyError:
        raise InputError(f"{ARCHIVE.path}: has no member {name}") from None
    stream = tar.extractfile(info) if info.isfile() and info.size == MEMBER_SIZE else None
    if stream is None:
        raise InputError(f"{ARCHIVE.path}: {name} is not a file of {MEMBER_SIZE} bytes")
    return stream.read()

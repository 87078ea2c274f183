"""The CIFAR-10 archive: read in memory, whatever its order, and refused when a part is not what it should be."""

import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from sparring.core.errors import InputError
from sparring.data import cifar
from sparring.data.cifar import ARCHIVE, EXTRACTED, INNER, MEMBERS, RECORD, Cifar10, parse_records, read_archive
from sparring.data.dataset import PublishedFile
from sparring.data.download import status

ROWS = 30


def member(number: int) -> bytes:
    """Thirty records: label, then red, green and blue planes of one value each."""
    planes = (bytes([(10 * number + row + plane) % 256]) * 1024 for row in range(ROWS) for plane in range(3))
    pixels = b"".join(planes)
    return b"".join(bytes([(row + number) % 10]) + pixels[row * 3072 : (row + 1) * 3072] for row in range(ROWS))


PARTS = {f"{INNER}/{name}": member(number) for number, name in enumerate(MEMBERS)}


def archive(parts: Mapping[str, bytes | None]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(data or b"")
            if data is None:
                info.type, info.linkname, info.size = tarfile.SYMTYPE, "data_batch_1.bin", ROWS * RECORD
            tar.addfile(info, None if data is None else io.BytesIO(data))
    return buffer.getvalue()


def published(path: str, data: bytes) -> PublishedFile:
    return PublishedFile(path, len(data), f"sha256:{hashlib.sha256(data).hexdigest()}")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """Let thirty records a file be the whole of CIFAR-10."""
    packed = archive(PARTS)
    monkeypatch.setattr(cifar, "MEMBER_SIZE", ROWS * RECORD)
    monkeypatch.setattr(cifar, "ARCHIVE", published(ARCHIVE.path, packed))
    files = tuple(published(f"cifar10/{name}", data) for name, data in PARTS.items())
    monkeypatch.setattr(cifar, "EXTRACTED", files)
    return packed


def unpack(home: Path) -> None:
    for name, data in PARTS.items():
        place = home / "cifar10" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)


def check(source: Cifar10) -> None:
    data = source.load()
    assert (len(data.train), len(data.validation), len(data.test)) == (140, 10, ROWS)
    assert data.shape == (3, 32, 32)
    for part in (data.train, data.validation):
        batch, row = part.ids // ROWS, part.ids % ROWS
        assert torch.equal(part.y, (row + batch) % 10)
        for plane in range(3):
            assert (part.x[:, plane].flatten(1).long() == (10 * batch + row + plane)[:, None]).all()
    assert torch.equal(data.test.y, (torch.arange(ROWS) + 5) % 10)
    assert data.classes[:3] == ("airplane", "automobile", "bird")


def test_the_archive_is_read_without_unpacking_it(home: Path, small: bytes) -> None:
    (home / "cifar10").mkdir()
    (home / "cifar10/cifar-10-binary.tar.gz").write_bytes(small)
    check(Cifar10(validation=10))
    assert [one.state for one in status(Cifar10())] == ["ok"]
    assert sorted(path.name for path in home.rglob("*")) == ["cifar-10-binary.tar.gz", "cifar10"]


def test_the_unpacked_folder_serves_as_well(home: Path) -> None:
    unpack(home)
    check(Cifar10(validation=10))
    assert [one.state for one in status(Cifar10())] == ["ok"] * 6


def test_the_archive_goes_before_the_unpacked_folder(home: Path, small: bytes) -> None:
    unpack(home)
    (home / "cifar10/cifar-10-binary.tar.gz").write_bytes(small)
    (home / "cifar10" / INNER / "data_batch_1.bin").write_bytes(b"rubbish")
    check(Cifar10(validation=10))


def test_an_unpacked_folder_that_lacks_a_file_or_has_a_wrong_one_is_refused_by_name(home: Path) -> None:
    unpack(home)
    third = home / "cifar10" / INNER / "data_batch_3.bin"
    third.write_bytes(third.read_bytes()[:-1] + b"!")
    with pytest.raises(InputError, match=r"data_batch_3\.bin: wrong contents, sha256"):
        Cifar10(validation=10).load()
    third.unlink()
    with pytest.raises(InputError, match=r"data_batch_3\.bin: not found at"):
        Cifar10(validation=10).load()
    assert [one.state for one in status(Cifar10())] == ["ok", "ok", "missing", "ok", "ok", "ok"]


def test_a_wrong_archive_is_refused_before_it_is_opened(home: Path, small: bytes) -> None:
    (home / "cifar10").mkdir()
    place = home / "cifar10/cifar-10-binary.tar.gz"
    place.write_bytes(small[:-1] + bytes([small[-1] ^ 1]))
    with pytest.raises(InputError, match=f"{place}: wrong contents, sha256"):
        Cifar10().load()


def test_members_are_found_by_name_whatever_their_order_and_company() -> None:
    company: dict[str, bytes | None] = {"../evil.bin": b"x", f"{INNER}/readme.html": b"hello"}
    turned = dict(reversed(PARTS.items()))
    assert read_archive(archive({**company, **turned})) == list(PARTS.values())


LAST = f"{INNER}/test_batch.bin"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({LAST: b"short"}, "test_batch.bin is not a file of 92190 bytes"),
        ({LAST: None}, "test_batch.bin is not a file"),  # a symbolic link
    ],
)
def test_a_member_that_is_no_whole_file_is_refused(change: dict[str, bytes | None], says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_archive(archive({**PARTS, **change}))


def test_a_missing_member_and_a_broken_archive_are_refused(small: bytes) -> None:
    with pytest.raises(InputError, match=r"has no member cifar-10-batches-bin/data_batch_1\.bin"):
        read_archive(archive({"x": b"y"}))
    for broken in (small[: len(small) // 2], b"", b"not a tar"):
        with pytest.raises(InputError, match="cannot be read as a tar"):
            read_archive(broken)


@pytest.mark.parametrize("size", [0, 1, RECORD - 1, RECORD + 1])
def test_records_that_are_cut_are_refused(size: int) -> None:
    with pytest.raises(InputError, match="here: holds"):
        parse_records(bytes(size), "here")


def test_the_published_facts_are_whole() -> None:
    assert ARCHIVE.size == 170_052_171
    assert len(EXTRACTED) == 6
    assert all(file.size == 30_730_000 for file in EXTRACTED)
    assert all(len(file.checksum) == len("sha256:") + 64 for file in (ARCHIVE, *EXTRACTED))

"""IDX files, whole and damaged, plain and gzipped."""

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from sparring.core.errors import InputError
from sparring.data.dataset import PublishedFile
from sparring.data.download import status
from sparring.data.idx import IdxSource, parse_idx


def idx(*shape: int, start: int = 0) -> bytes:
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    total = int(torch.tensor(shape).prod())
    return header + bytes((start + i) % 256 for i in range(total))


FILES = {
    "tiny/train-images": idx(20, 3, 4),
    "tiny/train-labels": bytes([0, 0, 8, 1]) + (20).to_bytes(4, "big") + bytes(i % 3 for i in range(20)),
    "tiny/test-images": idx(5, 3, 4, start=100),
    "tiny/test-labels": bytes([0, 0, 8, 1]) + (5).to_bytes(4, "big") + bytes([2, 1, 0, 1, 2]),
}


@dataclass(frozen=True, kw_only=True)
class Tiny(IdxSource):
    """Twenty images and five."""

    name = "tiny"
    classes = ("a", "b", "c")
    validation: int = 4

    def files(self) -> tuple[PublishedFile, ...]:
        return tuple(
            PublishedFile(name, len(data), f"sha256:{hashlib.sha256(data).hexdigest()}") for name, data in FILES.items()
        )


def write(home: Path, packed: bool) -> None:
    (home / "tiny").mkdir()
    for name, data in FILES.items():
        place = home / (name + ".gz" * packed)
        place.write_bytes(gzip.compress(data) if packed else data)


def test_an_idx_file_is_read_in_row_major_order() -> None:
    x = parse_idx(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3, 9, 8, 7, 255, 0, 1]), "here")
    assert x.dtype == torch.uint8
    assert x.tolist() == [[[9, 8, 7]], [[255, 0, 1]]]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "begins with nothing"),
        (b"\0\0\x08", "begins with 000008"),
        (b"\0\0\x0d\1\0\0\0\1\0", "begins with 00000d01"),  # floats
        (b"\1\0\x08\1\0\0\0\1\0", "begins with 01000801"),
        (b"\0\0\x08\0\0\0\0\1\0", "begins with 00000800"),
        (b"\0\0\x08\x09" + bytes(50), "begins with 00000809"),
        (b"\x1f\x8b\x08\0", "begins with 1f8b0800"),
        (idx(5, 3)[:-1], "holds 26 bytes where its header promises 5x3 and 12"),
        (idx(5, 3) + b"\0", "holds 28 bytes"),
        (b"\0\0\x08\2\0\0\0\1", "holds 8 bytes"),  # the header itself is cut
        (b"\0\0\x08\3" + b"\xff" * 12, "promises 4294967295x4294967295x4294967295"),
    ],
)
def test_a_damaged_idx_file_is_refused_by_name(data: bytes, says: str) -> None:
    with pytest.raises(InputError, match=f"^here: .*{says}"):
        parse_idx(data, "here")


@pytest.mark.parametrize("packed", [False, True])
def test_plain_and_gzipped_files_give_the_same_dataset(home: Path, packed: bool) -> None:
    write(home, packed)
    data = Tiny(seed=3).load()
    assert (len(data.train), len(data.validation), len(data.test)) == (16, 4, 5)
    assert data.shape == (1, 3, 4)
    ids = torch.cat([data.train.ids, data.validation.ids])
    assert torch.equal(ids.sort().values, torch.arange(20))
    for part in (data.train, data.validation):
        assert torch.equal(part.x[:, 0, 0, 0].long(), part.ids * 12)
        assert torch.equal(part.y, part.ids % 3)
    assert data.test.y.tolist() == [2, 1, 0, 1, 2]
    assert data.test.x.flatten().tolist() == list(range(100, 160))


def test_a_file_that_is_named_gz_but_is_plain_is_read_as_what_it_is(home: Path) -> None:
    write(home, packed=True)
    for name, data in FILES.items():
        (home / f"{name}.gz").write_bytes(data)
    assert len(Tiny().load().test) == 5


def test_several_gzip_members_in_one_file_are_one_file(home: Path) -> None:
    write(home, packed=True)
    data = FILES["tiny/test-images"]
    (home / "tiny/test-images.gz").write_bytes(gzip.compress(data[:30]) + gzip.compress(data[30:]))
    assert Tiny().load().test.x.flatten().tolist() == list(range(100, 160))


WHOLE = FILES["tiny/train-images"]
DAMAGES = {
    "one bit": (gzip.compress(WHOLE[:-1] + bytes([WHOLE[-1] ^ 1])), r"sha256 [0-9a-f]{12}… instead of [0-9a-f]{12}…"),
    "another file": (gzip.compress(FILES["tiny/test-images"]), "holds 76 instead of 256 bytes"),
    "cut gzip": (gzip.compress(WHOLE)[:-20], "not a whole gzip file"),
    "cut in the checksum": (gzip.compress(WHOLE)[:-3], "not a whole gzip file"),
    "garbled gzip": (gzip.compress(WHOLE)[:12] + b"\xff" * 30, "not a whole gzip file"),
    "rubbish after it": (gzip.compress(WHOLE) + b"rubbish", "(not a whole gzip file|holds more than 256)"),
    "empty": (b"", "holds 0 instead of 256 bytes"),
    "bomb": (gzip.compress(bytes(50_000_000)), "holds more than 256 bytes"),
    "plain and too long": (WHOLE + bytes(9), "holds more than 256 bytes"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_wrong_file_in_the_users_folder_is_refused_by_name(home: Path, damage: str) -> None:
    write(home, packed=True)
    data, says = DAMAGES[damage]
    place = home / "tiny/train-images.gz"
    place.write_bytes(data)
    with pytest.raises(InputError, match=says) as error:
        Tiny().load()
    assert str(error.value).startswith(f"{place}: ")
    assert "\n" not in str(error.value)
    states = [found.state for found in status(Tiny())]
    assert states == ["corrupt", "ok", "ok", "ok"]
    assert place.read_bytes() == data  # a user's file is never touched


def test_the_message_names_both_digests(home: Path) -> None:
    write(home, packed=True)
    other = bytes(len(WHOLE))
    (home / "tiny/train-images.gz").write_bytes(gzip.compress(other))
    found, wanted = (hashlib.sha256(data).hexdigest()[:12] for data in (other, WHOLE))
    with pytest.raises(InputError, match=f"sha256 {found}… instead of {wanted}…"):
        Tiny().load()


def test_a_gzip_bomb_is_not_unpacked_beyond_the_known_size(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(home, packed=True)
    (home / "tiny/train-images.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    asked: list[int] = []
    read = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda self, size=-1: asked.append(size) or read(self, size))
    with pytest.raises(InputError):
        Tiny().load()
    assert asked == [len(WHOLE) + 1]


def test_status_tells_where_each_file_is_and_what_is_missing(home: Path) -> None:
    write(home, packed=False)
    (home / "tiny/test-labels").unlink()
    found = status(Tiny())
    assert [one.state for one in found] == ["ok", "ok", "ok", "missing"]
    assert found[0].place == home / "tiny/train-images"
    assert found[0].size == len(WHOLE)
    assert (found[3].place, found[3].size) == (None, 0)
    with pytest.raises(InputError, match=r"tiny/test-labels: not found at .*SPARRING_DATA"):
        Tiny().load()


def test_a_folder_in_a_files_place_counts_as_no_file(home: Path) -> None:
    write(home, packed=False)
    (home / "tiny/test-labels").unlink()
    (home / "tiny/test-labels").mkdir()
    assert status(Tiny())[3].state == "missing"

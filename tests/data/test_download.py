"""Looking for files and downloading them, against a web server on this machine that misbehaves on request."""

import errno
import gzip
import hashlib
import logging
import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sparring.core.errors import InputError
from sparring.data import Mnist
from sparring.data.dataset import Dataset, PublishedFile, Source
from sparring.data.download import cache_folder, contents, data_folders, fetch, find, status

DATA = bytes(range(256)) * 2000
PACKED = gzip.compress(DATA)
CHECKSUM = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
Answer = Callable[[BaseHTTPRequestHandler], None]
URLOPEN = urllib.request.urlopen  # the real one, before conftest pulls the cable


def send(data: bytes, length: int | None = None, status: int = 200) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data) if length is None else length))
        handler.end_headers()
        handler.wfile.write(data)

    return answer


@dataclass
class Web:
    """A server whose answers, by folder of the address, are chosen by the test."""

    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    address: str = ""

    def file(self, *mirrors: str, size: int = len(DATA), checksum: str = CHECKSUM) -> PublishedFile:
        return PublishedFile("set/file", size, checksum, tuple(f"{self.address}/{name}/file.gz" for name in mirrors))


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """Serve on 127.0.0.1 for the time of a test."""
    monkeypatch.setattr(urllib.request, "urlopen", URLOPEN)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("sparring.data.download.TIMEOUT", 0.5)
    state = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            mirror = self.path.split("/")[1]
            state.asked.append(mirror)
            state.answers[mirror](self)

        def log_message(self, *args: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_download_lands_in_the_cache_under_its_name_and_is_not_fetched_twice(web: Web, cache: Path) -> None:
    web.answers["good"] = send(PACKED)
    file = web.file("good")
    assert contents(file) == DATA
    assert find(file) == cache / "set/file.gz"
    assert contents(file) == DATA
    assert web.asked == ["good"]
    assert left_in(cache) == ["file.gz"]


def stall(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(PACKED)))
    handler.end_headers()
    handler.wfile.write(PACKED[:100])
    handler.wfile.flush()
    threading.Event().wait(2)


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    handler.connection.close()


def redirect_to_a_local_file(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "file:///etc/passwd")
    handler.end_headers()


BAD = {
    "other bytes": send(gzip.compress(DATA[::-1])),
    "a login page": send(b"<html>Welcome to our Wi-Fi</html>"),
    "nothing": send(b""),
    "half": send(PACKED[: len(PACKED) // 2]),
    "half, promised whole": send(PACKED[: len(PACKED) // 2], length=len(PACKED)),
    "not found": send(b"gone", status=404),
    "server error": send(b"oops", status=500),
    "endless": send(bytes(len(DATA) + 200_000)),
    "a bomb": send(gzip.compress(bytes(30_000_000))),
    "stalled": stall,
    "hung up": hang_up,
    "a redirect to a local file": redirect_to_a_local_file,
}


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_mirror_is_skipped_with_a_line_and_the_next_one_serves(
    web: Web, cache: Path, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    web.answers |= {"bad": BAD[fault], "good": send(PACKED)}
    with caplog.at_level(logging.WARNING, "sparring"):
        assert contents(web.file("bad", "good")) == DATA
    assert web.asked == ["bad", "good"]
    assert [record.name for record in caplog.records] == ["sparring"]
    assert f"{web.address}/bad/file.gz: " in caplog.text
    assert left_in(cache) == ["file.gz"]


def test_a_mirror_that_sends_without_end_is_hung_up_on(web: Web) -> None:
    web.answers["bad"] = BAD["endless"]
    with pytest.raises(InputError, match=f"bad/file.gz .sends more than {len(DATA)} bytes"):
        contents(web.file("bad"))


def test_when_every_mirror_fails_one_line_says_what_was_tried_and_nothing_is_left(web: Web, cache: Path) -> None:
    web.answers |= {"one": BAD["other bytes"], "two": BAD["not found"]}
    with pytest.raises(InputError) as error:
        contents(web.file("one", "two"))
    text = str(error.value)
    assert "\n" not in text
    for part in (f"{web.address}/one/file.gz (wrong contents", f"{web.address}/two/file.gz (HTTP 404", "SPARRING_DATA"):
        assert part in text
    assert left_in(cache) == []


def test_without_a_network_one_line_says_so(cache: Path) -> None:
    with pytest.raises(InputError) as error:
        Mnist().load()
    text = str(error.value)
    assert "\n" not in text
    assert "mnist/train-images-idx3-ubyte: not found at" in text
    assert text.count("(Network is unreachable)") == 2
    assert "set SPARRING_DATA to a folder that holds it" in text
    assert left_in(cache) == []


def test_a_half_download_that_a_kill_left_behind_is_not_taken_for_the_file(web: Web, cache: Path) -> None:
    (cache / "set").mkdir(parents=True)
    (cache / "set/.file-abc123.gz").write_bytes(PACKED[:1000])
    web.answers["good"] = send(PACKED)
    assert find(web.file("good")) is None
    assert contents(web.file("good")) == DATA


@pytest.mark.parametrize("name", ["file", "file.gz"])
def test_a_broken_file_in_the_cache_is_downloaded_again_once(
    web: Web, cache: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (cache / "set").mkdir(parents=True)
    (cache / "set" / name).write_bytes(PACKED[:1000])
    web.answers["good"] = send(PACKED)
    file = web.file("good")
    assert contents(file) == DATA
    assert f"{cache / 'set' / name}: " in caplog.text
    assert contents(file) == DATA
    assert web.asked == ["good"]
    assert left_in(cache) == ["file.gz"]


def test_the_users_folder_comes_before_the_cache_and_is_never_mended(web: Web, cache: Path, home: Path) -> None:
    web.answers["good"] = send(PACKED)
    contents(web.file("good"))
    (home / "set").mkdir()
    (home / "set/file").write_bytes(b"mine")
    with pytest.raises(InputError, match=f"{home / 'set/file'}: holds 4 instead of"):
        contents(web.file("good"))
    assert (home / "set/file").read_bytes() == b"mine"
    (home / "set/file").write_bytes(DATA)
    assert find(web.file("good")) == home / "set/file"
    assert contents(web.file("good")) == DATA
    assert web.asked == ["good"]


def test_a_full_disk_is_one_line_and_leaves_nothing(web: Web, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    web.answers |= {"good": send(PACKED), "other": send(PACKED)}

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="the disk is full"):
        contents(web.file("good", "other"))
    assert web.asked == ["good"]  # another mirror would not help
    assert left_in(cache) == []


def test_a_cache_that_cannot_be_written_is_one_line(web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("SPARRING_CACHE", str(blocked))
    web.answers["good"] = send(PACKED)
    with pytest.raises(InputError, match="cannot be written"):
        contents(web.file("good"))


@dataclass(frozen=True, kw_only=True)
class Pair(Source):
    """Two files, for the functions that the command line calls."""

    name = "pair"
    web: Web

    def files(self) -> tuple[PublishedFile, ...]:
        one = self.web.file("good")
        return one, PublishedFile("set/second", one.size, one.checksum, (f"{self.web.address}/good/second.gz",))

    def load(self) -> Dataset:
        raise NotImplementedError


def test_fetch_brings_what_is_missing_and_status_tells(web: Web, cache: Path) -> None:
    source = Pair(web=web)
    web.answers["good"] = send(PACKED)
    assert [(one.file, one.state, one.place) for one in status(source)] == [
        ("set/file", "missing", None),
        ("set/second", "missing", None),
    ]
    assert web.asked == []  # looking downloads nothing
    contents(source.files()[0])
    after = fetch(source)
    assert [(one.state, one.place, one.size) for one in after] == [
        ("ok", cache / "set/file.gz", len(PACKED)),
        ("ok", cache / "set/second.gz", len(PACKED)),
    ]
    assert len(web.asked) == 2
    (cache / "set/second.gz").write_bytes(PACKED[:-9])
    broken = status(source)[1]
    assert broken.state == "corrupt"
    assert "not a whole gzip file" in broken.problem
    assert [one.state for one in fetch(source)] == ["ok", "ok"]


def test_a_checksum_names_its_algorithm(web: Web) -> None:
    web.answers["good"] = send(PACKED)
    md5 = hashlib.md5(DATA).hexdigest()
    assert contents(web.file("good", checksum=f"md5:{md5}")) == DATA
    with pytest.raises(InputError, match=f"md5 {md5[:12]}… instead of 000000000000…"):
        contents(PublishedFile("set/file", len(DATA), "md5:" + "0" * 32))


def test_a_file_published_as_gz_is_kept_as_it_is(web: Web, cache: Path) -> None:
    web.answers["good"] = send(PACKED)
    checksum = f"sha256:{hashlib.sha256(PACKED).hexdigest()}"
    file = PublishedFile("set/file.gz", len(PACKED), checksum, (f"{web.address}/good/file.gz",))
    assert contents(file) == PACKED


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPARRING_CACHE", "~/somewhere")
    assert cache_folder() == Path.home() / "somewhere"
    monkeypatch.delenv("SPARRING_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "sparring"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # to be ignored, says the XDG specification
    assert cache_folder() == Path.home() / ".cache" / "sparring"


def test_a_data_folder_that_does_not_exist_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPARRING_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"SPARRING_DATA: .*nowhere is not a folder"):
        data_folders()

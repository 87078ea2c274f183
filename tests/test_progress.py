"""Progress where there is no terminal: a line a minute, and none from what is done at once."""

import pytest

from sparring.core import progress
from sparring.core.progress import Bar, track


def test_a_log_has_a_line_a_minute(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    clock = iter([0.0, 30.0, 61.0, 61.0, 100.0, 122.0, 122.0])  # a bar asks as it begins, at each step, and at a line
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    bar = Bar("judging", 8)
    for _ in range(4):
        bar.advance(2)
    assert capsys.readouterr().err.splitlines() == ["judging  4/8", "judging  8/8"]


def test_what_is_done_at_once_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(3), "counting", 3)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_processes_that_help_say_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "MINUTE", -1.0)
    monkeypatch.setattr(progress.multiprocessing, "parent_process", lambda: object())
    with Bar("judging", 2) as bar:
        bar.advance()
    assert capsys.readouterr().err == ""

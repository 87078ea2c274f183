"""Records read back equal, a damaged one is refused in one line, no file is half written, no torch is needed."""

import errno
import io
import json
import math
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from torch import nn

from sparring.core import records, results
from sparring.core.errors import InputError
from sparring.core.files import PART, replacing, sweep
from sparring.core.results import (
    Attacked,
    Checked,
    Confidence,
    Curve,
    CurvePoint,
    Estimate,
    Evaluation,
    Flag,
    Provenance,
)
from sparring.core.study_results import EpochMetrics, Figure, Finding, Row, Search, StudyResult, Trial
from sparring.training.runs import Run

NAN = math.nan


def estimate(value: float = 0.5) -> Estimate:
    return Estimate(value, value - 0.1, value + 0.1, 10)


def confidence(value: float = 0.5) -> Confidence:
    return Confidence(estimate(value), estimate(0.9), estimate(0.95), Estimate(NAN, NAN, NAN, 0))


def evaluation(model: str = "lenet()") -> Evaluation:
    attacked = Attacked("fgsm()", "linf(eps=8/255)", estimate(), estimate(), math.inf, confidence(), 1.0, NAN, 0.5)
    points = (CurvePoint(0.0, estimate(0.8), confidence(0.8)), CurvePoint(math.inf, estimate(0.0), confidence(0.0)))
    return Evaluation(
        model=model,
        data="digits()",
        split="test",
        note='a "note" — with ümläuts\nand lines',
        classes=("0", "1", "ß"),
        threat="linf(eps=inf)",
        clean=estimate(0.8),
        clean_confidence=confidence(0.8),
        robust=estimate(),
        robust_confidence=confidence(),
        attacked={"fgsm()": attacked, 'pgd(loss="margin")': attacked},
        curves=(Curve("fgsm()", "linf", True, points), Curve("fgsm()", "linf", False, ())),
        flags=(Flag("label leaking", "fail", "message"),),
        provenance=Provenance("2026-01-01T00:00:00+00:00", 1.25, 0, "cpu", 2, {"torch": "2"}, "sparring evaluate x"),
        arrays={
            "ids": np.arange(3),
            "correct/pgd(loss='margin', eps=8/255)": np.array([True, False, True]),
            "gallery/x": np.linspace(0, 1, 12, dtype=np.float32).reshape(1, 3, 2, 2),
            "gallery/odd": np.array([NAN, math.inf, -0.0]),
            "empty": np.zeros((0, 4)),
        },
    )


def study() -> StudyResult:
    row = Row(
        name="vanilla",
        defence="standard()",
        recipe="data = 'digits()'",
        run="runs/x",
        figures=(
            Figure("fgsm", 0.5, estimate(), None, 0.05),
            Figure("pgd", None, Estimate(NAN, NAN, NAN, 0), estimate(), None),
        ),
        sweep=evaluation().curves,
        training=(EpochMetrics(1, {"loss": NAN, "accuracy": 0.5, "rate": math.inf}, 2.5),),
        evaluation=evaluation("first"),
    )
    rows = [replace(row, name=f"row {i}", evaluation=evaluation(f"model {i}")) for i in range(12)]
    for i, each in enumerate(rows):
        each.evaluation.arrays["ids"] = np.arange(i)
    return StudyResult(
        name="demo",
        title="Demo",
        paper="arXiv:1412.6572",
        summary="s",
        settings="",
        rows=tuple(rows),
        search=Search("validation", "rule", (Trial({"eps": 0.1}, {"clean": NAN}, -math.inf),), {"eps": 0.1}),
        findings=(Finding("c", "does not hold", "s"),),
        provenance=rows[0].evaluation.provenance,
    )


def same_arrays(one: Evaluation, other: Evaluation) -> None:
    assert one.arrays.keys() == other.arrays.keys()
    for key, value in one.arrays.items():
        assert other.arrays[key].dtype == value.dtype
        np.testing.assert_array_equal(other.arrays[key], value)


def refusal(act: Callable[[], object], path: Path) -> str:
    """Give the message with which a file is refused: one line that names the file."""
    with pytest.raises(InputError) as caught:
        act()
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "evaluation.json"
    evaluation().save(path)
    return path


# -------------------------------------------------------------------------------------------------------- round trips


def test_an_evaluation_reads_back_equal_with_its_arrays(tmp_path: Path) -> None:
    record = evaluation()
    for path in (tmp_path / "a.json", tmp_path / "new" / "folder" / "b.json"):
        record.save(path)
        found = Evaluation.load(path)
        assert repr(found) == repr(record)  # NaN is not equal to itself, but is written alike
        same_arrays(record, found)
    record.save(str(tmp_path / "c.json"))
    assert repr(Evaluation.load(str(tmp_path / "c.json"))) == repr(record)


def test_a_study_reads_back_equal_with_the_arrays_of_every_row(tmp_path: Path) -> None:
    record, path = study(), tmp_path / "results.json"
    records.save(record, path)
    found = records.load(StudyResult, path)
    assert repr(found) == repr(record)
    for one, other in zip(record.rows, found.rows, strict=True):
        same_arrays(one.evaluation, other.evaluation)
    assert found.rows[1].figures[1].published is None
    assert found.search is not None


@given(st.floats(), st.floats(), st.integers(0, 2**53), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_number_and_any_text_read_back_to_the_bit(value: float, low: float, n: int, text: str) -> None:
    record = replace(evaluation(), clean=Estimate(value, low, 1.0, n), note=text, curves=())
    raw = json.loads(json.dumps(records._converter.unstructure(record), allow_nan=False))
    assert repr(records._converter.structure(raw, Evaluation)) == repr(record)


def test_the_json_is_strict_and_readable_by_others(saved: Path) -> None:
    raw = json.loads(saved.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert raw["schema_version"] == results.SCHEMA_VERSION
    assert raw["clean"]["value"] == 0.8
    assert raw["attacked"]["fgsm()"]["median_distance"] == "inf"
    assert raw["attacked"]["fgsm()"]["backwards"] is None
    assert "arrays" not in raw


def test_a_record_without_its_arrays_is_read_without_them(saved: Path) -> None:
    saved.with_suffix(".npz").unlink()
    found = Evaluation.load(saved)
    assert found.arrays == {}
    assert found == replace(found, arrays={})


def test_records_without_arrays_can_be_saved(tmp_path: Path) -> None:
    replace(evaluation(), arrays={}).save(tmp_path / "a.json")
    assert Evaluation.load(tmp_path / "a.json").arrays == {}


@pytest.mark.parametrize("key", ["a/b/../c", "ünï", "0/ids", "x.npy", "/ids"])
def test_arrays_may_have_any_name(key: str, tmp_path: Path) -> None:
    record = replace(evaluation(), arrays={key: np.arange(3)})
    record.save(tmp_path / "a.json")
    same_arrays(record, Evaluation.load(tmp_path / "a.json"))


def test_a_record_whose_name_is_that_of_its_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "evaluation.npz"
    refusal(lambda: evaluation().save(path), path)


def test_saving_again_replaces_record_and_arrays(saved: Path) -> None:
    replace(evaluation(), model="other", arrays={"ids": np.arange(9)}).save(saved)
    found = Evaluation.load(saved)
    assert found.model == "other"
    assert list(found.arrays) == ["ids"]
    assert sorted(p.name for p in saved.parent.iterdir()) == ["evaluation.json", "evaluation.npz"]


def test_records_whose_names_differ_after_a_dot_keep_their_own_arrays(tmp_path: Path) -> None:
    for name, rows in (("linf-0.1", 3), ("linf-0.2", 9)):
        replace(evaluation(), arrays={"ids": np.arange(rows)}).save(tmp_path / name)
    found = [Evaluation.load(tmp_path / name).arrays["ids"] for name in ("linf-0.1", "linf-0.2")]
    assert [len(ids) for ids in found] == [3, 9]


def test_the_arrays_of_another_record_are_refused(saved: Path, tmp_path: Path) -> None:
    replace(evaluation(), arrays={"ids": np.arange(9)}).save(tmp_path / "other.json")
    (tmp_path / "other.npz").replace(saved.with_suffix(".npz"))
    assert "another record" in refusal(lambda: Evaluation.load(saved), saved.with_suffix(".npz"))
    raw = json.loads(saved.read_text(encoding="utf-8"))
    del raw[records.STAMP]  # as older records are
    saved.write_text(json.dumps(raw), encoding="utf-8")
    assert len(Evaluation.load(saved).arrays["ids"]) == 9


# ------------------------------------------------------------------------------------------------------ what is derived


def test_the_error_is_one_less_the_accuracy_with_its_interval_turned_round() -> None:
    error = confidence(0.8).error
    assert (error.value, error.low, error.high, error.n) == pytest.approx((0.2, 0.1, 0.3, 10))


@pytest.mark.parametrize(
    ("published", "tolerance", "reproduced"),
    [
        (0.5, 0.0, True),
        (0.45, 0.05, True),
        (0.44, 0.05, False),
        (0.56, 0.05, False),
        (None, 0.1, None),
        (0.5, None, None),
    ],
)
def test_a_figure_is_reproduced_within_its_tolerance_or_nothing_is_said(
    published: float | None, tolerance: float | None, reproduced: bool | None
) -> None:
    assert Figure("f", published, estimate(0.5), None, tolerance).reproduced is reproduced


def test_a_verdict_prints_as_a_few_lines_and_what_stands_against_it_the_gravest_first() -> None:
    """It printed 8,000 characters."""
    flags = (Flag("noise", "note", "n"), Flag("converged", "warn", "slow"), Flag("black box", "fail", "fell"))
    audit = (Checked("noise", "note", ""),)
    record = replace(evaluation("net"), clean=Estimate(0.8, 0.75, 0.85, 40), flags=flags, audit=audit)
    lines = str(record).splitlines()
    assert lines[0] == "net on digits() (test, 10 examples), linf(eps=inf)"
    assert lines[1].endswith("80.0% (95 %: 75.0% to 85.0%)")
    assert lines[3].endswith(" no")
    assert lines[4:] == ["FAIL  black box: fell", "WARN  converged: slow"]
    assert str(replace(record, flags=flags[:2])).splitlines()[3].endswith(" yes")
    assert str(replace(record, flags=(), audit=())).splitlines()[3].endswith("unknown, for it was not audited")
    alone = Estimate(0.5, NAN, NAN, 1)  # of one training
    assert str(replace(record, robust=alone)).splitlines()[2].endswith(" 50.0%")


# ---------------------------------------------------------------------------------------------------- damaged records


def test_a_missing_record_is_refused(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(lambda: Evaluation.load(tmp_path / "x.json"), tmp_path / "x.json")


def test_a_folder_is_no_record(tmp_path: Path) -> None:
    refusal(lambda: Evaluation.load(tmp_path), tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_a_truncated_record_is_refused(share: float, saved: Path) -> None:
    whole = saved.read_bytes().rstrip()
    saved.write_bytes(whole[: int(share * len(whole))])
    assert "damaged, not readable as a record" in refusal(lambda: Evaluation.load(saved), saved)


@pytest.mark.parametrize(
    "content",
    [b"null", b"[]", b"3", b'"text"', b"{}", b"\xff\xfe", b"\x89PNG\r\n\x1a\n", b"[" * 100_000, b"<html></html>"],
    ids=["null", "list", "number", "text", "empty", "not utf-8", "image", "deep", "html"],
)
def test_a_file_that_is_something_else_is_refused(content: bytes, saved: Path) -> None:
    saved.write_bytes(content)
    refusal(lambda: Evaluation.load(saved), saved)


@pytest.mark.parametrize("version", [0, 2, None, "1", 1.5])
def test_a_record_of_another_schema_is_refused_with_its_version(version: object, saved: Path) -> None:
    raw = json.loads(saved.read_text(encoding="utf-8"))
    saved.write_text(json.dumps(raw | {"schema_version": version}), encoding="utf-8")
    assert f"schema_version is {version!r}" in refusal(lambda: Evaluation.load(saved), saved)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("clean",), "0.5"),
        (("clean",), None),
        (("clean", "value"), "half"),
        (("clean", "value"), [0.5]),
        (("clean", "n"), "many"),
        (("clean", "n"), None),
        (("attacked",), [1]),
        (("attacked",), {"fgsm()": 3}),
        (("curves",), 3),
        (("curves", 0, "points"), [3]),
        (("curves", 0, "worst_case"), "no"),
        (("flags", 0, "severity"), "mild"),
        (("classes",), 3),
        (("model",), None),
        (("model",), 3),
        (("provenance", "versions"), []),
        (("provenance", "seed"), 1.5),
    ],
)
def test_a_field_of_the_wrong_type_is_refused(place: tuple[str | int, ...], value: object, saved: Path) -> None:
    raw = json.loads(saved.read_text(encoding="utf-8"))
    part: Any = raw
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    saved.write_text(json.dumps(raw), encoding="utf-8")
    refusal(lambda: Evaluation.load(saved), saved)


@pytest.mark.parametrize("field", ["model", "clean", "robust", "attacked", "provenance", "schema_version"])
def test_a_missing_field_is_refused(field: str, saved: Path) -> None:
    raw = json.loads(saved.read_text(encoding="utf-8"))
    del raw[field]
    saved.write_text(json.dumps(raw), encoding="utf-8")
    refusal(lambda: Evaluation.load(saved), saved)


def test_a_record_of_another_kind_is_refused(saved: Path, tmp_path: Path) -> None:
    assert "holds one verdict, not a study's" in refusal(lambda: records.load(StudyResult, saved), saved)
    other = tmp_path / "study.json"
    records.save(study(), other)
    assert "holds a study's results, not one verdict" in refusal(lambda: Evaluation.load(other), other)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.95])
def test_truncated_arrays_are_refused(share: float, saved: Path) -> None:
    path = saved.with_suffix(".npz")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "delete it" in refusal(lambda: Evaluation.load(saved), path)


def test_arrays_with_a_damaged_byte_are_refused_or_read_as_they_were(saved: Path) -> None:
    path, honest = saved.with_suffix(".npz"), evaluation()
    whole = path.read_bytes()
    told = []
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            found = Evaluation.load(saved)
        except InputError as error:
            told.append(str(error))
        else:
            for key in found.arrays.keys() & honest.arrays.keys():
                np.testing.assert_array_equal(found.arrays[key], honest.arrays[key])
    assert len(told) > 20
    for message in told:
        assert str(path) in message
        assert "\n" not in message


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def test_arrays_that_hold_pickles_are_never_opened(saved: Path) -> None:
    class Canary:
        def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
            return os.mkdir, (str(saved.parent / "canary"),)

    path = saved.with_suffix(".npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ids.npy", npy(np.array([Canary()], dtype=object)))
    refusal(lambda: Evaluation.load(saved), path)
    assert not (saved.parent / "canary").exists()


@pytest.mark.parametrize("content", [npy(np.arange(3)), b"not a zip", b"\x80\x04N."], ids=["npy", "text", "pickle"])
def test_what_is_no_archive_of_arrays_is_refused(content: bytes, saved: Path) -> None:
    path = saved.with_suffix(".npz")
    path.write_bytes(content)
    refusal(lambda: Evaluation.load(saved), path)


# --------------------------------------------------------------------------------------------------- never half written


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    with replacing(path) as part:
        part.write_text("one")
        assert not path.exists()
        assert part.suffix == PART  # which no search for files of its kind finds
        assert part.parent == path.parent
    with path.open() as reader:
        with replacing(path) as part:
            part.write_text("two")
            assert path.read_text() == "one"
        assert reader.read() == "one"  # the old file was not written to: whoever had it open still has all of it
    assert path.read_text() == "two"
    assert [p.name for p in path.parent.iterdir()] == ["b.txt"]


@pytest.mark.parametrize("error", [KeyError("x"), KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_a_failure_leaves_the_old_file_and_nothing_else(error: BaseException, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    expected = InputError if isinstance(error, OSError) else type(error)

    def write() -> None:
        with replacing(path) as part:
            part.write_text("half of the n")
            raise error

    with pytest.raises(expected):
        write()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["numpy.savez_compressed", "os.fsync", "pathlib.Path.write_text", "tempfile.mkstemp"])
def test_a_full_disk_is_said_so_and_loses_nothing(where: str, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {p.name: p.read_bytes() for p in saved.parent.iterdir()}

    def full(*_: object, **__: object) -> None:
        raise FULL

    with monkeypatch.context() as patched:
        patched.setattr(where, full)
        message = refusal(lambda: replace(evaluation(), model="other").save(saved), saved.parent)
    assert "the disk is full" in message
    after = {p.name: p.read_bytes() for p in saved.parent.iterdir()}
    assert after.keys() == before.keys()
    assert after["evaluation.json"] == before["evaluation.json"]
    assert Evaluation.load(saved).model == "lenet()"


def test_a_full_disk_is_said_so_by_whatever_writes_tensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither PyTorch nor safetensors raises an OSError: both ended in a traceback."""

    def on_a_full_disk(*, prefix: str, suffix: str, dir: Path) -> tuple[int, str]:  # as in tempfile
        name = Path(dir) / f"{prefix}{suffix}"
        name.symlink_to("/dev/full")
        return os.open(os.devnull, os.O_RDONLY), str(name)

    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    run = Run(tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr("tempfile.mkstemp", on_a_full_disk)
        with pytest.raises(InputError, match=r"checkpoint\.pt: the disk is full; nothing was lost"):
            run.write_checkpoint({"weights": torch.zeros(5000)})
    monkeypatch.setattr("sparring.core.tensors.save_file", full)  # which makes its file anew, and so on any disk
    with pytest.raises(InputError, match=r"model\.safetensors: the disk is full; nothing was lost"):
        run.finish({"model": nn.Linear(100, 100)}, {}, "cpu")
    assert list(run.path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    refusal(lambda: evaluation().save(tmp_path / "file" / "a.json"), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    refusal(lambda: evaluation().save(tmp_path / "a.json"), tmp_path / "a.json")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


# ------------------------------------------------------------------------------------------------------------ no torch


@pytest.mark.parametrize(
    "module",
    [
        "sparring",
        "sparring.core.results",
        "sparring.core.spec",
        "sparring.core.statistics",
        "sparring.core.files",
        "sparring.report",
    ],
)
def test_torch_is_not_imported_by(module: str) -> None:
    code = f"import sys, {module}; sys.exit(any(m in sys.modules for m in ('torch', 'lightning_fabric')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_record_is_read_without_torch(saved: Path) -> None:
    code = (
        "import sys; from sparring.core.results import Evaluation; "
        f"print(Evaluation.load({str(saved)!r}).clean.value); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "0.8"


def test_what_a_killed_process_left_half_written_is_taken_for_nothing_and_swept(tmp_path: Path) -> None:
    code = "import os, sys; from pathlib import Path; from sparring.core.files import replacing\n"
    code += "with replacing(Path(sys.argv[1])) as part: os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.json")], check=False)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())

"""Verdicts in files and in run folders stand side by side alike; runs that have none yet are left out by name."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from sparring.core.errors import InputError
from sparring.core.records import save
from sparring.core.results import Evaluation
from sparring.core.study_results import bare, side_by_side
from sparring.data import load
from sparring.evaluation import evaluate
from sparring.evaluation.compare import compare
from sparring.recipe import Recipe, fit
from sparring.studies.gathering import gather, pairs
from sparring.studies.judge import Judgement, judge


@pytest.fixture(scope="module")
def own() -> Evaluation:
    """Give a verdict on a model of a user's own, which is called by its class."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    return evaluate(net, "digits()", "linf(0.05)", ["fgsm()"], examples=40, curve=(), audit="off")


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of a run that was judged as that model was."""
    fields = {"data": "digits()", "model": "mlp(hidden=(16,))", "optimiser": "adam(lr=0.01)", "epochs": 1}
    fitted = fit(Recipe.of(fields), runs=tmp_path_factory.mktemp("runs"), device="cpu", quiet=True)
    settings = Judgement("linf(0.05)", ("fgsm()",), examples=40, curve=(), audit="off")
    judge(fitted, load("digits()"), settings)
    return fitted.run.path


def names(*places: Path) -> list[str]:
    return [row.name for row in gather(places).rows]


def test_files_and_runs_are_mixed(own: Evaluation, judged: Path, tmp_path: Path) -> None:
    own.save(tmp_path / "own.json")
    result = gather([tmp_path / "own.json", judged])
    assert [row.name for row in result.rows] == ["Sequential", judged.name]
    assert [bool(row.recipe) for row in result.rows] == [False, True]
    assert result.rows[0].evaluation == own
    ((first, second),) = pairs(tmp_path / "own.json", judged)
    assert (first.model, second.model) == ("Sequential", judged.name)
    assert compare(first, second)


def test_a_glob_over_verdicts_names_their_arrays_too(own: Evaluation, tmp_path: Path) -> None:
    """A folder of verdicts could not be reported by `verdicts/*`: the arrays were read as records."""
    for name in ("one.json", "other.json", "plain"):
        own.save(tmp_path / name)
    places = sorted(tmp_path.iterdir())
    assert len(places) == 6
    assert names(*places) == ["one", "other", "plain"]
    with pytest.raises(InputError, match=r"one\.npz: damaged"):  # alone it is a mistake
        gather([tmp_path / "one.npz"])


def test_a_network_as_it_comes_is_of_no_defence(judged: Path, tmp_path: Path) -> None:
    """It was called standard(), whatever had made it robust."""
    fields = {"data": "digits()", "model": "mlp(hidden=(16,))", "epochs": 0}
    fitted = fit(Recipe.of(fields), runs=tmp_path, device="cpu", quiet=True)
    judge(fitted, load("digits()"), Judgement("linf(0.05)", ("fgsm()",), examples=40, curve=(), audit="off"))
    assert [row.defence for row in gather([fitted.run.path, judged]).rows] == ["as it comes", "standard()"]


def test_models_of_one_class_are_told_apart_by_their_files(own: Evaluation, tmp_path: Path) -> None:
    for name in ("mine", "theirs", "deep/mine"):
        own.save(tmp_path / f"{name}.json")
    mine, theirs, deep = (tmp_path / f"{name}.json" for name in ("mine", "theirs", "deep/mine"))
    assert names(mine) == ["Sequential"]
    assert names(mine, theirs) == ["mine", "theirs"]
    assert [name.partition(",")[0] for name in names(mine, deep)] == [str(mine), str(deep)]
    replace(own, threat="linf(eps=0.1)").save(theirs)
    assert names(mine, theirs) == ["Sequential, linf(eps=0.05)", "Sequential, linf(eps=0.1)"]


def test_what_tells_two_lone_verdicts_apart_is_said(own: Evaluation, tmp_path: Path) -> None:
    own.save(tmp_path / "one.json")
    replace(own, data="mnist()").save(tmp_path / "other.json")
    (pair,) = pairs(tmp_path / "one.json", tmp_path / "other.json")
    with pytest.raises(InputError, match="another data"):
        compare(*pair)


def test_runs_without_an_evaluation_are_left_out_by_name(
    judged: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One training that still went on kept a report of all others from being written."""
    runs = tmp_path / "runs"
    for name in ("judged", "trained", "begun"):
        shutil.copytree(judged, runs / name)
    for name in ("trained", "begun"):
        shutil.rmtree(runs / name / "evaluations")
    (runs / "begun" / "model.json").unlink()
    with caplog.at_level(logging.WARNING, "sparring"):
        assert names(*sorted(runs.iterdir())) == ["judged"]
    assert caplog.messages == [f"left out, not finished or without an evaluation: {runs}/begun, {runs}/trained"]
    assert "judged" in gather(sorted(runs.iterdir())).summary
    make = f"make one with: sparring evaluate {runs}/trained --threat ..."
    for said, left in (
        (f"{runs}/trained: holds no evaluation; {make}", ["trained"]),
        (f"{runs}/begun: its training has not finished; go on with: sparring train ", ["begun", "trained"]),
        (f"{runs}/nowhere: there is no such file or folder", ["judged", "nowhere"]),
        (f"{tmp_path}: no run folder", ["judged", ".."]),
    ):
        with pytest.raises(InputError) as caught:
            gather([(runs / name).resolve() for name in left])
        assert str(caught.value).startswith(said)
    with pytest.raises(InputError, match="trained: holds no evaluation"):
        pairs(runs / "judged", runs / "trained")


def test_a_damaged_or_another_record_is_named(own: Evaluation, judged: Path, tmp_path: Path) -> None:
    broken, study = tmp_path / "broken.json", tmp_path / "study.json"
    broken.write_text("{")
    save(side_by_side([bare("a", own)]), study)
    for place, said in ((broken, "damaged, not readable as a record"), (study, "holds a study's results, not one")):
        with pytest.raises(InputError, match=f"{place.name}: {said}"):
            gather([judged, place])
        with pytest.raises(InputError, match=f"{place.name}: {said}"):
            pairs(judged, place)

"""A run is judged on the labels that its model means, however the data names and orders them; strays are no records."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import sparring
from sparring.core.errors import InputError
from sparring.data import Folder, load
from sparring.recipe import Fitted, Recipe, fit, open_run
from sparring.studies.gathering import gather
from sparring.studies.judge import Judgement, judge

SETTINGS = Judgement("linf(0.01)", ("fgsm()",), curve=(), audit="off")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    fields = {"data": "digits()", "model": "mlp(hidden=(32,))", "optimiser": "adam(lr=0.01)", "epochs": 3}
    return fit(Recipe.of(fields), runs=tmp_path_factory.mktemp("runs"), device="cpu", quiet=True)


def written(root: Path, names: dict[int, str]) -> Folder:
    """Give a folder of the digits' test images of some classes, under these names."""
    test = load("digits()").test
    for place, (image, label) in enumerate(zip(test.x, test.y.tolist(), strict=True)):
        if label in names:
            (root / names[label]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(root / names[label] / f"{place}.png")
    return Folder(str(root), test=1.0)


def accuracy(fitted: Fitted, labels: set[int]) -> float:
    test = load("digits()").test
    rows = torch.tensor([label in labels for label in test.y.tolist()])
    with torch.no_grad():
        return float((fitted.model(test.images()[rows]).argmax(1) == test.y[rows]).double().mean())


def test_some_of_the_models_classes_are_judged_by_their_names(fitted: Fitted, tmp_path: Path) -> None:
    found, _ = judge(fitted, written(tmp_path, {3: "3", 7: "7", 9: "9"}), SETTINGS)
    assert found.clean.value == accuracy(fitted, {3, 7, 9}) > 0.7
    assert found.classes == tuple("0123456789")
    assert "matched to the model's classes by name" in found.note


def test_other_names_are_matched_by_place_with_a_note_or_refused(fitted: Fitted, tmp_path: Path) -> None:
    named = written(tmp_path / "words", {label: f"digit {label}" for label in range(10)})
    found, _ = judge(fitted, named, SETTINGS)
    assert found.clean.value == accuracy(fitted, set(range(10)))
    assert "matched by place" in found.note
    with pytest.raises(InputError, match="the model knows no class 'three'"):
        judge(fitted, written(tmp_path / "few", {3: "three", 7: "7"}), SETTINGS)


def test_what_was_half_written_is_no_record(fitted: Fitted) -> None:
    judge(fitted, load("digits()"), SETTINGS)
    (fitted.run.path / "evaluations" / ".test-linf-abc.json").write_text("{")
    assert gather([fitted.run.path]).rows


def said(act: Callable[[], object]) -> str:
    with pytest.raises(InputError) as caught:
        act()
    return str(caught.value)


@pytest.mark.parametrize("opened", [sparring.load, open_run])
def test_a_run_that_cannot_be_opened_says_why(opened: Callable[[Path], object], fitted: Fitted, tmp_path: Path) -> None:
    """A folder with a recipe, whose training was stopped before its first checkpoint, was called no run folder."""
    run = tmp_path / "a run"
    assert said(lambda: opened(run)) == f"{run}: there is no such file or folder"
    run.mkdir()
    assert said(lambda: opened(run)) == f"{run}: no run folder; it has neither a recipe nor a model"
    shutil.copy(fitted.run.path / "recipe.toml", run)
    command = f"sparring train '{run}/recipe.toml' --resume --runs {tmp_path}"
    assert said(lambda: opened(run)) == f"{run}: its training has not finished; go on with: {command}"
    (run / "model.json").write_text("{")
    assert said(lambda: opened(run)).startswith(f"{run}/model.json: damaged, not readable as a description (")


def test_a_surrogate_that_is_not_there_is_named_with_its_argument(fitted: Fitted) -> None:
    settings = Judgement("linf(0.01)", ("transfer(surrogate='nope', attack=fgsm())",), curve=(), audit="off")
    told = said(lambda: judge(fitted, load("digits()"), settings))
    assert told == "transfer: surrogate: nope: there is no such file or folder"


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_no_generator_takes_are_refused(seed: int) -> None:
    with pytest.raises(InputError, match=r"^seed: expected a whole number"):
        Judgement("linf(0.1)", seed=seed)

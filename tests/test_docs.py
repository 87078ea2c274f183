"""The docs are complete, their code runs, and their links lead somewhere."""

import re
import runpy
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image
from torch import nn
from typer.main import get_command

from sparring import listing
from sparring.cli import app
from sparring.evaluation.audit import CHECKS
from sparring.recipe import Recipe
from sparring.studies import read_plan, studies

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    return [(p.name, code) for p in PAGES for kind, code in FENCE.findall(p.read_text("utf-8")) if kind == language]


def test_the_components_page_is_up_to_date() -> None:
    assert (ROOT / "docs" / "components.md").read_text("utf-8") == listing.markdown()


@pytest.mark.parametrize("name", studies())
def test_every_study_is_described(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "studies.md").read_text("utf-8")


def test_the_page_on_verdicts_has_a_row_for_every_check() -> None:
    """Each of the audit's, in its order."""
    page = (ROOT / "docs" / "verdict.md").read_text("utf-8")
    table = page.partition("| check | what it asks")[2]
    assert re.findall(r"^\| ([\w -]+) \|", table, re.MULTILINE)[1:] == [check.name for check in CHECKS]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_python_in_the_docs_runs(page: str, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.toml").write_text('data = "digits()"\nmodel = "mlp(hidden=(16,))"\nepochs = 1\n')
    (tmp_path / "gan.toml").write_text('data = "digits()"\ngenerative = "gan(latent=4, width=8)"\nepochs = 1\n')
    for number in range(4):
        image = Image.effect_noise((30, 24), 50 + number).convert("RGB")
        (tmp_path / "photos" / f"{number % 2}").mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / "photos" / f"{number % 2}" / f"{number}.png")
    monkeypatch.setenv("SPARRING_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=stub))
    exec(compile(code, page, "exec"), {"__name__": "docs"})


def stub(_name: str, *, pretrained: bool) -> nn.Module:
    """Stand in for timm, which is not installed here: a network of two classes that takes anything."""
    assert pretrained
    net = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 2))
    net.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}  # type: ignore[assignment]
    return net


@pytest.mark.parametrize(("page", "code"), blocks("toml"))
def test_recipes_and_studies_in_the_docs_are_right(page: str, code: str, tmp_path: Path) -> None:
    path = tmp_path / "file.toml"
    path.write_text(code)
    if "[[rows]]" in code:
        assert read_plan(str(path)).rows
    else:
        assert Recipe.read(path).epochs > 0


@pytest.mark.parametrize(("page", "code"), blocks("bash"))
def test_commands_in_the_docs_exist_with_their_options(page: str, code: str) -> None:
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words and "=" in words[0]:
            words.pop(0)
        if not words or words[0] != "sparring":
            continue
        command = get_command(app)
        for word in words[1:]:
            below = getattr(command, "commands", {})
            if word not in below:
                break
            command = below[word]
        known = {option for parameter in command.params for option in parameter.opts}
        for word in words[1:]:
            if word.startswith("--"):
                assert word in known, f"{page}: {line}"


def test_the_tables_in_the_docs_are_the_committed_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    found = runpy.run_path(str(ROOT / "benchmarks" / "tables.py"))["tables"]()
    for place, table in found.items():
        page = ROOT / "docs" / place.split()[0]
        assert table in page.read_text("utf-8"), f"{place} is out of date: python benchmarks/tables.py"


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").glob("*.json")), ids=lambda path: path.name)
def test_committed_results_name_no_path_of_one_machine(path: Path) -> None:
    """Their commands must work elsewhere."""
    assert not re.findall(r"/(?:tmp|work|home|root)/\S*", path.read_text("utf-8"))

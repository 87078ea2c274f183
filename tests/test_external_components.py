"""Attacks and defences of one's own by call strings: in a command, a recipe and a study; and what a file may import."""

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest
from torch import nn
from typer.testing import CliRunner, Result

import sparring
from sparring.attacks import ATTACKS, Attack
from sparring.cli import app
from sparring.core.errors import InputError
from sparring.core.outside import code_named, nothing_imported
from sparring.core.spec import Catalogue
from sparring.data import SOURCES
from sparring.defences import DEFENCES, MASKS, Defence
from sparring.generative import GENERATIVES
from sparring.models import MODELS
from sparring.models.perturber import PERTURBERS
from sparring.recipe import Recipe, fit
from sparring.studies import run_study

CODE = '''
from dataclasses import dataclass
from pathlib import Path
from torch.nn import functional as F
from sparring.attacks import PGD, Attack
from sparring.defences import LossDefence

with (Path(__file__).parent / "imported").open("a") as file:
    file.write("once")

@dataclass(frozen=True, kw_only=True)
class Darker(Attack):
    """Takes light away."""
    name, kind, source = "darker", "budget", "mine"
    part: float = 1.0

    def perturb(self, oracle, x, y, threat, *, target=None, stop=True):
        return x - self.part * threat.eps

@dataclass(frozen=True, kw_only=True)
class Calm(LossDefence):
    """Holds the logits small."""
    name, source = "calm", "mine"
    weight: float = 0.1
    attack: Attack = PGD()

    def loss(self, net, x, y, *, progress, generator):
        logits = net(x)
        return F.cross_entropy(logits, y) + self.weight * logits.square().mean(), {}

def not_a_class(): return 3
number = 3
'''
DARKER, CALM = 'external("my_parts:Darker", part=0.5)', 'external("my_parts:Calm", weight=0.5, attack=fgsm())'


@pytest.fixture(autouse=True)
def parts(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put a module with an attack and a defence where it is found; give the file in which its imports are counted."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "my_parts.py").write_text(CODE)
    (folder / "broken_parts.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(folder)
    yield folder / "imported"
    sys.modules.pop("my_parts", None)
    sparring.core.outside.component_class.cache_clear()


def command(*arguments: str) -> Result:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done


def recipe(**changes: object) -> Recipe:
    return Recipe.of({"data": "digits()", "model": "mlp(hidden=(8,))", "epochs": 1, "limit": 100, **changes})


def test_it_is_the_class_with_its_arguments_and_says_where_it_comes_from() -> None:
    attack, defence = ATTACKS.parse(DARKER), DEFENCES.parse(CALM)
    assert (attack.name, attack.part, attack.kind) == ("darker", 0.5, "budget")
    assert str(attack) == repr(attack) == "external('my_parts:Darker', part=0.5)"
    assert str(ATTACKS.parse('external("my_parts:Darker")')) == "external('my_parts:Darker')"
    assert str(defence) == "external('my_parts:Calm', weight=0.5, attack=fgsm())"
    for made, catalogue in ((attack, ATTACKS), (defence, DEFENCES)):
        assert catalogue.parse(repr(made)) == made
        again = pickle.loads(pickle.dumps(made))
        assert again == made
        assert repr(again) == repr(made)
    assert not ATTACKS.components.keys() & {"external", "darker"}


def test_an_own_class_in_python_keeps_its_own_name() -> None:
    ATTACKS.parse(DARKER)
    assert repr(sys.modules["my_parts"].Darker(part=0.5)) == "darker(part=0.5)"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ('external("my_parts:Darker", prat=1)', "darker: unknown argument 'prat'; did you mean 'part'"),
        ('external("my_parts:Darker", part="much")', "darker: part: expected a number"),
        ('external("my_parts:Calm")', r"external: my_parts:Calm is no class that extends attacks.Attack"),
        ('external("my_parts:not_a_class")', r"external: my_parts:not_a_class is no class that extends"),
        ('external("my_parts:number")', "external: my_parts has no class 'number'"),
        ('external("my_parts:Drker")', "external: my_parts has no class 'Drker'"),
        ('external("my_parts")', r'external: expected "package.module:class", not \'my_parts\''),
        ('external("nowhere:Mine")', "the module 'nowhere' cannot be imported"),
        ('external("broken_parts:Mine")', "external: broken_parts:Mine failed: ZeroDivisionError"),
        ("external()", "unknown attack 'external'"),
        ("external(3)", "unknown attack 'external'"),
    ],
)
def test_what_is_wrong_with_it_is_said_in_one_line(call: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        ATTACKS.parse(call)


def test_an_attack_is_judged_beside_others(net: nn.Module, data: SimpleNamespace) -> None:
    found = sparring.evaluate(net, (data.x, data.y), "linf(0.1)", [DARKER, "fgsm()"], audit="off", curve=())
    assert list(found.attacked) == ["external('my_parts:Darker', part=0.5)", "fgsm()"]


def test_a_command_a_recipe_and_what_trains_by_an_attack_take_it(tmp_path: Path) -> None:
    fitted = fit(recipe(defence=CALM), runs=tmp_path, quiet=True)
    assert fitted.run.path.name.startswith("digits-mlp-calm-")
    again = Recipe.read(fitted.run.path / "recipe.toml")
    assert again == recipe(defence=CALM)
    around = f"ema(defence=adversarial(attack={DARKER}, threat=linf(0.1)))"
    assert fit(recipe(defence=around), runs=tmp_path, quiet=True).run.finished
    told = command(
        *("evaluate", str(fitted.run.path), "--threat", "linf(0.1)", "--attack", DARKER, "--audit", "off"),
        *("--examples", "20"),
    )
    assert "my_parts:Darker" in told.output


def test_a_study_sets_it_beside_what_there_is(tmp_path: Path) -> None:
    """By several processes, too, to which recipes are pickled."""
    (tmp_path / "mine.toml").write_text(
        f"""
        name = "mine"
        title = "Is mine better?"
        [recipe]
        data = "digits()"
        model = "mlp(hidden=(8,))"
        epochs = 1
        limit = 100
        [evaluation]
        threat = "linf(0.1)"
        attacks = ["fgsm()", '''{DARKER}''']
        examples = 20
        audited = 0
        curve = []
        [[rows]]
        name = "mine"
        defence = '''{CALM}'''
        [[rows]]
        name = "standard"
        defence = "standard()"
        """
    )
    result, _ = run_study(str(tmp_path / "mine.toml"), runs=tmp_path, out=tmp_path / "report", jobs=2, quiet=True)
    assert [row.defence for row in result.rows] == [str(DEFENCES.parse(CALM)), "standard()"]
    assert all("external('my_parts:Darker', part=0.5)" in row.evaluation.attacked for row in result.rows)


def test_a_verdict_is_made_anew_once_the_attacks_code_has_changed(tmp_path: Path, parts: Path) -> None:
    """It was kept by the call string alone: whoever mended an attack was shown what the old one had left."""
    run = str(fit(recipe(), runs=tmp_path, quiet=True).run.path)
    how = ("evaluate", run, "--threat", "linf(0.1)", "--audit", "off", "--examples", "20", "--attack")
    around = f"transfer(surrogate='{run}', attack={DARKER})"
    for attack in (DARKER, around):
        told = [command(*how, attack).output.splitlines()[-1] for _ in range(2)]
        assert told[0] == told[1]
        (parts.parent / "my_parts.py").write_text(CODE + f"# {attack}\n")
        assert command(*how, attack).output.splitlines()[-1] not in told
    assert code_named("fgsm()") == []
    assert len(code_named(repr(DARKER) + repr([CALM]))) == 1
    with pytest.raises(InputError, match="'nowhere' is in no file"):
        code_named("external('nowhere:Mine')")


@pytest.mark.parametrize("catalogue", [MODELS, MASKS, GENERATIVES, PERTURBERS, SOURCES])
def test_what_a_run_folder_is_opened_by_names_no_attack_and_no_defence(catalogue: Catalogue[Any]) -> None:
    """Their call strings may import code, and those that stand in model.json were written by who knows whom."""
    assert not catalogue.outside
    for kind in catalogue:
        for hint in get_type_hints(kind).values():
            assert not any(issubclass(of, Attack | Defence) for of in (hint, *get_args(hint)) if isinstance(of, type))


def test_nothing_is_imported_for_what_a_run_folder_or_a_record_says(tmp_path: Path, parts: Path) -> None:
    """A folder from anywhere is judged, reported and compared: its recipe may name what it likes."""
    run = str(fit(recipe(defence=CALM), runs=tmp_path, quiet=True).run.path)
    how = ("--threat", "linf(0.1)", "--audit", "off", "--examples", "20")
    command("evaluate", run, *how, "--attack", DARKER)
    sys.modules.pop("my_parts")
    sparring.core.outside.component_class.cache_clear()
    before = parts.read_text()
    command("report", run, "--out", str(tmp_path / "report"))
    assert "my_parts:Calm" in (tmp_path / "report" / "report.html").read_text()
    assert "my_parts:Darker" in command("compare", run, run).output
    command("evaluate", run, *how, "--attack", "fgsm()")
    assert parts.read_text() == before
    with nothing_imported(), pytest.raises(InputError, match="code from outside is not imported for what a file says"):
        ATTACKS.parse(DARKER)
    assert parts.read_text() == before
    assert isinstance(ATTACKS.parse(DARKER), Attack)
    assert isinstance(DEFENCES.parse(CALM), Defence)
    assert parts.read_text() == before + "once"

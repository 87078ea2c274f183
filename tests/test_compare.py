"""Two models on the same examples: counts, the test beside an independent library, and what cannot be compared."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

import sparring
from sparring.attacks import Crafting
from sparring.cli import main
from sparring.core.errors import InputError
from sparring.core.results import Evaluation
from sparring.core.statistics import mcnemar_p
from sparring.data import load
from sparring.evaluation import evaluate
from sparring.evaluation.compare import compare
from sparring.recipe import Recipe, fit, open_run
from sparring.studies.gathering import gather, pairs
from sparring.studies.judge import Judgement, judge

MEANS = {"max_forwards": "1"}


class Sees(nn.Module):
    """Right on the images (of class 1) whose first pixel is brighter than `level`, and none too near to it."""

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = level

    def forward(self, x: Tensor) -> Tensor:
        told = x[:, 0, 0, :1] - self.level
        return torch.cat([-told, told], 1)


def judged(level: float) -> Evaluation:
    x = torch.linspace(0, 1, 101)[:, None, None, None].expand(101, 1, 2, 2).contiguous()
    return evaluate(Sees(level), (x, torch.ones(101).long()), "linf(0.1)", ["fgsm()", "pgd(steps=3)"], curve=())


def test_it_counts_who_alone_is_right() -> None:
    first, second = judged(0.295), judged(0.495)
    found = {of.what: of for of in compare(first, second)}
    assert list(found) == ["clean", *first.attacked, "worst case"]
    assert (found["clean"].only_first, found["clean"].only_second) == (20, 0)
    assert found["clean"].first.value == pytest.approx(71 / 101)
    assert (found["worst case"].only_first, found["worst case"].only_second) == (20, 0)
    assert found["worst case"].second.value == pytest.approx(second.robust.value)
    assert found["clean"].p == pytest.approx(2 * 0.5**20)
    back = {of.what: of for of in compare(second, first)}
    assert (back["clean"].only_first, back["clean"].only_second) == (0, 20)
    assert all(of.p == 1 for of in compare(first, first))


@pytest.mark.parametrize(("one", "other"), [(0, 0), (1, 0), (3, 9), (40, 41), (500, 700)])
def test_the_p_value_is_the_exact_binomial_test(one: int, other: int) -> None:
    expected = binomtest(one, one + other, 0.5).pvalue if one + other else 1.0
    assert mcnemar_p(one, other) == pytest.approx(expected, rel=1e-6)


def test_only_examples_and_attacks_that_both_have_count() -> None:
    first, second = judged(0.295), judged(0.495)
    rows = np.arange(101) % 2 == 0
    part = {name: flags[rows] for name, flags in second.arrays.items() if len(flags) == 101}
    name = next(iter(second.attacked))
    half = replace(second, attacked={name: second.attacked[name]}, arrays=part)
    found = compare(first, half)
    assert [of.what for of in found] == ["clean", name, "worst case"]
    assert found[0].only_first == 10
    assert found[0].first.n == 51


def test_what_cannot_be_compared_is_said() -> None:
    first, second = judged(0.3), judged(0.5)
    for wrong, says in (
        (replace(second, data="mnist()"), "another data"),
        (replace(second, threat="linf(eps=0.2)"), "another threat"),
        (replace(second, split="train"), "another split"),
        (replace(second, arrays={}), "not beside the records"),
        (replace(second, attacked={}), "no attack in common"),
        (replace(second, arrays={**second.arrays, "ids": second.arrays["ids"] + 1000}), "no example in common"),
    ):
        with pytest.raises(InputError, match=says):
            sparring.compare(first, wrong)
    with pytest.raises(InputError, match=r"^compare: expected two verdicts, not str; Evaluation.load"):
        sparring.compare(first, "own.json")  # type: ignore[arg-type]


def test_the_command_compares_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, names = load("digits()"), []
    for width in (8, 32):
        fields = {"data": "digits()", "model": f"mlp(hidden=({width},))", "optimiser": "adam(lr=0.01)", "epochs": 3}
        fitted = fit(Recipe.of(fields), runs=tmp_path, quiet=True)
        judge(fitted, data, Judgement("linf(0.05)", ("fgsm()", "pgd(steps=3)"), examples=80, curve=()))
        names.append(str(fitted.run.path))

    def says(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sparring", "compare", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0), *capsys.readouterr()

    code, out, _ = says(*names)
    assert code == 0
    assert "worst case" in out
    assert "it alone" in out
    assert "\npgd(steps=3) " in out  # without what is default
    (told,) = json.loads(says(*names, "--json")[1])
    assert told["threat"] == "linf(eps=0.05)"
    assert told["figures"][0]["what"] == "clean"
    for name in names:  # an evaluation that was limited is a pair of its own
        capped = Judgement(
            "linf(0.05)", ("fgsm()", "pgd(steps=3)"), examples=80, curve=(), crafting=Crafting(max_forwards=1)
        )
        judge(open_run(name), data, capped)
    found = pairs(*map(Path, names))
    assert [[e.means for e in pair] for pair in found] in ([[{}] * 2, [MEANS] * 2], [[MEANS] * 2, [{}] * 2])
    assert {row.name for row in gather([Path(names[0])]).rows} == {
        f"{Path(names[0]).name}, linf(eps=0.05)",
        f"{Path(names[0]).name}, linf(eps=0.05), max_forwards=1",
    }
    for path in Path(names[1], "evaluations").iterdir():
        path.unlink()
    code, _, err = says(*names)
    assert code == 2
    assert "holds no evaluation" in err
    fitted = fit(Recipe.read(Path(names[1]) / "recipe.toml"), runs=tmp_path, quiet=True)
    judge(fitted, data, Judgement("linf(0.2)", ("fgsm()",), examples=80, curve=()))
    code, _, err = says(*names)
    assert code == 2
    assert "no evaluation of the same data" in err


def test_the_same_numbers_of_other_images_are_not_paired() -> None:
    """Tensors handed over are numbered from 0: a model differed "significantly" from itself."""
    x = torch.rand(30, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    one, other = (evaluate(Sees(0.5), (each, torch.ones(30).long()), "linf(0.1)", "fgsm()") for each in (x, 1 - x))
    assert compare(one, one)
    with pytest.raises(InputError, match="example 0 is another image"):
        compare(one, other)


def test_other_statistics_and_other_limits_are_not_compared() -> None:
    first = judged(0.3)
    with pytest.raises(InputError, match="another kind of statistics"):
        compare(first, replace(first, statistics="batch"))
    with pytest.raises(InputError, match="another limit of the attacks: none and max_forwards=1"):
        compare(first, replace(first, means=MEANS))


def test_the_worst_case_is_that_of_the_verdicts() -> None:
    """What the curve or the audit broke counts there: a comparison said 72 % where the verdict said 59 %."""
    x = torch.linspace(0, 1, 101)[:, None, None, None].expand(101, 1, 2, 2).contiguous()
    given = x, torch.ones(101).long()
    first, second = (evaluate(Sees(level), given, "linf(0.1)", "uniform_noise(draws=1)") for level in (0.3, 0.5))
    assert first.otherwise > 0
    found = compare(first, second)[-1]
    assert found.what == "worst case"
    assert (found.first, found.second) == (first.robust, second.robust)

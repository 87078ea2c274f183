"""How to make it again: commands that a shell reads as they are meant."""

import shlex
from dataclasses import replace

from sparring.report import html, remake


def test_a_row_can_be_judged_alone(make_row):
    row = make_row("one")
    training, judging = remake.row(row)
    assert training.command == "sparring train recipe.toml"
    words = shlex.split(judging.command)
    assert words[:7] == ["sparring", "evaluate", "runs/toy-abc123", "--threat", "linf(0.3)", "--data", "digits()"]
    assert words[7:13] == ["--split", "test", "--examples", "500", "--seed", "7"]
    assert words[13:] == ["--attack", "fgsm()", "--attack", "pgd(steps=40)"]


def test_means_of_several_trainings_have_no_such_command(make_row):
    row = make_row("one")
    assert len(remake.row(replace(row, evaluation=replace(row.evaluation, seeds=(0, 1))))) == 1
    assert remake.row(replace(row, run="", recipe="")) == ()


def test_what_a_shell_would_change_is_quoted(make_row):
    row = make_row("one")
    for threat in ("linf(8/255)", 'a"b', "$(rm x)", "it's $HOME", "a b"):
        command = remake.row(replace(row, evaluation=replace(row.evaluation, threat=threat)))[1].command
        assert shlex.split(command)[4] == threat


def test_the_page_gives_them(make_row, make_study):
    page = html.render(make_study(make_row("one")))
    assert "sparring report results.json" in page
    assert "sparring evaluate runs/toy-abc123 --threat &#34;linf(0.3)&#34;" in page
    assert "results.json" not in html.render(make_study(make_row("one")), "sparring report runs/one")

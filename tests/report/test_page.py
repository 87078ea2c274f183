"""The page: one file, complete, offline, and deaf to whatever a record tries to say in HTML or in a script."""

import base64
import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pytest

import sparring.report
from sparring.core.errors import InputError
from sparring.core.statistics import share
from sparring.core.study_results import Figure, Repeat
from sparring.report import beside, charts, format, html, panels

VOID = {"input", "meta", "img", "link", "br", "path"}


class Page(HTMLParser):
    """The elements, scripts and text of a page."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, f"{tag} is closed before what it holds"

    def handle_data(self, data):
        if self.open[-1:] == ["script"]:
            self.scripts.append(data)
        else:
            self.text += data + " "

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]


@pytest.fixture(scope="session")
def page(written) -> Page:
    return Page(written.read_text(encoding="utf-8"))


def words(page: Page) -> str:
    """Return the page's text with dashes and signs that a keyboard has."""
    return " ".join(page.text.split()).replace(format.TO, "-").replace(format.TIMES, "x")


def test_it_is_one_file_of_at_most_eight_megabytes(written):
    assert written.name == "report.html"
    assert written.stat().st_size <= 8 * 2**20


def test_every_element_is_closed(page):
    assert page.open == []


def test_nothing_is_loaded_from_elsewhere(page):
    """Sources and links are data or anchors, the styles name no address, and the browser is told to load nothing."""
    for address in page.attributes("src") + page.attributes("href"):
        assert address.startswith(("data:image/png;base64,", "#")), address[:80]
    assert "link" not in [tag for tag, _ in page.elements]
    style = page.text[: page.text.index("Skip to the verdict")]
    assert "url(" not in style
    assert "@import" not in style
    assert page.attributes("content")[-1].startswith("default-src 'none'")


def test_a_name_that_is_a_script_is_shown_and_never_run(page):
    assert "<script>alert('x')</script> & $\\frac{1$ %{x}" in words(page)
    assert sum(tag == "script" for tag, _ in page.elements) == 4  # data, Plotly and two of ours
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)


def test_the_policy_lets_only_the_scripts_of_the_page_run(page):
    policy = next(attrs["content"] for _, attrs in page.elements if "http-equiv" in attrs)
    for script in page.scripts[1:]:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy


def test_the_charts_data_cannot_end_its_element(page):
    assert not re.search("[<>&]", page.scripts[0])
    specs = json.loads(page.scripts[0])
    assert set(specs) == set(page.attributes("data-chart"))
    assert "&lt;script&gt;" in json.dumps(specs)


def test_ids_are_unique_and_links_arrive(page):
    ids = page.attributes("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.attributes("href")} <= set(ids)


def test_images_have_alternatives_and_tables_captions(page):
    images = [attrs for tag, attrs in page.elements if tag == "img"]
    assert len(images) == 3 * (3 + 2)
    assert all(attrs["alt"] for attrs in images)
    assert sum(tag == "table" for tag, _ in page.elements) == sum(tag == "caption" for tag, _ in page.elements)


@pytest.mark.parametrize(
    "shown",
    [
        "96.0 93.9-97.4",  # clean
        "40.0 35.8-44.4",  # robust
        "98.58",  # published, with a paper's decimals
        "✗ not within ±0.6",
        "44.0 39.7-48.4",  # an attack's accuracy
        "0.123",  # a median distance
        "∞",
        "17.2",  # forwards
        "1,234",  # backwards
        "3.2 s",
        "77.7 76.6-78.8",  # an attack's confidence
        "65.4 60.0-70.0",  # and when wrong
        "95.1 94.0-96.2",  # clean confidence
        "61.2 58.0-64.0",  # attacked, when wrong
        "81.3 80.2-82.4",  # a curve's confidence
        "80.0 76.3-83.3",  # a sweep's point
        "37.5 s",  # training time
        "0.5",  # last loss
        "53.2",  # a trial's figure
        "5.578",  # its score
        "1 min 15 s",
        "sparring study toy --again",
        "numpy 1.26.4",
        "record schema 1",
        "2025-11-20T13:00:00+00:00",
        "runs/toy-abc123",
        'name = "toy" epochs = 3',
        "eps = [0.1, 0.2]",
        "A. Author 2019",
        "It does not.",
        "✗ does not hold",
        "✓ holds",
        "• note",
        "FGSM is <b>weak</b>.",
        "No images were kept with this result",
        "Difference magnified x 5",
        "accuracy under fgsm() rises from 80.0 % at eps 0.1 to 96.0 % at eps 0.3.",
    ],
)
def test_what_the_record_holds_is_on_the_page(page, shown):
    assert shown in words(page)


def test_flags_come_first_and_the_worst_of_them_before_the_rest(page):
    text = words(page)
    order = ["✗ failed check", "▲ warning", "Ranked by robust accuracy", "FGSM is <b>weak</b>."]
    assert sorted(order, key=text.index) == order


def test_plotly_itself_accepts_every_chart(page):
    from plotly.graph_objects import Figure

    for spec in json.loads(re.sub(r"var\(--[^)]+\)", "#123456", page.scripts[0])).values():
        assert Figure(spec).data


def test_charts_leave_gaps_for_what_is_not_a_number(result):
    attacked = charts.bar_chart(panels.confidences(result.rows)[0])["data"][1]
    assert attacked["x"][1] is None
    assert attacked["error_x"]["array"][1] is None


def test_the_command_in_the_record_stands_in_for_none(make_row, make_study):
    assert "sparring study toy</code>" in html.render(make_study(make_row("one")))


@pytest.mark.parametrize(
    ("change", "missing"),
    [({"search": None}, "How what the paper leaves open"), ({"rows": ()}, "Ranked by"), ({"findings": ()}, "Findings")],
)
def test_a_study_without_a_part_is_written_without_it(change, missing, make_row, make_study):
    source = html.render(replace(make_study(make_row("one")), **change))
    assert Page(source).open == []
    assert missing not in Page(source).text


def test_a_row_without_curves_says_so_and_one_without_training_has_no_such_part(make_row, make_study):
    row = make_row("one")
    bare = replace(row, sweep=(), training=(), evaluation=replace(row.evaluation, curves=()))
    source = html.render(make_study(bare))
    assert "No accuracy-eps curve was measured." in words(Page(source))
    for part in ("figures", "training"):
        assert f'href="#{part}"' in html.render(make_study(row))
    assert 'href="#training"' not in source
    without = html.render(make_study(replace(bare, figures=())))
    assert 'href="#figures"' not in without
    assert "What was measured" not in without


def test_threats_that_differ_are_said_row_by_row(make_row, make_study):
    one, two = make_row("one"), make_row("two")
    two = replace(two, evaluation=replace(two.evaluation, threat="l2(0.5)"))
    text = words(Page(html.render(make_study(one, two))))
    assert "The rows faced different threats (linf(0.3) and l2(0.5))" in text
    assert "Threat" in text


def test_writing_twice_gives_the_same_bytes(written, result, tmp_path):
    again = sparring.report.write(result, tmp_path, command="sparring study toy --again")
    assert again.read_bytes() == written.read_bytes()
    figures = sorted((written.parent / "figures").iterdir())
    assert len(figures) == 14
    for figure in figures:
        assert (tmp_path / "figures" / figure.name).read_bytes() == figure.read_bytes(), figure.name


def test_verdicts_are_set_side_by_side_by_their_names_or_their_models(make_row, monkeypatch, tmp_path):
    monkeypatch.setattr("sparring.report.figures.write", lambda result, folder: None)
    one, other = (replace(make_row("a", right).evaluation, threat="linf(0.1)") for right in (300, 200))

    def shown(given: object) -> str:
        return words(Page(sparring.report.write(given, tmp_path).read_text(encoding="utf-8")))

    page = shown({"mine": one, "theirs": other})
    assert "Evaluations side by side" in page
    assert "On digits(), test." in page
    assert {"mine", "theirs"} <= set(page.split())
    page = shown([replace(one, model="first"), replace(other, model="second")])
    assert {"first", "second"} <= set(page.split())
    page = shown((one, replace(one, threat="linf(0.2)")))  # of one model, told apart by the threat
    assert "cnn(), linf(0.1)" in page
    assert "cnn(), linf(0.2)" in page
    assert "Evaluation of mine" in shown({"mine": one})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "there is no verdict"),
        ([], "there is no verdict"),
        (3, "expected a study's result or verdicts, not int"),
        ("own.json", "not str; Evaluation.load"),
        ({"a": "own.json"}, "not str; Evaluation.load"),
    ],
)
def test_what_is_no_verdict_is_refused_in_one_line(given, said, tmp_path):
    refused(given, said, tmp_path)


def test_verdicts_without_a_name_of_their_own_are_refused(make_row, tmp_path):
    verdict = make_row("a").evaluation
    refused({3: verdict}, "name must be a text, not 3", tmp_path)
    refused([verdict] * 2, r"two verdicts are of cnn\(\), linf.* give them names", tmp_path)


def refused(given, said, tmp_path):
    with pytest.raises(InputError, match=f"^report: .*{said}") as caught:
        sparring.report.write(given, tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_importing_the_package_loads_nothing_heavy():
    """Not torch, ever; Matplotlib, Plotly and Jinja only once a report is written, and pyplot never."""
    code = """
import sys, sparring.report
assert not {"torch", "matplotlib", "plotly", "jinja2", "PIL"} & set(sys.modules)
import sparring.report.html, sparring.report.figures
assert not {"torch", "matplotlib.pyplot", "plotly.graph_objects"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_learned_adversaries_and_every_training_have_their_tables(make_row, make_study, tmp_path):
    figure = Figure("accuracy under game", None, share(300, 500), None, None, share(200, 500))
    repeats = tuple(
        Repeat(seed, f"run-{seed}", {"clean accuracy": v}, {"clean accuracy": v - 0.01}, {"clean accuracy": 0.5})
        for seed, v in enumerate((0.91, 0.95))
    )
    mended = replace(make_row("one").figures[0], mended=share(450, 500))
    row = replace(make_row("one"), adversaries=(figure,), repeats=repeats, figures=(mended,))
    seeds = replace(row, evaluation=replace(row.evaluation, seeds=(0, 1), examples=500))
    page = html.render(make_study(seeds, make_row("two")))
    assert "Learned adversaries against every defence" in page
    assert "means of 2 trainings" in page
    assert "91.0, 95.0" in page
    assert page.count(">Mended<") == 2  # a column, and among the words
    assert f"{100 * 450 / 500:.1f}" in page
    without = html.render(make_study(make_row("two")))
    assert "means of 2 trainings" not in without
    assert without.count(">Mended<") == 1
    for absent in ("Learned adversaries against", "Every training:"):
        assert absent not in without


def test_a_published_figure_is_marked_beside_the_one_of_ours_that_it_is_compared_with(make_row, make_study):
    figure = Figure("under game", 0.9, share(250, 500), None, 0.01, share(450, 500), "mended")
    page = html.render(make_study(replace(make_row("one"), figures=(figure,))))
    assert page.index(">50.0<") < page.index("within ±1.0") < page.index(">90.0<", page.index("within ±1.0"))
    assert "not within" not in page
    plain = html.render(make_study(replace(make_row("one"), figures=(replace(figure, measured="compatibility"),))))
    assert "not within" in plain


def test_honest_comes_first_and_published_only_where_something_was(make_row, make_study):
    row = make_row("one")
    heads = [column.name for column in beside.figures([row]).columns]
    assert heads == ["Defence", "Figure", "Honest", "Published", "Compatibility"]
    assert len(beside.figures([row]).rows[0]) == len(heads)
    none = replace(row, figures=tuple(replace(figure, published=None) for figure in row.figures))
    assert [column.name for column in beside.figures([none]).columns] == heads[:3] + heads[4:]
    assert "The paper's figures and ours</h2>" in html.render(make_study(row)).replace("&#39;", "'")
    assert "What was measured</h2>" in html.render(make_study(none))


def test_what_all_rows_share_is_said_once(make_row, make_study):
    """Rows that differ in the number of trainings alone do not repeat what they were judged on."""
    one, two = make_row("one"), make_row("two")
    two = replace(two, evaluation=replace(two.evaluation, seeds=(0, 1, 2)))
    text = words(Page(html.render(make_study(one, two))))
    ranking = text[text.index("Ranked by") : text.index("thin upright")]
    assert ranking.count("500 examples of digits(), test split") == 1
    assert "One training" in ranking
    assert "Means of 3 trainings" in ranking


def test_rows_that_differ_in_how_many_images_say_which_ones_once(make_row, make_study):
    one, two = make_row("one"), make_row("two")
    two = replace(two, evaluation=replace(two.evaluation, examples=30))
    text = words(Page(html.render(make_study(one, two))))
    ranking = text[text.index("Ranked by") : text.index("thin upright")]
    assert ranking.count("digits(), test split") == 1
    assert "500 examples" in ranking
    assert "30 examples" in ranking


def test_the_key_is_in_the_order_of_the_ranks(make_row, make_study):
    page = html.render(make_study(make_row("worse", 100), make_row("better", 400)))
    curves = page[page.index('id="curves"') :]
    assert curves.index("<span>better</span>") < curves.index("<span>worse</span>")
    assert re.search(r'data-row="1"[^>]*>(?:(?!</button>).)*better', curves, re.DOTALL)


def test_the_words_are_explained_and_linked_from_the_top(page):
    text = words(page)
    assert page.attributes("href").count("#words") == 2
    for word in ("eps", "Clean accuracy", "Robust accuracy", "Compatibility", "Honest", "ECE", "Worst case", "Audit"):
        assert f" {word} " in text[text.rindex("What the words mean") :]


def test_only_long_call_strings_are_cut_and_the_whole_is_a_hint(make_row, make_study):
    long = "pgd(steps=20, rel_step_size=0.1, restarts=1, loss='margin', random_start=True)"
    row = make_row("one")
    attacked = {long: replace(row.evaluation.attacked["pgd"], attack=long)}
    page = html.render(make_study(replace(row, evaluation=replace(row.evaluation, attacked=attacked))))
    assert "<code>pgd(steps=20, rel_step_size=0.1, …)</code>" in page
    assert f'title="{long}"'.replace("'", "&#39;") in page


def test_the_audit_is_summed_up_at_the_top_and_told_below_the_curves(living):
    text = words(Page(html.render(living)))
    total = (
        "The audit: 6 of 11 checks passed, 1 check failed, 1 warning, 2 notes, 1 not run, 1 of 4 results not audited."
    )
    assert text.index(total) < text.index("Accuracy against eps") < text.index("Each check of each defence")

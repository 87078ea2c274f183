"""The figures for a paper: valid files, the same bytes from the same record, and no trace left in Matplotlib."""

import xml.etree.ElementTree
from dataclasses import replace

import matplotlib
import pytest
from PIL import Image

from sparring.core.results import Estimate
from sparring.core.study_results import EpochMetrics
from sparring.evaluation.checks import rising
from sparring.report import charts, figures, learning, panels, style

NAMES = ["verdict", "curves", "sweep", "confidence", "calibration", "gallery", "training"]


@pytest.mark.parametrize("name", NAMES)
def test_each_figure_is_a_valid_png_and_svg(written, name):
    stem = written.parent / "figures" / name
    with Image.open(stem.with_suffix(".png")) as image:
        image.verify()
        assert image.size[0] >= 400
    root = xml.etree.ElementTree.parse(stem.with_suffix(".svg")).getroot()
    assert root.tag.endswith("svg")
    assert "<dc:date>" not in stem.with_suffix(".svg").read_text(encoding="utf-8")


def test_what_a_record_has_no_data_for_is_not_drawn_and_does_not_linger(make_row, make_study, tmp_path):
    row = make_row("one")
    bare = replace(row, sweep=(), training=(), evaluation=replace(row.evaluation, curves=()))
    (tmp_path / "gallery.png").write_bytes(b"of an earlier record")
    (tmp_path / "mine.png").write_bytes(b"not ours")
    paths = figures.write(make_study(bare), tmp_path)
    assert sorted({path.stem for path in paths}) == ["calibration", "confidence", "verdict"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*(path.name for path in paths), "mine.png"])


def test_a_study_without_rows_draws_nothing(make_study, tmp_path):
    assert figures.write(make_study(), tmp_path) == ()


def test_the_users_settings_change_nothing_and_come_back(make_row, make_study, tmp_path):
    study = make_study(make_row("one"))
    figures.write(study, tmp_path / "a")
    with matplotlib.rc_context({"font.size": 31, "axes.facecolor": "red"}):
        figures.write(study, tmp_path / "b")
        assert matplotlib.rcParams["font.size"] == 31
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_one_curve_a_row_shares_a_panel_whatever_its_attack(make_row, make_curve):
    one = make_row("one")
    two = replace(one, sweep=(make_curve("bpda(pgd())", worst_case=False, counts=(9, 8)),))
    (panel,) = panels.sweeps([one, two])
    assert [line.row for line in panel.lines] == [0, 1]
    assert panel.subtitle == "2 attacks, by defence"


def test_several_curves_of_a_row_get_a_panel_an_attack(make_row, make_curve):
    pgd = make_curve("pgd(steps=9)", worst_case=False, counts=(9, 8))
    square = make_curve("square()", worst_case=False, counts=(9, 9))
    rows = [replace(make_row("one"), sweep=(pgd, square)), replace(make_row("two"), sweep=(square,))]
    assert [[line.row for line in panel.lines] for panel in panels.sweeps(rows)] == [[0], [0, 1]]


def test_a_norm_of_its_own_has_a_panel_of_its_own(make_row, make_curve):
    curve = make_curve("pgd()", worst_case=True, counts=(9, 8))
    row = replace(make_row("one"), sweep=(curve, replace(curve, norm="l2")))
    assert [panel.title for panel in panels.sweeps([row])] == ["Linf, worst case", "L2, worst case"]


def test_a_rise_within_the_intervals_is_no_rise(make_row, make_curve):
    row = make_row("one")
    assert [(r.low, r.high) for r in panels.rises([row])] == [(0.8, 0.96)]
    noisy = replace(row, sweep=(make_curve("fgsm()", worst_case=False, counts=(400, 405, 402)),))
    assert panels.rises([noisy]) == ()


@pytest.mark.parametrize(("after", "rises"), [(508, False), (511, True)])
def test_page_and_check_agree_on_what_rises(make_row, make_curve, after, rises):
    """By a point of accuracy at least, and not only from one eps to the next."""
    curve = make_curve("fgsm()", worst_case=False, counts=(50000, 50050, 100 * after), n=100000)
    flag = rising(curve)
    assert (flag is not None) == rises == bool(panels.rises([replace(make_row("one"), sweep=(curve,))]))
    if flag:
        assert "from 50.0% at eps 0.1 to 51.1% at 0.3: the attack fails at the larger eps" in flag.message
        assert "may be masked" in flag.message


def test_panels_of_two_sweeps_are_told_apart_by_their_eps(make_row, make_curve):
    near = make_curve("fgsm()", worst_case=False, counts=(9, 8))
    far = replace(near, points=tuple(replace(point, eps=10 * point.eps) for point in near.points))
    titles = [panel.title for panel in panels.sweeps([replace(make_row("one"), sweep=(near, far))])]
    assert titles[0] == "Linf, each eps on its own, eps 0.1 to 0.2"
    assert titles[1].endswith("eps 1 to 2")


def test_metrics_have_names_that_people_use_and_epochs_count_from_one(make_row):
    metrics = {"pgd_accuracy": 0.5, "overfitting": 1.0, "adversarial_accuracy": 0.4}
    epochs = tuple(EpochMetrics(epoch, metrics, 1.0) for epoch in range(2))
    attacked = replace(make_row("a"), training=epochs)
    noisy = replace(attacked, name="b", defence="noise_training(threat=linf(eps=0.2))")
    found = {panel.title: panel for panel in learning.panels([attacked, noisy])}
    of = {title: [line.name for line in panel.lines] for title, panel in found.items()}
    assert of["PGD accuracy"] == of["Overfitting (1: yes)"] == ["a", "b"]
    assert (of["Accuracy on attacked images"], of["Accuracy on noisy images"]) == (["a"], ["b"])
    assert found["PGD accuracy"].lines[0].x == (1.0, 2.0)
    assert "Accuracy on noisy images %" in [column.name for column in learning.table([noisy]).columns]


def test_many_lines_have_no_bands_and_a_legend_in_the_order_of_the_ranks(make_row):
    rows = [make_row(f"row {n}", 100 + 20 * n) for n in range(9)]
    (panel,) = panels.honest_curves(rows)
    assert not any("fill" in trace for trace in charts.line_chart(panel)["data"])
    assert any("fill" in trace for trace in charts.line_chart(replace(panel, lines=panel.lines[:8]))["data"])
    drawn = figures.curves(rows)
    assert not drawn.axes[0].collections
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == [f"row {n}" for n in range(8, -1, -1)]


def test_losses_come_before_accuracies_and_accuracies_are_in_per_cent(make_row):
    titles = [(panel.title, panel.y_title, panel.lines[0].y[0]) for panel in learning.panels([make_row("one")])]
    assert titles == [("Loss", "loss", 1.5), ("Clean accuracy", "clean accuracy (%)", 70.0)]


def test_defences_look_different_from_one_another():
    looks = [style.style(index) for index in range(140)]
    assert len({(look.colour, look.dash, look.symbol) for look in looks}) == 140


def test_no_empty_axes_are_left_where_panels_do_not_fill_their_grid(make_row, make_curve):
    curves = tuple(make_curve(f"attack{i}()", worst_case=False, counts=(9, 8)) for i in range(4))
    drawn = figures.sweep([replace(make_row("one"), sweep=curves)])
    assert [axes.get_visible() for axes in drawn.axes] == [True] * 4 + [False] * 2


def test_curves_of_other_conditions_and_what_was_published_have_panels_of_their_own(make_row, make_curve):
    plain = make_curve("fgsm()", worst_case=False, counts=(9, 8))
    row = replace(
        make_row("one"),
        sweep=(replace(plain, conditions="batch statistics"), plain),
        published_sweep=((0.1, 0.9), (0.2, 0.8)),
    )
    titles = [panel.title for panel in panels.sweeps([row, make_row("two")])]
    assert titles == ["As published", "Linf, each eps on its own, batch statistics", "Linf, each eps on its own"]
    published = panels.sweeps([row])[0].lines[0]
    assert (published.x, published.y) == ((0.1, 0.2), pytest.approx((90, 80)))


def test_reliability_leaves_out_bins_that_say_nothing(make_row, make_calibration):
    row = make_row("one")
    (panel, *_) = panels.reliability([row])
    assert panel.diagonal
    assert panel.title == "Clean"
    (line,) = panel.lines
    assert (line.x, line.y) == (pytest.approx((55, 95)), pytest.approx((50, 90)))
    bare = replace(row, calibrations={"fgsm": make_calibration()}, evaluation=replace(row.evaluation, calibration=None))
    assert [panel.title for panel in panels.reliability([bare])] == ["Fgsm"]


def test_calibration_on_clean_images_is_the_protocols_which_has_more(make_row, make_calibration):
    """The error of few images is too large; without a protocol's the verdict's own is shown."""
    row, few, many = make_row("a"), make_calibration(), replace(make_calibration(), ece=Estimate(0.01, 0, 0.02, 10_000))
    judged = replace(row.evaluation, calibration=few, robust_calibration=few)
    both = panels.calibrations(replace(row, calibrations={"clean": many}, evaluation=judged))
    assert both == {"clean": many, "each example's worst image": few}
    assert panels.calibrations(replace(row, calibrations={}, evaluation=judged))["clean"] == few

"""The answer at a glance: never a result that failed a check, never an order that chance explains."""

import math
from dataclasses import replace

import pytest

from sparring.core.results import Estimate, Flag
from sparring.core.statistics import share
from sparring.report import verdict


@pytest.fixture
def rated(make_row):
    def rated(name, robust, *flags, n=500):
        row = make_row(name)
        flags = tuple(Flag("check", severity, "message") for severity in flags)
        return replace(row, evaluation=replace(row.evaluation, robust=share(robust, n), flags=flags))

    return rated


def test_the_most_robust_is_trusted_first(rated):
    rows = [rated("a", 100), rated("b", 400)]
    assert [(r.place, r.row.name) for r in verdict.ranking(rows)] == [(1, "b"), (2, "a")]
    assert verdict.headline(rows).startswith("Trust b first: it is right on 80.0 % (76.3")


def test_a_failed_check_costs_the_place(rated):
    rows = [rated("a", 300), rated("too good", 490, "fail"), rated("b", 200, "warn")]
    assert [(r.place, r.row.name) for r in verdict.ranking(rows)] == [(1, "a"), (2, "b"), (None, "too good")]
    assert "too good is not ranked: a check failed." in verdict.headline(rows)


def test_no_figure_is_no_place(rated):
    blank = rated("blank", 1)
    blank = replace(blank, evaluation=replace(blank.evaluation, robust=Estimate(math.nan, math.nan, math.nan, 0)))
    assert verdict.headline([blank, rated("a", 400)]).endswith("blank is not ranked: there is no figure.")


def test_when_all_fail_none_is_trusted(rated):
    assert verdict.headline([rated("a", 400, "fail")]) == "No result here can be trusted: see the failed checks."


def test_an_order_within_the_intervals_is_called_unsettled(rated):
    assert "Its interval overlaps that of b, so their order is not settled." in verdict.headline(
        [rated("a", 400), rated("b", 395), rated("c", 100)]
    )
    assert "those of 4 others" in verdict.headline([rated(name, 400) for name in "abcde"])


def test_no_better_than_guessing_is_not_trusted(rated):
    assert verdict.headline([rated("a", 160), rated("b", 10)]).startswith("Trust none of these. The best, a, is right")


def test_flags_are_sorted_by_weight(rated):
    raised = verdict.raised([rated("a", 1, "note", "warn"), rated("b", 1, "fail")], "fail", "warn")
    assert [(r.name, r.flag.severity) for r in raised] == [("b", "fail"), ("a", "warn")]


def test_what_was_judged_otherwise_is_not_held_against_the_others(rated):
    """A capped attack leaves more: its row would win, beside the same model attacked in full."""
    capped = rated("capped", 450)
    capped = replace(capped, evaluation=replace(capped.evaluation, means={"max_forwards": "2"}))
    for rows in ([capped, rated("full", 300)], [rated("full", 300), capped]):
        assert verdict.headline(rows).startswith("full is right on 60.0 %")
        assert "capped was judged otherwise" in verdict.headline(rows)

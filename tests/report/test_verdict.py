"""The answer at a glance: never a result that failed a check or that nobody checked, never an order by chance."""

import math
from dataclasses import replace

import numpy as np
import pytest

from sparring.core.results import Checked, Estimate, Flag
from sparring.core.statistics import share
from sparring.core.study_results import Repeat
from sparring.report import verdict
from sparring.report.pairing import better
from sparring.report.ranking import ranking

AUDIT = (Checked("guessing", "passed", "96.0% of the clean examples are right"),)


@pytest.fixture
def rated(make_row):
    def rated(name, robust, *flags, n=500, audit=AUDIT, **changed):
        row = make_row(name)
        flags = tuple(Flag("check", severity, "message") for severity in flags)
        judged = replace(row.evaluation, robust=share(robust, n), flags=flags, audit=audit, **changed)
        return replace(row, evaluation=judged)

    return rated


@pytest.fixture
def flagged(rated):
    """Give a function that makes a row of which is known which of 500 examples are right under attack."""

    def flagged(name, right):
        row = rated(name, int(right.sum()))
        known = {"ids": np.arange(500), "correct/clean": np.ones(500, bool)}
        known |= {f"correct/{attack}": right for attack in row.evaluation.attacked}
        return replace(row, evaluation=replace(row.evaluation, arrays=known))

    return flagged


@pytest.fixture
def seeded(rated):
    """Give a function that makes a row of several trainings, of which the robust accuracies are known."""

    def seeded(name, *values):
        repeats = tuple(Repeat(seed, "run", {}, {}, {"adversarial accuracy": v}) for seed, v in enumerate(values))
        row = rated(name, 1, seeds=tuple(range(len(values))))
        wide = Estimate(sum(values) / len(values), 0.3, 0.9, len(values))
        return replace(row, repeats=repeats, evaluation=replace(row.evaluation, robust=wide))

    return seeded


def places(rows):
    return [(ranked.place, ranked.row.name) for ranked in ranking(rows)]


def told(rows):
    return " ".join([verdict.headline(rows), *verdict.remarks(rows)])


def test_the_most_robust_is_trusted_first(rated):
    rows = [rated("a", 150), rated("b", 400)]
    assert places(rows) == [(1, "b"), (2, "a")]
    assert verdict.headline(rows).startswith("Trust b first: it is right on 80.0 % (76.3")
    assert "It was audited: no check failed." in told(rows)
    assert "no check failed, 1 warned." in told([rows[0], rated("b", 400, audit=(*AUDIT, Checked("x", "warn", "!")))])


def test_what_nobody_audited_is_not_called_trustworthy(rated):
    rows = [rated("a", 250), rated("b", 400, audit=())]
    assert verdict.headline(rows).startswith("Highest figure: b, right on 80.0 %")
    assert "It was not audited, so nothing says whether it can be trusted." in told(rows)
    assert "The highest of those audited: a, 50.0 %" in told(rows)
    bare = [rated("a", 250, audit=()), rated("b", 400, audit=())]
    assert "None of these results was audited, so nothing says whether they can be trusted." in told(bare)
    for each in (rows, bare, bare[:1]):
        assert "Trust" not in told(each)


def test_a_failed_check_costs_the_place(rated):
    rows = [rated("a", 300), rated("too good", 490, "fail"), rated("b", 200, "warn")]
    assert places(rows) == [(1, "a"), (2, "b"), (None, "too good")]
    assert "too good is not ranked: a check failed." in told(rows)


def test_no_figure_is_no_place(rated):
    blank = rated("blank", 1)
    blank = replace(blank, evaluation=replace(blank.evaluation, robust=Estimate(math.nan, math.nan, math.nan, 0)))
    assert told([blank, rated("a", 400)]).endswith("blank is not ranked: there is no figure.")
    assert verdict.headline([blank]) == "No result here can be trusted: there is no figure."


def test_when_all_fail_none_is_trusted(rated):
    assert verdict.headline([rated("a", 400, "fail")]) == "No result here can be trusted: see the failed checks."


def test_ties_share_a_place(rated):
    assert places([rated("a", 0), rated("b", 150), rated("c", 0), rated("d", 100)]) == [
        (1, "b"),
        (2, "d"),
        (3, "a"),
        (3, "c"),
    ]


def test_what_it_costs_in_clean_accuracy_is_said(rated):
    rows = [rated("a", 400, clean=share(450, 500)), rated("b", 100, clean=share(490, 500))]
    assert "Its clean accuracy is 90.0 %, 8.0 points below the highest (b, 98.0 %)." in told(rows)
    assert "Its clean accuracy, 96.0 %, is the highest here." in told([rated("a", 400), rated("b", 100)])


def test_an_order_within_the_intervals_is_called_unsettled(rated):
    rows = [rated("a", 400), rated("b", 395), rated("c", 100)]
    assert "It is not settled that a beats b: chance may explain the difference (≈)." in told(rows)
    assert [ranked.close for ranked in ranking(rows)] == [False, True, False]
    assert "beats b, c or d:" in told([rated(name, 400) for name in "abcd"])
    assert "a beats “b, twice” or “c”:" in told([rated(name, 400) for name in ("a", "b, twice", "c")])
    assert "beats 6 others:" in told([rated(name, 400) for name in "abcdefg"])


def test_one_training_each_is_compared_example_by_example(flagged):
    """Of 500 examples 20 are right under one model alone and none under the other alone: that is no chance."""
    right = np.arange(500) < 300
    more = np.arange(500) < 320
    one, other = flagged("one", more), flagged("other", right)
    assert one.evaluation.robust.low < other.evaluation.robust.high
    assert better(one, other)
    assert not better(other, one)
    assert "not settled" not in told([one, other])
    shuffled = flagged("other", np.roll(right, 150))
    assert not better(one, shuffled)


def test_only_the_examples_that_both_were_judged_on_count(flagged):
    one, other = flagged("one", np.arange(500) < 320), flagged("other", np.arange(500) < 300)
    elsewhere = {**other.evaluation.arrays, "ids": np.arange(500) + 400}
    assert not better(one, replace(other, evaluation=replace(other.evaluation, arrays=elsewhere)))


def test_the_same_numbers_of_other_images_are_not_paired(flagged):
    def seeing(row, first):
        arrays = {**row.evaluation.arrays, "fingerprints": np.arange(first, first + 500, dtype=np.uint64)}
        return replace(row, evaluation=replace(row.evaluation, arrays=arrays))

    one, other = flagged("one", np.arange(500) < 320), flagged("other", np.arange(500) < 300)
    assert better(seeing(one, 0), seeing(other, 0))
    assert not better(seeing(one, 0), seeing(other, 7))


def test_several_trainings_are_compared_seed_by_seed(seeded):
    one, other = seeded("one", 0.61, 0.71, 0.52), seeded("other", 0.60, 0.70, 0.50)
    assert not better(one, other)  # p = 0.06
    assert better(seeded("one", 0.61, 0.71, 0.52, 0.66), seeded("other", 0.60, 0.70, 0.50, 0.64))
    assert not better(one, seeded("other", 0.51, 0.61, 0.42))  # alike to the last digit: how far do seeds differ?
    assert not better(one, seeded("other", 0.1))  # one seed in common, and wide intervals


def test_an_interval_that_is_unknown_settles_nothing(rated):
    one, other = rated("one", 400), rated("other", 100)
    unknown = Estimate(0.2, math.nan, math.nan, 1)
    assert better(one, other)
    assert not better(one, replace(other, evaluation=replace(other.evaluation, robust=unknown)))


def test_what_holds_little_is_the_least_bad(rated):
    rows = [rated("a", 90), rated("b", 10)]
    assert verdict.headline(rows).startswith("None of these holds up. The least bad, a, is right on 18.0 %")
    assert verdict.headline(rows[1:]).startswith("b does not hold up: it is right on 2.0 %")
    assert "Trust" not in told(rows)


def test_no_better_than_guessing_is_not_trusted(rated):
    classes = verdict.headline([rated("a", 160), rated("b", 10)])
    assert classes.startswith("None of these holds up. The least bad, a, is")
    assert classes.endswith("no better than guessing among 3 classes.")
    often = verdict.headline([rated("a", 360, most_frequent=0.7)])
    assert often.endswith("no better than always naming the most frequent class (70.0 %).")
    assert "most frequent" not in verdict.headline([rated("a", 360, most_frequent=0.6)])
    assert "most frequent" not in verdict.headline([rated("a", 0)])  # a record that does not say


def test_flags_are_sorted_by_weight(rated):
    raised = verdict.raised([rated("a", 1, "note", "warn"), rated("b", 1, "fail")], "fail", "warn")
    assert [(r.name, r.flag.severity) for r in raised] == [("b", "fail"), ("a", "warn")]


def test_what_was_judged_otherwise_is_not_held_against_the_others(rated):
    """A capped attack leaves more: its row would win, beside the same model attacked in full."""
    capped = rated("capped", 450, means={"max_forwards": "2"})
    for rows in ([capped, rated("full", 300)], [rated("full", 300), capped]):
        assert verdict.headline(rows).startswith("full is right on 60.0 %")
        assert "capped is not ranked: judged otherwise" in told(rows)
        assert places(rows) == [(1, "full"), (None, "capped")]


def test_who_faced_another_threat_has_no_place(rated):
    near = rated("near", 490, threat="linf(0.001)")
    rows = [near, rated("a", 400), rated("b", 200)]
    assert places(rows) == [(1, "a"), (2, "b"), (None, "near")]
    assert "near is not ranked: another threat was faced." in told(rows)
    assert places([near, rated("a", 400)]) == [(None, "near"), (None, "a")]
    assert told([near, rated("a", 400)]).startswith("The rows faced different threats")

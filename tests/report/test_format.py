"""How figures are printed."""

import math

import pytest

from sparring.core.results import Estimate
from sparring.report import format


@pytest.mark.parametrize(
    ("function", "value", "printed"),
    [
        (format.percent, 0.986, "98.6"),
        (format.percent, -0.0, "0.0"),
        (format.percent, -0.0001, "0.0"),
        (format.percent, 1.0, "100.0"),
        (format.percent, math.nan, "—"),
        (format.published, 0.0496, "4.96"),
        (format.published, None, "—"),
        (format.eps, 0.0, "0"),
        (format.eps, 0.2, "0.2"),  # 51/255, but nobody writes it so
        (format.eps, 0.25, "0.25"),
        (format.eps, 8 / 255, "8/255"),
        (format.eps, 0.031372550874948502, "8/255"),  # as a float32
        (format.eps, 0.0123456, "0.01235"),
        (format.eps, math.inf, "∞"),
        (format.distance, 0.12345, "0.123"),
        (format.distance, math.inf, "∞"),
        (format.number, 0.000123456, "0.0001235"),
        (format.number, math.nan, "—"),
        (format.count, 40.0, "40"),
        (format.count, 12.34, "12.3"),
        (format.count, 1234.4, "1,234"),
        (format.seconds, 0.4213, "0.42 s"),
        (format.seconds, 12.34, "12.3 s"),
        (format.seconds, 59.97, "1 min 0 s"),
        (format.seconds, 200.0, "3 min 20 s"),
        (format.seconds, 3900.0, "1 h 5 min"),
        (format.listed, [], ""),
        (format.listed, ["a"], "a"),
        (format.listed, ["a", "b", "c"], "a, b and c"),
    ],
)
def test_printed(function, value, printed):
    assert function(value) == printed


def test_intervals():
    known, unknown = Estimate(0.986, 0.984, 0.988, 10000), Estimate(0.5, math.nan, math.nan, 1)
    assert format.with_interval(known) == f"98.6 % (98.4{format.TO}98.8)"
    assert format.with_interval(unknown) == "50.0 %"
    assert format.with_interval(Estimate(math.nan, math.nan, math.nan, 0)) == "—"
    assert format.interval(unknown) == ""


@pytest.mark.parametrize(
    ("spec", "printed"),
    [
        ("fgsm()", "fgsm()"),
        ("pgd(steps=20, rel_step_size=0.1, restarts=1, loss='margin')", "pgd(steps=20, rel_step_size=0.1, …)"),
        ("trades(threat=linf(eps=0.1, more=2), beta=6, steps=1000)", "trades(threat=linf(eps=0.1, more=2), …)"),
        ("masked(model='a very long name of a very long model')", "masked(…)"),
        (
            "some words that are no call string and longer than forty",
            "some words that are no call string and longer than forty",
        ),
    ],
)
def test_a_long_call_string_loses_its_last_arguments(spec, printed):
    assert format.short_call(spec) == printed
    assert len(printed) <= max(40, len(spec) * ("(" not in spec))


def test_a_name_is_cut_in_its_middle():
    assert format.shorten("short", 10) == "short"
    assert format.shorten("a" * 20 + "b" * 20, 10) == "aaaaaa…bbb"

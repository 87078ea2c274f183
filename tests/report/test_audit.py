"""The audit on the page: a result that nobody checked never looks like one that passed."""

from dataclasses import replace

import pytest

from sparring.core.results import Checked, Flag
from sparring.report import audit, html, verdict


@pytest.fixture
def audited(make_row, make_audit):
    def audited(name, *outcomes, flags=(), **changed):
        row = make_row(name)
        return replace(row, evaluation=replace(row.evaluation, audit=make_audit(*outcomes), flags=flags, **changed))

    return audited


def test_a_row_is_summed_up_in_a_line(audited):
    one, two = audit.of([audited("a", "passed", "passed", "warn", "not run"), audited("b", "fail", "passed")])
    assert one.summary == "2 checks passed, 1 warning, 1 not run"
    assert two.summary == "1 check failed, 1 check passed"
    assert [check.outcome for check in one.checks] == ["warn", "not run", "passed", "passed"]


def test_a_row_without_an_audit_is_not_audited_whatever_its_flags(audited):
    bare, flagged = audit.of([audited("a"), audited("b", flags=(Flag("rising curve", "warn", "It rises."),))])
    assert (bare.summary, bare.audited) == ("not audited", False)
    assert (flagged.summary, flagged.audited) == ("not audited, 1 warning", False)
    assert audit.matrix([audited("a")]) is None


def test_the_matrix_has_every_check_of_every_row(audited):
    made = audit.matrix([audited("a", "passed", "fail"), audited("b", "passed"), audited("c")])
    assert [name for _, name in made.names] == ["a", "b", "c"]
    words = {check: [mark.word for mark in marks] for check, marks in made.lines}
    assert words == {
        "randomness": ["passed", "passed", "not audited"],
        "zero gradients": ["failed", "not run", "not audited"],
    }


def test_a_check_is_never_shown_as_better_than_its_flag(audited):
    row = audited(
        "a", "passed", flags=(Flag("randomness", "fail", "Two runs differ."), Flag("overfitting", "warn", "!"))
    )
    (only,) = audit.of([row])
    assert only.summary == "1 check failed, 1 warning"
    assert only.checks[0] == Checked("randomness", "fail", row.evaluation.audit[0].evidence, 0.5)
    assert only.checks[1].evidence == "!"


def test_how_a_model_was_attacked_is_said_in_words(audited):
    plain = audited("a").evaluation
    assert "as they are" in audit.attacked(plain)
    declared = audit.attacked(replace(plain, adaptation=("bpda", "eot")))
    assert declared.startswith("Attacked with substitute gradients where the model has none (BPDA) and with gradients")
    found = audit.attacked(replace(plain, detected=("random", "something new")))
    assert found.startswith("No part of the model says so")
    assert "(EOT) and something new" in found


def test_the_page_says_what_to_look_at_and_what_to_try_next(audited, make_study):
    flag = Flag("zero gradients", "fail", "None is left.", (3, 17, 40), "square(max_forwards=5000)")
    page = html.render(make_study(audited("a", "passed", "fail", flags=(flag,))))
    assert "Seen in examples 3, 17 and 40." in page
    assert "Next, try <code>square(max_forwards=5000)</code>." in page
    assert "No audit was made" not in page


def test_the_same_check_of_many_rows_is_raised_once(audited, make_study):
    flag = Flag("converged", "warn", "Not yet.")
    rows = [audited(f"row {n}", "passed", flags=(flag,)) for n in range(6)]
    ((first, *_),) = verdict.grouped(rows, "fail", "warn")
    assert first.name == "row 0"
    page = html.render(make_study(*rows))
    assert "<b>converged</b>, 6 results" in page
    assert "The other 3 results: converged" in page


def test_the_remarks_name_who_was_not_audited(audited):
    assert "b was not audited." in verdict.remarks([audited("a", "passed"), audited("b")])
    assert "not audited" not in " ".join(verdict.remarks([audited("a", "passed")]))
    many = [audited("a", "passed"), *(audited(f"row {n}") for n in range(6))]
    assert "6 others were not audited." in verdict.remarks(many)


@pytest.mark.parametrize("count", [0, 1])
def test_a_study_of_no_row_or_one_has_its_page(audited, make_study, count):
    page = html.render(make_study(*[audited("a", "passed")][:count]))
    assert ("The audit" in page) == bool(count)

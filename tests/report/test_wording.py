"""What records say becomes sentences."""

import pytest

from sparring.report.wording import sentence


@pytest.mark.parametrize(
    ("said", "printed"),
    [
        ("", ""),
        ("losses disagree", "Losses disagree."),
        ("It rises.", "It rises."),
        ("pgd(steps=3) leaves less", "pgd(steps=3) leaves less."),
        ("12 of 20 have none (first of 10 in 10 trainings)", "12 of 20 have none (in all 10 trainings)."),
        ("12 of 20 have none (first of 1 in 3 trainings)", "12 of 20 have none (in 1 of 3 trainings)."),
        ("none (first of 2 in 3 trainings)", "None (in 2 of 3 trainings, the first of which is told of)."),
        ("the same logits (passed in 3 of 3 trainings audited)", "The same logits (in all 3 trainings)."),
        ("the last 10 questions of fgsm() brought 1%", "The last 10 steps of fgsm() brought 1%."),
    ],
)
def test_a_message_is_a_sentence(said, printed):
    assert sentence(said) == printed

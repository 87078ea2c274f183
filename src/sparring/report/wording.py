"""What records say, as a page says it: sentences with a capital and a full stop, and how many trainings they are of."""

import re

_FLAGGED = re.compile(r" \(first of (\d+) in (\d+) trainings\)")
_FOUND = re.compile(r" \((?:not run|passed|note|warn|fail) in (\d+) of (\d+) trainings audited\)")
_QUESTIONS = re.compile(r"\bquestions of\b")  # what an attack asks of a model is a step to everyone else
_WORD = re.compile(r"[a-z][a-z'-]*(?=[\s,;:.]|$)")  # and no call string, whose name is written small


def sentence(text: str) -> str:
    """Return a message or a check's evidence as a sentence; nothing of nothing."""
    plain = _QUESTIONS.sub("steps of", _FOUND.sub(_trainings, _FLAGGED.sub(_trainings, text))).strip()
    started = plain[:1].upper() + plain[1:] if _WORD.match(plain) else plain
    return started if not started or started.endswith((".", "!", "?")) else f"{started}."


def _trainings(found: re.Match[str]) -> str:
    seen, made = int(found[1]), int(found[2])
    if seen == made:
        return f" (in all {made} trainings)"
    return f" (in {seen} of {made} trainings{'' if seen == 1 else ', the first of which is told of'})"

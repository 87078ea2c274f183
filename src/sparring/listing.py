"""What there is of each kind, as the command line and the docs list it: read from the catalogues."""

import inspect
from typing import Any

from sparring.attacks import ATTACKS
from sparring.core.errors import InputError
from sparring.core.spec import Catalogue, Component, example, suggest
from sparring.core.threat import THREATS
from sparring.data import SOURCES
from sparring.data.augment import AUGMENTATIONS
from sparring.defences import DEFENCES, MASKS
from sparring.evaluation.audit import CHECKS
from sparring.generative import GENERATIVES
from sparring.models import MODELS
from sparring.models.perturber import PERTURBERS
from sparring.studies import studies
from sparring.training.optimisers import OPTIMISERS
from sparring.training.schedules import SCHEDULES

CATALOGUES: dict[str, Catalogue[Any]] = {
    "attacks": ATTACKS,
    "defences": DEFENCES,
    "masks": MASKS,
    "models": MODELS,
    "generatives": GENERATIVES,
    "perturbers": PERTURBERS,
    "datasets": SOURCES,
    "threats": THREATS,
    "optimisers": OPTIMISERS,
    "schedules": SCHEDULES,
    "augmentations": AUGMENTATIONS,
}
KINDS = (*CATALOGUES, "checks", "studies")
FACTS = {
    "attacks": ("kind", "norms", "source"),
    "defences": ("source",),
    "generatives": ("source",),
    "masks": ("source",),
}  # what a kind's classes say of themselves


HEADING = """# Every component

Each is written as a call string: the same in TOML, on the command line, in Python and in a record. Defaults are shown.
This page is made by `sparring list --markdown > docs/components.md`; a test fails when it is out of date."""


def rows_of(kind: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the columns and rows of one kind; raises InputError, with a suggestion, if there is no such kind."""
    if kind == "studies":
        return ("study", "what it asks"), list(studies().items())
    if kind == "checks":
        return ("check", "what must hold"), [(check.name, check.rule) for check in CHECKS]
    if kind not in CATALOGUES:
        raise InputError(f"unknown kind {kind!r}{suggest(kind, KINDS)}")
    facts = FACTS.get(kind, ())
    rows = [(example(c), *(_told(getattr(c, fact)) for fact in facts), summary(c)) for c in CATALOGUES[kind]]
    return ("call", *facts, "what it is"), rows


def _told(fact: str | tuple[str, ...]) -> str:
    return fact if isinstance(fact, str) else " ".join(fact)


def summary(component: type[Component]) -> str:
    """Return the first sentence of a component's docstring."""
    return " ".join((inspect.getdoc(component) or "").split("\n\n")[0].split())


def markdown() -> str:
    """Return every component in tables: what `docs/components.md` holds."""
    parts = [HEADING]
    for kind in KINDS:
        columns, rows = rows_of(kind)
        lines = [" | ".join(columns), " | ".join("---" for _ in columns), *(" | ".join(row) for row in _coded(rows))]
        parts += [f"## {kind.capitalize()}", "\n".join(f"| {line} |" for line in lines)]
    return "\n\n".join(parts) + "\n"


def _coded(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [(f"`{row[0]}`", *(cell.replace("|", "\\|") for cell in row[1:])) for row in rows]

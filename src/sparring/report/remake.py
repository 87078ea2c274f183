"""How to make it again: the command behind each part of the page, and behind each row's figures."""

import shlex
from dataclasses import dataclass

from sparring.core.study_results import Row

OPTIONS = {"precision": "--precision", "draws": "--draws", "max_forwards": "--max-forwards"}  # of the means
FROM_RECORD = "sparring report results.json"


@dataclass(frozen=True)
class Remade:
    """Something on the page, what the command that makes it again does, and that command."""

    what: str
    does: str
    command: str


def page(command: str) -> tuple[Remade, ...]:
    """Return the commands for what all rows share: everything from nothing, and the drawing alone."""
    if not command.startswith("sparring study"):
        return (Remade("Make it again", "this page, from the records of what was judged", command),) if command else ()
    whole = "every figure and table of this page: it trains what has no finished run, attacks, and writes them"
    drawing = "this page and the files in figures/, from the record beside it; in this page's folder"
    return Remade("Make it again", whole, command), Remade("Draw it again", drawing, FROM_RECORD)


def row(of: Row) -> tuple[Remade, ...]:
    """Return the commands for one row alone: its training, and what every attack leaves of it."""
    training = Remade("Train it again", "from the recipe below", "sparring train recipe.toml") if of.recipe else None
    judging = (
        Remade("Judge it again", "clean and robust accuracy, each attack's, alone", _evaluate(of))
        if _alone(of)
        else None
    )
    return tuple(made for made in (training, judging) if made)


def _alone(of: Row) -> bool:
    """Say whether one command judges the row again: not where its figures are means of several trainings'."""
    return bool(of.run and of.evaluation.attacked and not of.evaluation.seeds)


def _evaluate(of: Row) -> str:
    evaluation = of.evaluation
    parts = ["sparring", "evaluate", of.run if "/" in of.run else f"runs/{of.run}"]
    for option, value in (("--threat", evaluation.threat), ("--data", evaluation.data), ("--split", evaluation.split)):
        parts += [option, value]
    parts += ["--examples", str(evaluation.examples or evaluation.robust.n), "--seed", str(evaluation.provenance.seed)]
    for result in evaluation.attacked.values():
        parts += ["--attack", result.attack]
    for name, value in evaluation.means.items():
        if name in OPTIONS:
            parts += [OPTIONS[name], value]
    if evaluation.statistics != "running":
        parts += ["--statistics", evaluation.statistics]
    return " ".join(map(_quoted, parts))


def _quoted(part: str) -> str:
    """Quote a part for a shell, in double quotes where that is safe, since call strings have single ones in them."""
    plain = shlex.quote(part)
    return f'"{part}"' if plain != part and not set(part) & set('"$`\\!') else plain

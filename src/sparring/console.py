"""What the command line prints: evaluations, studies and lists, as tables that fit a terminal."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from sparring.core.results import Estimate, Evaluation
    from sparring.core.study_results import StudyResult
    from sparring.evaluation.compare import Compared

out = Console(highlight=False, markup=False)  # what is printed has names and paths in it
INDENT = (0, 0, 0, 4)


def print_evaluation(evaluation: "Evaluation", path: Path) -> None:
    """Print what is left under each attack and under all, and where the record is."""
    out.print(f"{evaluation.model} on {evaluation.data} ({evaluation.split}), {evaluation.threat}", soft_wrap=True)
    _print_audit(evaluation)
    rows = [("clean", _percent(evaluation.clean), "", "", "")]
    for name, attacked in evaluation.attacked.items():
        passes = f"{attacked.forwards:.1f} / {attacked.backwards:.1f}"
        success = f"{attacked.success_rate.value:.2%}" if attacked.success_rate.n else "-"
        rows.append((_short(name), _percent(attacked.accuracy), success, passes, f"{attacked.seconds:.1f}"))
    rows.append(("worst case", _percent(evaluation.robust), "", "", ""))
    if evaluation.certified is not None:
        rows.append(("certified", _percent(evaluation.certified.accuracy), "", "", ""))
    _print_table(("attack", "accuracy (95 %)", "success", "passes f / b", "seconds"), rows)
    if evaluation.otherwise:
        whose = "the curve's attack or the audit's" if evaluation.audit else "the curve's attack"
        out.print(f"worst case: {evaluation.otherwise} of these fell to {whose} alone")
    out.print(f"record: {path}", soft_wrap=True)


def _print_audit(evaluation: "Evaluation") -> None:
    """Print what stands against the result, the gravest first, and how many checks passed."""
    for flag in evaluation.flags:
        style = {"fail": "bold red", "warn": "yellow"}.get(flag.severity, "")
        further = f"; next, try {flag.attack}" if flag.attack else ""
        text = f"{flag.severity.upper()}  {flag.check}: {flag.message}{further}"
        out.print(text, style=style, markup=False, soft_wrap=True)
    for way in evaluation.detected:
        out.print(f"found out and attacked so: {way}", markup=False, soft_wrap=True)
    if not evaluation.audit:
        out.print("not audited", style="yellow")
        return
    outcomes = [check.outcome for check in evaluation.audit]
    counts = [f"{outcomes.count(kind)} {kind}" for kind in ("passed", "note", "warn", "fail", "not run")]
    trust = "" if evaluation.trustworthy else ": the result cannot be trusted"
    out.print(f"audit: {', '.join(each for each in counts if not each.startswith('0 '))}{trust}", soft_wrap=True)


def print_study(result: "StudyResult") -> None:
    """Print a line a defence, and the verdict on each claim."""
    rows = [
        (row.name, _percent(row.evaluation.clean), _percent(row.evaluation.robust), row.evaluation.threat)
        for row in result.rows
    ]
    _print_table(("defence", "clean (95 %)", "robust (95 %)", "threat"), rows)
    for finding in result.findings:
        out.print(f"{finding.verdict}: {finding.claim}. {finding.sentence}", markup=False, soft_wrap=True)


def print_comparison(evaluation: "Evaluation", names: tuple[str, str], figures: "Sequence[Compared]") -> None:
    """Print a line a kind of images: what each model has right, what it alone has right, and the test's p-value."""
    out.print(f"{evaluation.data} ({evaluation.split}), {evaluation.threat}", soft_wrap=True)
    for place, name in zip(("one", "other"), names, strict=True):
        out.print(f"{place}: {name}", markup=False, soft_wrap=True)
    rows = [
        (_short(of.what), _brief(of.first), _brief(of.second), f"{of.only_first} / {of.only_second}", f"{of.p:.2g}")
        for of in figures
    ]
    _print_table(("images", "one (95 %)", "other (95 %)", "it alone", "p"), rows)


def print_files(names: list[str] | None) -> bool:
    """Print a line for each published file; return whether one is corrupt."""
    from sparring.data import SOURCES
    from sparring.data.download import status

    chosen = [SOURCES.parse(name) for name in names] if names else [kind() for kind in SOURCES if kind.name != "folder"]
    rows, corrupt = [], False
    for source in chosen:
        files = status(source)
        corrupt |= any(file.state == "corrupt" for file in files)
        rows += [(source.name, f.file, f.problem or f.state, str(f.place or "")) for f in files]
        if not files:
            rows.append((source.name, "", *source.whereabouts()))
    _print_table(("dataset", "file", "state", "place"), rows)
    return corrupt


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap="%" in column)  # an interval is read at one glance
    for row in rows:
        table.add_row(*row)
    out.print(table, markup=False)


def print_entries(rows: Sequence[Sequence[str]]) -> None:
    """Print each row's call, and below it the facts and the summary, which no width of terminal breaks up."""
    for call, *facts, summary in rows:
        out.print(call, style="bold", markup=False)
        if facts:
            out.print(Padding(Text(" · ".join(facts), style="dim"), INDENT))
        out.print(Padding(Text(summary), INDENT))


def _short(name: str) -> str:
    """Return an attack's call string without its defaults, and anything else, and attacks of one's own, as it is."""
    from sparring.attacks import ATTACKS
    from sparring.core.errors import InputError
    from sparring.core.outside import nothing_imported

    try:
        with nothing_imported():
            return str(ATTACKS.parse(name)) if "(" in name else name
    except InputError:
        return name


def _percent(value: "Estimate") -> str:
    return f"{value.value:.2%} ({value.low:.2%}-{value.high:.2%})" if value.n else "-"


def _brief(value: "Estimate") -> str:
    return f"{value.value:.1%} ({value.low:.1%}-{value.high:.1%})"

"""Run a study: train what has no finished run, evaluate, and write `results.json` and `report.html`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sparring import report
from sparring.core.records import save
from sparring.core.study_results import StudyResult
from sparring.evaluation.provenance import Stopwatch
from sparring.recipe import RUNS
from sparring.studies.findings import findings
from sparring.studies.jobs import work_ahead
from sparring.studies.joining import joined
from sparring.studies.plan import StudyPlan
from sparring.studies.reading import read_plan
from sparring.studies.workshop import Workshop


def run_study(
    study: str,
    *,
    budget: str = "full",
    changes: Mapping[str, object] | None = None,
    runs: str | Path = RUNS,
    out: str | Path | None = None,
    device: str = "auto",
    jobs: int = 1,
    quiet: bool = False,
) -> tuple[StudyResult, Path]:
    """Run a study by name or TOML path; return its result and the report, written to `out` (default `reports/<name>`).

    What has been trained and evaluated before is used again, so a stopped study goes on where it was. `jobs`: so many
    rows are worked on at a time, in processes that share the cores.
    """
    watch, plan = Stopwatch(), read_plan(study, budget=budget, changes=changes)
    if jobs > 1:
        work_ahead(plan, Path(runs), device, jobs, quiet=quiet)
    workshop = Workshop(plan, Path(runs), device, quiet=quiet)
    search, chosen = workshop.search()
    geometries = workshop.geometries(chosen)  # first, for a layer that does not exist must not come out at the end
    rows = workshop.rows(chosen)
    made = [row.evaluation.provenance for row in rows]  # none where all rows are generative models
    first_seed, device_used = (made[0].seed, made[0].device) if made else (plan.seeds[0], device)
    result = StudyResult(
        name=_name(plan, budget),
        title=plan.title,
        paper=plan.paper,
        summary=plan.summary,
        settings=", ".join(f"{name} {value:g}" for name, value in search.chosen.items()) if search else "",
        rows=rows,
        generatives=workshop.generatives(chosen),
        geometries=geometries,
        search=search,
        findings=findings(plan, rows),
        provenance=watch.provenance(seed=first_seed, device=device_used),
    )
    return _written(result, out)


def join_study(
    study: str,
    places: Sequence[Path],
    *,
    budget: str = "full",
    changes: Mapping[str, object] | None = None,
    out: str | Path | None = None,
) -> tuple[StudyResult, Path]:
    """Join the results of single seeds, folders or files; return the whole and the report, as `run_study` does."""
    plan = read_plan(study, budget=budget, changes=changes)
    return _written(joined(plan, places, _name(plan, budget)), out)


def _name(plan: StudyPlan, budget: str) -> str:
    return plan.name if budget == "full" else f"{plan.name}-{budget}"


def _written(result: StudyResult, out: str | Path | None) -> tuple[StudyResult, Path]:
    folder = Path(out) if out else Path("reports") / result.name
    save(result, folder / "results.json")
    return result, report.write(result, folder, command=result.provenance.command)

"""The command line: parse, call one function, print. Heavy imports wait until a command needs them."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sparring.console import out, print_comparison, print_entries, print_evaluation, print_study
from sparring.core.errors import InputError, StoppedError, TrainingError
from sparring.data_commands import data_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="""Train, attack and honestly judge robust image classifiers.

    [bold]Start here[/bold]

    sparring study demo           four defences, one report, no download

    sparring train recipe.toml    train what a recipe says

    sparring evaluate RUN --threat "linf(0.3)"    how robust is it?

    sparring list attacks         what there is, with its papers
    """,
)
app.add_typer(data_app, name="data")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        out.print(f"sparring {version('sparring')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Take what stands before any command (the help is the application's own)."""


Runs = Annotated[Path, typer.Option("--runs", help="The folder of run folders.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", help="""Change a field: --set epochs=3 --set defence="standard()".""")
]
Trust = Annotated[bool, typer.Option("--trust", help="Import the code from outside that makes a run's model.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on standard error.")]


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe's TOML file.")],
    change: Changes = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was stopped.")] = False,
    runs: Runs = Path("runs"),
    device: Device = "auto",
    quiet: Quiet = False,
    trust: Trust = False,
) -> None:
    """Train what a recipe says, into a run folder of its own: a classifier, or a generative model.

    Example recipe: data = "mnist()", model = "cnn()", defence = "adversarial(attack=pgd(steps=7), threat=linf(0.3))".
    Another: data = "mnist()", generative = "vae(latent=32)", optimiser = "adam()".

    sparring train recipe.toml --set epochs=3 --set seed=1
    """
    from sparring.recipe import Recipe, fit, parse_changes, run_of

    chosen = Recipe.read(recipe, parse_changes(change or []))
    done = "trained before" if run_of(chosen, runs).finished else "trained"
    fitted = fit(chosen, runs=runs, device=device, resume=resume, quiet=quiet, trust=trust)
    out.print(f"{done}: {fitted.run.path}", soft_wrap=True)
    if chosen.generative is None:
        out.print(f'next: sparring evaluate {fitted.run.path} --threat "linf(0.1)"', soft_wrap=True)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A run folder, or its name; or a model's call string, with --data.")],
    threat: Annotated[str, typer.Option("--threat", help='How far an image may be moved, such as "linf(8/255)".')],
    attack: Annotated[
        list[str] | None,
        typer.Option("--attack", help="An attack; more than once for more; default: fgsm() autoattack()."),
    ] = None,
    data: Annotated[str, typer.Option("--data", help="A dataset; by default the one it was trained on.")] = "",
    split: Annotated[str, typer.Option("--split", help="test, validation or train.")] = "test",
    examples: Annotated[int | None, typer.Option("--examples", help="Only so many, drawn by the seed.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Decides subsets, random starts and noise.")] = 0,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Examples attacked at once.")] = None,
    precision: Annotated[str, typer.Option("--precision", help="Of attacks: 32-true, bf16-mixed.")] = "32-true",
    draws: Annotated[int | None, typer.Option("--draws", help="Of a random model at each step.")] = None,
    max_forwards: Annotated[
        int | None, typer.Option("--max-forwards", help="The most forward passes an attack may spend on an example.")
    ] = None,
    statistics: Annotated[
        str, typer.Option("--statistics", help="Of batch norm: running; or batch, for comparison with papers only.")
    ] = "running",
    certify: Annotated[
        int, typer.Option("--certify", help="Draws of noise an example to certify a model behind smooth(); 0: none.")
    ] = 1000,
    audit: Annotated[
        str, typer.Option("--audit", help="standard; full: trains twins, and takes longer; or off.")
    ] = "standard",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 where the audit fails the result.")] = False,
    runs: Runs = Path("runs"),
    device: Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    trust: Trust = False,
) -> None:
    """Attack a trained classifier and say what is left of it.

    sparring evaluate runs/mnist-cnn-standard-0123456789 --threat "linf(0.1)" --examples 1000

    sparring evaluate RUN --threat "l2(1)" --attack "fgsm()" --attack "pgd(steps=100, loss='margin')"

    sparring evaluate 'external("my_code:network")' --data 'folder("photos", size=224, test=1.0)' --threat "linf(1/255)"

    What the audit holds against the figures comes first. Stopped, the same command goes on where it was.
    """
    from sparring.attacks import Crafting
    from sparring.core.results import NormStatistics
    from sparring.core.spec import convert
    from sparring.data import SOURCES
    from sparring.evaluation import DEFAULT_ATTACKS
    from sparring.evaluation.audit import Level
    from sparring.recipe import as_it_comes, data_of, open_run
    from sparring.studies.judge import Judgement, judge
    from sparring.training.precision import Precision
    from sparring.training.runs import Run

    if "(" in model and not Path(model).exists():
        fitted = as_it_comes(model, data, runs=runs, device=device)
    else:
        fitted = open_run(Run.find(model, runs).path, trust=trust, device=device)
    if strict and audit == "off":
        raise InputError("--strict: with --audit off nothing is audited, and so nothing trusted; leave one of them out")
    source = SOURCES.parse(data) if data else data_of(fitted.run)
    crafting = Crafting(precision=convert(precision, Precision, "--precision"), draws=draws, max_forwards=max_forwards)
    settings = Judgement(
        threat,
        tuple(attack or DEFAULT_ATTACKS),
        split,
        examples,
        None,
        seed,
        batch_size=batch_size,
        crafting=crafting,
        statistics=convert(statistics, NormStatistics, "--statistics"),
        certify=certify,
        audit=convert(audit, Level, "--audit"),
    )
    evaluation, path = judge(fitted, source, settings, trust=trust)
    if as_json:
        out.print_json(path.read_text(encoding="utf-8"))
    else:
        print_evaluation(evaluation, path)
    if strict and not evaluation.trustworthy:
        raise typer.Exit(3)


@app.command()
def study(
    name: Annotated[str, typer.Argument(help="A study's name (see: sparring list studies) or its TOML file.")],
    budget: Annotated[str, typer.Option("--budget", help="full, or quick: the same in under two minutes.")] = "full",
    change: Changes = None,
    runs: Runs = Path("runs"),
    folder: Annotated[Path | None, typer.Option("--out", help="Where the report goes; default reports/NAME.")] = None,
    join: Annotated[
        list[Path] | None, typer.Option("--join", help="Train nothing: pool this and other reports of single seeds.")
    ] = None,
    device: Device = "auto",
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Rows worked on at a time; they share the cores.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Train every defence of a study, attack each, and write one report.

    sparring study demo

    sparring study lenet-fgsm --budget quick --set data="fashion_mnist()"

    sparring study masks --jobs 2

    sparring study a3t --join reports/a3t-0 --join reports/a3t-1
    """
    from sparring.recipe import parse_changes
    from sparring.studies import join_study, run_study

    changes = parse_changes(change or [])
    if join:
        result, page = join_study(name, join, budget=budget, changes=changes, out=folder)
    else:
        result, page = run_study(
            name, budget=budget, changes=changes, runs=runs, out=folder, device=device, jobs=jobs, quiet=quiet
        )
    print_study(result)
    out.print(f"report: {page}", soft_wrap=True)


@app.command()
def report(
    paths: Annotated[list[Path], typer.Argument(help="A study's results; or run folders and verdicts' files.")],
    folder: Annotated[Path | None, typer.Option("--out", help="Where the report goes.")] = None,
) -> None:
    """Write the report of a study's results, or of verdicts side by side: files, or all that run folders keep.

    sparring report reports/demo/results.json

    sparring report runs/* mine.json --out reports/all
    """
    from sparring import report as reports
    from sparring.core.records import load_any
    from sparring.core.results import Evaluation

    if len(paths) == 1 and paths[0].is_file():
        record = load_any(paths[0])
        usual = Path("reports") / paths[0].stem if isinstance(record, Evaluation) else paths[0].parent
        page = reports.write(record, folder or usual)
    else:
        from sparring.studies.gathering import gather

        page = reports.write(gather(paths), folder or Path("reports/runs"))
    out.print(f"report: {page}", soft_wrap=True)


@app.command()
def compare(
    one: Annotated[Path, typer.Argument(help="A run folder, or a verdict's JSON.")],
    other: Annotated[Path, typer.Argument(help="Another, judged on the same examples under the same threat.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Say which of two models holds better, example by example, and whether that can be chance (McNemar's test).

    sparring compare runs/mnist-cnn-standard-0123456789 runs/mnist-cnn-trades-9876543210

    sparring compare mine.json theirs.json
    """
    from dataclasses import asdict

    from sparring.evaluation.compare import compare as compared
    from sparring.studies.gathering import pairs

    found = [(pair[0], compared(*pair)) for pair in pairs(one, other)]
    if as_json:
        told = [
            {"data": e.data, "split": e.split, "threat": e.threat, "figures": list(map(asdict, of))} for e, of in found
        ]
        out.print_json(data=told)
        return
    for evaluation, figures in found:
        print_comparison(evaluation, (str(one), str(other)), figures)


@app.command("list")
def list_components(
    kind: Annotated[str, typer.Argument(help="attacks, defences, models, datasets, threats, studies, ...")] = "",
    markdown: Annotated[bool, typer.Option("--markdown", help="Everything, as the docs' page.")] = False,
) -> None:
    """Show what there is of a kind: attacks, defences, models, generatives, datasets, threats, studies and more.

    sparring list attacks
    """
    from sparring import listing

    if markdown:
        out.print(listing.markdown(), end="", markup=False, soft_wrap=True)
        return
    if not kind:
        out.print("\n".join(f"sparring list {name}" for name in listing.KINDS))
        return
    print_entries(listing.rows_of(kind)[1])


def main() -> None:
    """Run the command line: bad input ends in one line and exit code 2, a broken training in 1, Ctrl-C in 130."""
    if "" not in sys.path:
        sys.path.append("")  # external("my_code:network") stands where the command is given; last, so it hides nothing
    try:
        app()
    except InputError as error:
        _fail(error, 2)
    except TrainingError as error:
        _fail(error, 130 if isinstance(error, StoppedError) else 1)
    except KeyboardInterrupt:
        _fail("stopped", 130)


def _fail(error: object, code: int) -> None:
    Console(stderr=True, highlight=False).print("error:", str(error), style="red", markup=False, soft_wrap=True)
    sys.exit(code)

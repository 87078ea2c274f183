"""The command line: help, exit codes, one clear line for bad input, and what it prints."""

import contextlib
import io
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sparring.cli import main
from sparring.core.errors import InputError, StoppedError, TrainingError
from sparring.listing import CATALOGUES, KINDS

RECIPE = """
data = "digits()"
model = "mlp(hidden=(16,))"
optimiser = "adam()"
epochs = 1
"""


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def sparring_says(*arguments: str, cwd: Path | None = None) -> Said:
    """Run a command as a user would, in this process: starting Python and torch anew takes seconds each time."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.chdir(cwd or Path.cwd()),
    ):
        patch.setattr(sys, "argv", ["sparring", *arguments])
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return Said(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "recipe.toml").write_text(RECIPE)
    done = sparring_says("train", "recipe.toml", "--quiet", cwd=folder)
    assert done.returncode == 0, done.stderr
    return next((folder / "runs").iterdir())


COMMANDS = ["", "train", "evaluate", "study", "compare", "report", "list", "data", "data fetch"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = sparring_says(*command.split(), "--help")
    assert done.returncode == 0
    assert "sparring" in done.stdout
    assert len(done.stdout) > 200


def test_it_says_its_version() -> None:
    assert sparring_says("--version").stdout.strip() == f"sparring {version('sparring')}"


def test_help_does_not_import_torch() -> None:
    code = "import sys, sparring.cli; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", KINDS)
def test_list_shows_every_component_by_name(kind: str) -> None:
    done = sparring_says("list", kind)
    assert done.returncode == 0, done.stderr
    for component in CATALOGUES.get(kind, ()):
        assert component.name in done.stdout
    if kind == "studies":
        names = [line for line in done.stdout.splitlines() if line and line[0] != " "]
        assert names == sorted(names)


def test_evaluate_prints_a_table_and_writes_a_record(trained: Path) -> None:
    arguments = ["evaluate", str(trained), "--threat", "linf(0.1)", "--examples", "50", "--attack", "fgsm()"]
    done = sparring_says(*arguments)
    assert done.returncode == 0, done.stderr
    assert "worst case" in done.stdout
    record = json.loads(sparring_says(*arguments, "--json").stdout)
    assert record["robust"]["n"] == 50
    by_name = sparring_says("evaluate", trained.name, *arguments[2:], "--json", cwd=trained.parents[1])
    assert json.loads(by_name.stdout) == record  # as a run is named elsewhere, below runs/
    assert list(record["attacked"]) == ["fgsm()"]
    report = sparring_says("report", str(trained), "--out", str(trained / "report"))
    assert report.returncode == 0, report.stderr
    assert (trained / "report" / "report.html").stat().st_size > 100_000
    (kept,) = (trained / "evaluations").glob("*.json")
    alone = sparring_says("report", str(kept), "--out", str(trained / "alone"))
    assert alone.returncode == 0, alone.stderr
    assert (trained / "alone" / "report.html").is_file()


def test_what_the_audit_fails_is_said_first_and_strictly_ends_with_3(trained: Path) -> None:
    """One step alone, far out: what it leaves falls to more, so the figure is refused by name and exit code."""
    arguments = ["evaluate", str(trained), "--threat", "linf(0.3)", "--examples", "100", "--attack", "uniform_noise()"]
    done = sparring_says(*arguments)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[1].startswith("FAIL  ")
    assert "next, try" in lines[1]
    assert "the result cannot be trusted" in done.stdout
    assert sparring_says(*arguments, "--strict").returncode == 3
    honest = ["evaluate", str(trained), "--threat", "linf(0.02)", "--examples", "50", "--attack", "pgd(loss='margin')"]
    assert sparring_says(*honest, "--strict").returncode == 0
    off = sparring_says(*honest, "--audit", "off")
    assert "not audited" in off.stdout
    assert "or the audit's" not in off.stdout
    both = sparring_says(*honest, "--audit", "off", "--strict")
    assert "leave one of them out" in both.stderr
    assert both.returncode == 2
    assert sparring_says(*honest, "--audit", "thorough").returncode == 2


def test_paths_are_printed_as_they_are(trained: Path, tmp_path: Path) -> None:
    """Square brackets in a path are no markup."""
    place = tmp_path / "my [/b] runs" / trained.name
    shutil.copytree(trained, place)
    done = sparring_says("evaluate", str(place), "--threat", "linf(0.1)", "--examples", "20", "--attack", "fgsm()")
    assert done.returncode == 0, done.stderr
    assert "my [/b] runs" in done.stdout


def test_a_model_that_was_not_trained_here_is_judged_as_it_comes(tmp_path: Path) -> None:
    """One's own network and one's own folder of images, all of them judged, on one line."""
    (tmp_path / "mine.py").write_text(
        "import torch\nfrom pathlib import Path\n\n\ndef network(shape, classes):\n    torch.manual_seed(0)\n"
        "    layer = torch.nn.Linear(shape[0] * shape[1] * shape[2], classes)\n"
        "    layer.bias.data[0] = float(Path('bias').read_text())\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), layer)\n"
    )
    (tmp_path / "bias").write_text("0")
    for place, name in enumerate(("cats", "dogs")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(6):
            image = np.random.default_rng(10 * place + number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "photos" / name / f"{number}.png")
    said = ["--data", 'folder("photos", size=8, test=1.0)', "--threat", "linf(1/255)", "--attack", "fgsm()", "--json"]
    done = sparring_says("evaluate", 'external("mine:network")', *said, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["examples"] == 12
    assert record["audit"]

    def judged() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            sparring_says("evaluate", 'external("mine:network")', *said, cwd=tmp_path).stdout
        )
        return found

    assert judged() == record  # as it was kept
    (tmp_path / "bias").write_text("100")  # which the network reads
    other = judged()
    assert other["clean"]["value"] == 0.5
    assert other["clean_confidence"] != record["clean_confidence"]
    assert len(list((tmp_path / "runs").iterdir())) == 2  # no report mixes the two
    shutil.rmtree(tmp_path / "photos" / "dogs")
    (tmp_path / "photos" / "cats" / "0.png").rename(tmp_path / "photos" / "0.png")
    (tmp_path / "photos" / "dogs").mkdir()
    (tmp_path / "photos" / "0.png").rename(tmp_path / "photos" / "dogs" / "0.png")
    assert judged()["clean"]["value"] == pytest.approx(5 / 6)
    missing = sparring_says("evaluate", "cnn()", "--threat", "linf(0.1)", cwd=tmp_path)
    assert missing.returncode == 2
    assert "--data" in missing.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["list", "atacks"], "did you mean 'attacks'"),
        (["study", "lenet"], "lenet-fgsm"),
        (["study", "demo", "--budget", "small"], "full, quick"),
        (["study", "demo", "--set", "epoch=1"], "did you mean 'epochs'"),
        (["study", "demo", "--set", "epochs"], "name=value"),
        (["study", "demo", "--set", "data=mnits()"], "did you mean 'mnist'"),
        (["train", "nowhere.toml"], "nowhere.toml"),
        (["evaluate", "nowhere", "--threat", "linf(0.1)"], "nowhere"),
        (["report", "nowhere.json"], "nowhere.json"),
        (["report", "nowhere"], "nowhere"),
        (["data", "fetch", "mnits"], "did you mean 'mnist'"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = sparring_says(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--threat", "linf(8)"], "linf(8/255)"),
        (["--threat", "linf(-1)"], "at least 0"),
        (["--threat", "linf(0.1)", "--device", "bogus"], "device 'bogus' cannot be used here"),
        (["--threat", "linff(0.1)"], "did you mean 'linf'"),
        (["--threat", "linf(0.1)", "--attack", "pdg()"], "did you mean 'pgd'"),
        (["--threat", "linf(0.1)", "--split", "tset"], "tset"),
        (["--threat", "linf(0.1)", "--examples", "0"], "at least 1"),
        (["--threat", "linf(0.1)", "--data", "digit()"], "did you mean 'digits'"),
    ],
)
def test_a_bad_evaluation_is_one_line_and_exit_code_2(trained: Path, arguments: list[str], said: str) -> None:
    done = sparring_says("evaluate", str(trained), *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr


def test_data_of_other_classes_or_shape_is_refused(trained: Path, tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "test"):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(12):
                Image.new("L", (9, 9), number).save(tmp_path / split / name / f"{number}.png")
    done = sparring_says("evaluate", str(trained), "--threat", "linf(0.1)", "--data", f"folder({str(tmp_path)!r})")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr


def test_data_commands_say_what_there_is_to_say_of_data_without_published_files(tmp_path: Path) -> None:
    done = sparring_says("data", "verify", "folder('nowhere-at-all')")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "does not exist" in done.stderr
    done = sparring_says("data", "verify", f"folder({str(tmp_path)!r})")
    assert "scikit-learn" not in done.stdout
    assert "your own" in done.stdout
    assert "comes with scikit-learn" in sparring_says("data", "fetch", "digits").stdout


def test_the_help_names_the_default_attacks() -> None:
    from sparring.evaluation import DEFAULT_ATTACKS

    source = Path(sys.modules[main.__module__].__file__ or "").read_text(encoding="utf-8")
    assert f"default: {' '.join(DEFAULT_ATTACKS)}." in source


def test_a_finished_run_is_not_said_to_be_trained_again(trained: Path) -> None:
    done = sparring_says("train", str(trained / "recipe.toml"), "--runs", str(trained.parent))
    assert done.stdout.startswith("trained before: ")


def test_set_names_the_field_that_cannot_be(trained: Path) -> None:
    done = sparring_says("train", str(trained / "recipe.toml"), "--set", "limit=-1")
    assert "recipe: limit is a number of images" in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("no"), 2), (TrainingError("no"), 1), (StoppedError("no"), 130), (KeyboardInterrupt(), 130)],
)
def test_what_went_wrong_shows_in_the_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a training, which it saves first, is Ctrl-C all the same."""

    def failing() -> None:
        raise error

    monkeypatch.setattr("sparring.cli.app", failing)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == code


def test_it_is_a_module_too() -> None:
    done = subprocess.run([sys.executable, "-m", "sparring", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "evaluate" in done.stdout

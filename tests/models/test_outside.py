"""Networks from outside: stubbed packages, a function of one's own, and what a run folder may import."""

import json
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from sparring.cli import app
from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.models import MODELS
from sparring.models.saved import load
from sparring.recipe import Recipe, fit, open_run

FIELDS = {"data": "digits()", "epochs": 1, "limit": 128}


class Net(nn.Module):
    """What the stubbed packages make: digits of 8x8, as many classes as asked for, else 10."""

    def __init__(self, classes: int, level: float = 0.0) -> None:
        super().__init__()
        self.pretrained_cfg = {"mean": (0.5,), "std": (0.25,)}
        self.last = nn.Linear(64, classes)
        if level:
            nn.init.constant_(self.last.weight, level)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(x.flatten(1))


def create_model(name: str, *, pretrained: bool, num_classes: int = 10) -> Net:
    if name == "unknown":
        raise RuntimeError("Unknown model (unknown)\n see the list")
    return Net(num_classes, 0.125 if pretrained else 0.0)


def get_model(name: str, *, weights: str | None, num_classes: int = 10, **special: object) -> Net:
    if name == "unknown":
        raise ValueError("Unknown model unknown")
    expected = {"aux_logits": False, "transform_input": True} | ({"init_weights": True} if weights is None else {})
    assert special == (expected if name == "inception_v3" else {})
    assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"  # torch's own switch against unpickling
    return Net(num_classes, 0.25 if weights == "DEFAULT" else 0.0)


def get_model_weights(name: str) -> SimpleNamespace:
    about = SimpleNamespace(mean=[0.5], std=[0.5] if name == "resnet" else [0.25])
    return SimpleNamespace(DEFAULT=SimpleNamespace(transforms=lambda: about))


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    both = {"get_model": get_model, "get_model_weights": get_model_weights}
    monkeypatch.setitem(sys.modules, "torchvision.models", SimpleNamespace(**both))


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the name of a module with functions that make networks."""
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n"
        "def wide(shape, classes, width=4, names=()):\n"
        "    size = shape[0] * shape[1] * shape[2]\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, classes))\n"
        "def nothing(shape, classes):\n    return 3\n"
        "thing = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_networks"
    sys.modules.pop("my_networks", None)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize(
    ("call", "level", "mean", "std"),
    [
        ("timm('resnet')", 0.125, 0.5, 0.25),
        ("torchvision('resnet', pretrained=true)", 0.25, 0.5, 0.5),
        ("torchvision('inception_v3')", 0.25, 0.5, 0.25),
    ],
)
def test_a_packages_network_comes_with_its_weights_and_its_normalisation(
    call: str, level: float, mean: float, std: float
) -> None:
    model = MODELS.parse(call)
    assert MODELS.parse(repr(model)) == model
    with seeded(0):
        network = model.build((1, 8, 8), 10)
    model.fill(network)
    assert torch.equal(network.network.last.weight, torch.full((10, 64), level))
    x = torch.rand(3, 1, 8, 8)
    assert torch.allclose(network(x), network.network((x - mean) / std), atol=1e-5)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    fresh = MODELS.parse(call.split("'")[0] + "'resnet', pretrained=false)")
    with seeded(0):
        bare = fresh.build((1, 8, 8), 10)
    fresh.fill(bare)
    assert not torch.equal(bare.network.last.weight, network.network.last.weight)


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_what_a_package_cannot_give_is_said(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=f"{package}: unknown: Unknown model"):
        MODELS.parse(f"{package}('unknown')").build((3, 8, 8), 10)
    model = MODELS.parse(f"{package}('resnet')")
    network = model.build((3, 8, 8), 7)
    with pytest.raises(
        InputError, match=r"weights are of another network: network.last.weight is \(10, 64\), not \(7, 64\)"
    ):
        model.fill(network)
    for name in ("timm", "torchvision.models", "torchvision"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=f"{package}.*cannot be imported"):
        model.build((3, 8, 8), 10)


def test_a_function_of_ones_own_takes_its_arguments_from_the_call(mine: str) -> None:
    model = MODELS.parse(f'external("{mine}:wide", width=7, names=("a", "b"))')
    assert repr(model) == f"external(path='{mine}:wide', names=('a', 'b'), width=7)"
    assert MODELS.parse(repr(model)) == model
    assert model.build((1, 8, 8), 5)(torch.rand(2, 1, 8, 8)).shape == (2, 5)
    assert MODELS.parse(f'external("{mine}:wide")').build((1, 8, 8), 5)[1].out_features == 4


@pytest.mark.parametrize(
    ("function", "given"),
    [
        ("lambda: NET", {}),
        ("lambda classes: NET", {"classes": 3}),
        ("lambda shape, depth=2: NET", {"shape": (1, 8, 8)}),
        ("lambda depth, **rest: NET", {"shape": (1, 8, 8), "classes": 3, "depth": 5}),
        ("nn.Identity", {"shape": (1, 8, 8), "classes": 3}),
    ],
)
def test_a_function_is_told_what_it_takes(
    function: str, given: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taking.py").write_text(
        f"""
import functools
from torch import nn
NET = nn.Flatten()
given = {{}}
made = {function}

@functools.wraps(made)
def network(**arguments):
    given.update(arguments)
    return made(**arguments)
"""
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "taking", raising=False)
    depth = ", depth=5" if "depth" in given else ""
    network = MODELS.parse(f'external("taking:network"{depth})').build((1, 8, 8), 3)
    assert isinstance(network, nn.Module)
    assert sys.modules["taking"].given == given


def test_an_error_in_the_function_is_told_in_one_line_with_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing.py").write_text("def network(): return 1 + 'one'\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"^external: failing:network failed: TypeError: unsupported operand") as found:
        MODELS.parse('external("failing:network")').build((1, 8, 8), 3)
    assert isinstance(found.value.__cause__, TypeError)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ('external("wide")', 'expected "package.module:function"'),
        ('external("MINE:none")', "has no function 'none'"),
        ('external("MINE:thing")', "has no function 'thing'"),
        ('external("MINE:nothing")', "returns int, no torch.nn.Module"),
        ('external("MINE:wide", depth=3)', "unexpected keyword argument 'depth'"),
        ('external("not_there:wide")', "'not_there' cannot be imported"),
    ],
)
def test_bad_functions_end_in_one_clear_line(call: str, said: str, mine: str) -> None:
    with pytest.raises(InputError, match=said):
        MODELS.parse(call.replace("MINE", mine)).build((1, 8, 8), 3)


def test_arguments_must_be_plain_and_others_take_none() -> None:
    with pytest.raises(InputError, match="unknown argument 'net'"):
        MODELS.parse('external("a:b", net=cnn())')
    with pytest.raises(InputError, match="unknown argument 'depth'"):
        MODELS.parse("cnn(depth=3)")


def test_a_run_folder_imports_nothing_unless_it_is_trusted(
    mine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = Recipe.of({**FIELDS, "model": f'external("{mine}:wide")'})
    fitted = fit(recipe, runs=tmp_path, quiet=True)
    x = torch.rand(3, 1, 8, 8)
    sys.modules.pop(mine)
    for opens in (load, open_run):
        with pytest.raises(
            InputError, match=r"code from outside, external\(path='my_networks:wide'\); open it with trust"
        ):
            opens(fitted.run.path)
    assert mine not in sys.modules
    assert torch.equal(load(fitted.run.path, trust=True)(x), fitted.model(x))
    assert torch.equal(fit(recipe, runs=tmp_path, quiet=True).model(x), fitted.model(x))
    command = ["evaluate", str(fitted.run.path), "--threat", "linf(0.1)", "--attack", "fgsm()", "--examples", "20"]
    with pytest.raises(InputError, match="code from outside"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert CliRunner().invoke(app, [*command, "--trust"], catch_exceptions=False).exit_code == 0


def test_a_finished_run_that_names_code_from_outside_is_no_way_in(tmp_path: Path, mine: str) -> None:
    """A recipe that names none must not import any, whatever a folder that lies where its run would be says."""
    recipe = Recipe.of({**FIELDS, "model": "mlp(hidden=(4,))"})
    run = fit(recipe, runs=tmp_path / "runs", quiet=True).run
    about = (run.path / "model.json").read_text(encoding="utf-8")
    changed = json.loads(about) | {"model": f"external('{mine}:wide')"}
    (run.path / "model.json").write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(InputError, match="not its recipe's"):
        fit(recipe, runs=tmp_path / "runs", quiet=True)
    assert mine not in sys.modules


def test_a_classifier_from_outside_may_stand_behind_masks(tmp_path: Path, mine: str) -> None:
    fields = {**FIELDS, "model": f"external('{mine}:wide')"}
    bare = fit(Recipe.of(fields), runs=tmp_path, quiet=True)
    bare.run.path.rename(tmp_path / "bare")
    masked = fit(Recipe.of({**fields, "defence": "masked(masks=(median(),), model='bare')"}), runs=tmp_path, quiet=True)
    ours, theirs = masked.model.state_dict(), bare.model.state_dict()
    assert all(torch.equal(ours[f"classifier.{name}"], value) for name, value in theirs.items())


@pytest.mark.parametrize(
    ("path", "says"),
    [(".x:f", 'expected "package.module:function"'), ("builtins:dict", "does not say what it takes|returns dict")],
)
def test_paths_that_are_none_and_functions_that_say_nothing_are_refused(path: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        MODELS.parse(f"external({path!r})").build((1, 8, 8), 10)


def test_trust_reaches_the_surrogates(tmp_path: Path, mine: str) -> None:
    victim = fit(Recipe.of({**FIELDS, "model": "mlp(hidden=(4,))"}), runs=tmp_path, quiet=True).run.path
    surrogate = fit(Recipe.of({**FIELDS, "model": f'external("{mine}:wide")'}), runs=tmp_path, quiet=True).run.path
    attack = f"transfer(surrogate={surrogate.name!r}, attack=fgsm())"
    command = ["evaluate", str(victim), "--threat", "linf(0.1)", "--attack", attack, "--examples", "20"]
    with pytest.raises(InputError, match="code from outside"):
        CliRunner().invoke(app, command, catch_exceptions=False)
    assert CliRunner().invoke(app, [*command, "--trust"], catch_exceptions=False).exit_code == 0
    trained = Recipe.of({**FIELDS, "defence": f"adversarial(attack={attack}, threat=linf(0.1))", "model": "mlp()"})
    with pytest.raises(InputError, match="code from outside"):
        fit(trained, runs=tmp_path, quiet=True)
    assert fit(trained, runs=tmp_path, quiet=True, trust=True).run.finished


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_a_packages_network_is_trained_further_for_other_classes(
    package: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last layer begins anew, which is said; but as it comes it cannot be judged on other classes."""
    made = Net.__init__

    def deeper(self: Net, classes: int, level: float = 0.0) -> None:
        made(self, classes, level)
        self.first = nn.Linear(3, 3)
        nn.init.constant_(self.first.weight, level)

    monkeypatch.setattr(Net, "__init__", deeper)
    model = MODELS.parse(f"{package}('resnet')")
    network = model.build((1, 8, 8), 7)
    fresh = network.network.last.weight.clone()
    model.begin(network)
    assert torch.equal(network.network.last.weight, fresh)
    assert bool((network.network.first.weight == (0.125 if package == "timm" else 0.25)).all())
    assert "network.last begins anew, for 7 classes" in caplog.text
    with pytest.raises(InputError, match="weights are of another network"):
        model.fill(network)


def test_weights_that_are_missing_and_modules_that_fail_are_told_in_one_line(mine: str, tmp_path: Path) -> None:
    """They ended in a traceback."""
    (tmp_path / "my_networks.py").write_text("def net():\n    return open('no such weights.pt')\n")
    with pytest.raises(InputError, match=r"^external: my_networks:net failed: FileNotFoundError: .*weights\.pt'$"):
        MODELS.parse(f"external('{mine}:net')").build((1, 8, 8), 10)
    (tmp_path / "my_broken.py").write_text("1 / 0\n")
    with pytest.raises(InputError, match=r"^external: my_broken:net failed: ZeroDivisionError: division by zero$"):
        MODELS.parse("external('my_broken:net')").build((1, 8, 8), 10)


def test_a_file_of_weights_is_told_what_it_needs_to_be_judged(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"weights")
    with pytest.raises(InputError, match=r"a file, no run folder; .* 'external\(\"my_code:net\"\)' --data "):
        open_run(tmp_path / "net.pt")

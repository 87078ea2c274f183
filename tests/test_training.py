"""The loop: kills, resumes to the bit, divergence, Ctrl-C, and what a run folder accepts."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

import sparring
from sparring.core.errors import InputError, TrainingError
from sparring.core.trainable import Setup, State
from sparring.data import Dataset, Split, load
from sparring.defences import Standard
from sparring.models import MLP, ConvNet
from sparring.recipe import Recipe, fit, open_run, run_of
from sparring.training import loop
from sparring.training.runs import Run

BASE = {
    "data": "digits()",
    "model": 'mlp(hidden=(32,), norm="batch")',
    "defence": "adversarial(attack=pgd(steps=2), threat=linf(0.1), mix=0.5)",
    "optimiser": "adam()",
    "schedule": "halve_on_plateau()",
    "augmentation": "crop(padding=1)",
    "normalise": "mean_std",
    "epochs": 3,
    "batch_size": 100,
}


def recipe(**changes: object) -> Recipe:
    return Recipe.of({**BASE, **changes})


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.path / "model.safetensors")


def same_bits(one: Run, other: Run) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


KILLED = """
    import os, signal
    from sparring.recipe import Recipe, fit
    from sparring.training import loop, monitor
    loop.CHECKPOINT_SECONDS = 0.0
    steps, count = monitor.Monitor.step, 0
    def step(self, images):
        global count
        count += 1
        steps(self, images)
        if count == {at}:
            os.kill(os.getpid(), signal.{signal})
    monitor.Monitor.step = step
    fit(Recipe.of({recipe!r}), runs={runs!r}, quiet=True)
"""


def run_until(at: int, name: str, runs: Path, **changes: object) -> subprocess.CompletedProcess[str]:
    code = textwrap.dedent(KILLED.format(at=at, signal=name, recipe={**BASE, **changes}, runs=str(runs)))
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("at", [5, 20])  # 13 steps an epoch: in the first, in the second
def test_a_killed_run_resumes_to_the_same_bits(tmp_path: Path, at: int) -> None:
    died = run_until(at, "SIGKILL", tmp_path / "killed")
    assert died.returncode == -signal.SIGKILL, died.stderr
    run = run_of(recipe(), tmp_path / "killed")
    assert run.begun
    assert not run.finished
    resumed = fit(recipe(), runs=tmp_path / "killed", quiet=True)
    undisturbed = fit(recipe(), runs=tmp_path / "whole", quiet=True)
    assert same_bits(resumed.run, undisturbed.run)
    steps = [[e.metrics for e in run.read_metrics()] for run in (resumed.run, undisturbed.run)]
    assert steps[0] == steps[1]


def test_dropout_resumes_to_the_same_bits(
    break_off: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = MLP.build
    monkeypatch.setattr(MLP, "build", lambda self, s, k: nn.Sequential(nn.Dropout(0.3), plain(self, s, k)))
    whole = fit(recipe(), runs=tmp_path / "whole", quiet=True)
    break_off(recipe(), 17, tmp_path / "broken")
    assert same_bits(fit(recipe(), runs=tmp_path / "broken", quiet=True).run, whole.run)


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(tmp_path: Path) -> None:
    stopped = run_until(7, "SIGINT", tmp_path)
    assert "--resume" in stopped.stderr
    run = run_of(recipe(), tmp_path)
    assert run.read_checkpoint()["position"]["step"] in (7, 8)
    whole = fit(recipe(), runs=tmp_path / "whole", quiet=True)
    assert same_bits(fit(recipe(), runs=tmp_path, quiet=True).run, whole.run)


def test_training_leaves_the_global_random_state_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    fit(recipe(epochs=1), runs=tmp_path, quiet=True)
    assert torch.equal(before, torch.get_rng_state())


def test_what_an_epochs_end_takes_is_part_of_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Standard, "epoch_end", lambda *_: time.sleep(0.4))
    fitted = fit(recipe(defence="standard()", limit=100, epochs=1), runs=tmp_path, quiet=True)
    assert fitted.run.read_metrics()[0].seconds >= 0.4


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    first = fit(recipe(epochs=1), runs=tmp_path / "a", quiet=True)
    again = fit(recipe(epochs=1), runs=tmp_path / "b", quiet=True)
    other = fit(recipe(epochs=1, seed=1), runs=tmp_path / "c", quiet=True)
    assert same_bits(first.run, again.run)
    assert not same_bits(first.run, other.run)


def test_divergence_stops_with_advice_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Standard.loss

    def breaks(self: Standard, net: object, x: object, y: object, *, progress: float, generator: object) -> object:
        loss, metrics = plain(self, net, x, y, progress=progress, generator=generator)
        return loss * (float("nan") if progress > 0.5 else 1.0), metrics

    monkeypatch.setattr(Standard, "loss", breaks)
    broken = recipe(defence="standard()", epochs=4)
    with pytest.raises(TrainingError, match="smaller learning rate") as caught:
        fit(broken, runs=tmp_path, quiet=True)
    assert "\n" not in str(caught.value)
    saved = run_of(broken, tmp_path).read_checkpoint()
    assert saved["position"]["epoch"] == 2
    tensors = saved["state"]["learners"]["classifier"]["network"].values()
    assert all(bool(t.isfinite().all()) for t in tensors)


def test_weights_that_the_last_step_broke_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Standard.step

    def breaks(self: Standard, state: State, x: object, y: object, **given: object) -> object:
        metrics = plain(self, state, x, y, **given)
        if given["progress"] > 0.6:
            next(state.learners["classifier"].network.parameters()).data.fill_(float("inf"))
        return metrics

    broken = recipe(defence="standard()", limit=100, epochs=4)  # one step an epoch
    monkeypatch.setattr(Standard, "step", breaks)
    with pytest.raises(TrainingError, match="parameters that are not finite"):
        fit(broken, runs=tmp_path, quiet=True)
    assert run_of(broken, tmp_path).read_checkpoint()["position"]["epoch"] == 3


def test_a_loss_that_explodes_is_divergence(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="diverged"):
        fit(recipe(defence="standard()", optimiser="sgd(lr=1000)"), runs=tmp_path, quiet=True)


def test_a_finished_run_is_opened_not_trained_again(tmp_path: Path) -> None:
    first = fit(recipe(epochs=1), runs=tmp_path, quiet=True)
    stamp = (first.run.path / "model.safetensors").stat().st_mtime_ns
    again = fit(recipe(epochs=1), runs=tmp_path, quiet=True)
    assert again.run == first.run
    assert (again.run.path / "model.safetensors").stat().st_mtime_ns == stamp


def test_a_run_on_photos_that_have_changed_since_is_neither_opened_nor_gone_on_with(
    tmp_path: Path,
) -> None:
    """The recipe names a folder, and not what lies in it: the same call gave a network that had not seen the images."""

    def photo(name: str, level: int) -> None:
        place = tmp_path / "photos" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), level, np.uint8)).save(place)

    for number in range(20):
        photo(f"dark/{number}.png", number)
        photo(f"light/{number}.png", 200 + number)
    mine = recipe(data=f"folder({str(tmp_path / 'photos')!r}, validation=0.2)", epochs=1, batch_size=8)
    fitted = fit(mine, runs=tmp_path / "runs", quiet=True)
    assert fit(mine, runs=tmp_path / "runs", quiet=True).run == fitted.run
    photo("dark/20.png", 90)
    with pytest.raises(InputError, match="trained on other images"):
        fit(mine, runs=tmp_path / "runs", quiet=True)
    (fitted.run.path / "model.json").unlink()  # as if it had been stopped after its last checkpoint
    with pytest.raises(InputError, match="trained on other images"):
        fit(mine, runs=tmp_path / "runs", quiet=True)
    (tmp_path / "photos" / "dark" / "20.png").unlink()
    assert fit(mine, runs=tmp_path / "runs", quiet=True).run == fitted.run
    shutil.rmtree(tmp_path / "photos")
    assert open_run(fitted.run.path).run == fitted.run


def test_a_stopped_run_is_an_error_without_resume(break_off: Callable[..., Run], tmp_path: Path) -> None:
    break_off(recipe(), 5, tmp_path)
    with pytest.raises(InputError, match="--resume"):
        fit(recipe(), runs=tmp_path, quiet=True, resume=False)


@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_a_truncated_checkpoint_is_refused(break_off: Callable[..., Run], tmp_path: Path, keep: int) -> None:
    path = break_off(recipe(), 14, tmp_path).path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="checkpoint") as caught:
        fit(recipe(), runs=tmp_path, quiet=True)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/pwned",)

    run = run_of(recipe(), tmp_path)
    run.path.mkdir(parents=True)
    torch.save({"state": Evil()}, run.path / "checkpoint.pt")
    with pytest.raises(InputError, match="checkpoint"):
        fit(recipe(), runs=tmp_path, quiet=True)
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_truncated_model_is_refused(tmp_path: Path, name: str) -> None:
    run = fit(recipe(epochs=1), runs=tmp_path, quiet=True).run
    path = run.path / name
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=name):
        open_run(run.path)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    one = fit(recipe(epochs=1), runs=tmp_path, quiet=True).run
    other = fit(recipe(epochs=1, model="cnn()"), runs=tmp_path, quiet=True).run
    (other.path / "model.safetensors").replace(one.path / "model.safetensors")
    with pytest.raises(InputError, match="do not fit"):
        sparring.load(one.path)


def test_a_folder_of_another_recipe_is_refused(tmp_path: Path) -> None:
    run = run_of(recipe(), tmp_path)
    run.path.mkdir(parents=True)
    (run.path / "recipe.toml").write_text('data = "mnist()"\n')
    with pytest.raises(InputError, match="another recipe"):
        fit(recipe(), runs=tmp_path, quiet=True)


def test_what_is_loaded_predicts_as_what_was_trained(tmp_path: Path) -> None:
    fitted = fit(recipe(epochs=1), runs=tmp_path, quiet=True)
    assert not fitted.model.training
    x = torch.rand(5, 1, 8, 8)
    assert torch.equal(fitted.model(x), sparring.load(fitted.run.path)(x))
    about = json.loads((fitted.run.path / "model.json").read_text())
    assert about["classes"] == [str(k) for k in range(10)]


@pytest.mark.parametrize("train_on", ["train", "train+validation"])
def test_the_mean_image_is_that_of_the_images_trained_on(tmp_path: Path, train_on: str) -> None:
    from sparring.data import load

    chosen = recipe(normalise="mean_image", epochs=1, train_on=train_on)
    model = fit(chosen, runs=tmp_path, quiet=True).model
    expected = load("digits()").split(train_on).images().double().mean(0)
    assert torch.allclose(model.normalise.mean.double(), expected, atol=1e-6)


def test_limit_trains_on_so_many_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(loop.Monitor, "step", lambda self, images: seen.append(images))
    fit(recipe(epochs=1, limit=250), runs=tmp_path, quiet=True)
    assert seen == [100, 100, 50]


def test_a_last_batch_of_one_is_left_out_so_that_batch_norm_can_work(tmp_path: Path) -> None:
    fitted = fit(recipe(epochs=1, limit=201), runs=tmp_path, quiet=True)
    assert fitted.run.finished


def test_bf16_trains_and_judges_in_float32(tmp_path: Path) -> None:
    fitted = fit(recipe(epochs=1, precision="bf16-mixed"), runs=tmp_path, quiet=True)
    assert all(t.dtype != torch.bfloat16 for t in fitted.model.state_dict().values())


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("epochs", "three", "epochs"),
        ("epochs", -1, "at least 0"),
        ("epoch", 3, "did you mean 'epochs'"),
        ("defence", "advers()", "did you mean 'adversarial'"),
        ("defence", "adversarial(attack=pgd(step=3), threat=linf(0.1))", "did you mean 'steps'"),
        ("optimiser", "sgd(lr=-1)", "more than 0"),
        ("normalise", "mean", "mean_std"),
        ("model", 3, "model"),
        ("batch_size", 0, "at least 1"),
    ],
)
def test_a_bad_recipe_field_is_named(field: str, value: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        recipe(**{field: value})
    assert "\n" not in str(caught.value)


def test_a_recipe_round_trips_through_toml(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(recipe().to_toml())
    assert Recipe.read(path) == recipe()


def test_lenet_says_which_size_it_takes() -> None:
    with pytest.raises(InputError, match="28x28, not 8x8"):
        recipe(model="lenet()").model.build((1, 8, 8), 10)


def test_convnet_is_the_network_of_the_proposals_code() -> None:
    """By its parameters, and by what a 28x28 image becomes on the way; other sizes fit too."""
    network = ConvNet().build((1, 28, 28), 10)
    assert sum(p.numel() for p in network.parameters()) == 16 * 10 + 32 * 145 + 128 * 4609 + 10 * 129
    assert network[:5](torch.rand(2, 1, 28, 28)).shape == (2, 32, 12, 12)
    assert ConvNet(dropout=0).build((3, 7, 6), 4)(torch.rand(2, 3, 7, 6)).shape == (2, 4)
    with pytest.raises(InputError, match="at least 6x6, not 5x9"):
        ConvNet().build((1, 5, 9), 10)
    with pytest.raises(InputError, match="dropout is a share"):
        ConvNet(dropout=1)


def test_means_over_an_epoch_in_half_precision_are_exact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In bfloat16 a sum of 400 ones times a batch of 3 stops growing long before its end."""
    half = {"loss": torch.ones((), dtype=torch.bfloat16)}
    monkeypatch.setattr(Standard, "step", lambda *_, **__: half)
    fitted = fit(recipe(defence="standard()", limit=1200, epochs=1, batch_size=3), runs=tmp_path, quiet=True)
    assert fitted.run.read_metrics()[0].metrics["loss"] == pytest.approx(1, abs=1e-6)


class Tied(nn.Module):
    """Two layers with one matrix."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, classes)
        self.second.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.second(self.first(x.flatten(1)).relu()))
        return out


def test_weights_that_layers_share_are_stored_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MLP, "build", lambda _, __, classes: Tied(classes))
    fitted = fit(recipe(model="mlp()", normalise="none", epochs=1), runs=tmp_path, quiet=True)
    held = weights(fitted.run)
    first, second = (next(held[name] for name in held if name.endswith(f"{of}.weight")) for of in ("first", "second"))
    assert torch.equal(first, second)


def test_batch_norm_on_one_image_at_a_time_is_refused_whatever_its_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one image at a time"):
        fit(recipe(model="resnet18(width=4)", limit=4, epochs=1, batch_size=1), runs=tmp_path, quiet=True)


def test_batch_norm_on_one_image_is_let_be_where_nothing_trains(tmp_path: Path) -> None:
    fit(recipe(model="resnet18(width=4)", limit=1, epochs=0), runs=tmp_path, quiet=True)


def test_a_run_in_which_nothing_trains_is_named_for_no_defence() -> None:
    untrained, trained = (recipe(defence="standard()", epochs=epochs).title for epochs in (0, 1))
    assert trained == f"{untrained}-standard"
    assert recipe(defence="noise_training(threat=linf(0.1))", epochs=0).title.endswith("-noise_training")


class Dropping(nn.Module):
    """Half of its values are dropped, by the device's own random state."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers(x)
        return found


def test_on_another_device_it_goes_on_to_the_same_bits(
    break_off: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other_device: torch.device
) -> None:
    """Dropout on a GPU began its stream anew after a stop, and sums read on the CPU could not be added to."""
    monkeypatch.setattr(MLP, "build", lambda _, __, classes: Dropping(classes))
    where = other_device.type
    plain = recipe(model="mlp()", normalise="none", defence="standard()")
    whole = fit(plain, runs=tmp_path / "whole", device=where, quiet=True)
    saved = break_off(plain, 5, tmp_path / "broken", where).read_checkpoint()
    assert saved["position"]["sums"]
    broken = fit(plain, runs=tmp_path / "broken", device=where, quiet=True)
    assert same_bits(whole.run, broken.run)


@pytest.mark.parametrize("attack", ["ddn(steps=2)", "cw(steps=2)"])
def test_training_on_an_attack_without_a_form_for_the_norm_is_refused(tmp_path: Path, attack: str) -> None:
    """It trained, on whatever the attack for another norm gave once it was cut to size."""
    with pytest.raises(InputError, match="attacks in l2, not in linf"):
        fit(recipe(defence=f"adversarial(attack={attack}, threat=linf(0.1))"), runs=tmp_path, quiet=True)


# ------------------------------------------------------------------------------------------- one training at a time


def test_a_run_that_another_process_trains_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two rows of a study may have one recipe: neither may fail, nor both write into one folder."""
    place = run_of(recipe(epochs=1), tmp_path).path
    code = (
        "import sys, time; from pathlib import Path; from sparring.core.files import alone\n"
        "with alone(Path(sys.argv[1]) / 'training'):\n"
        "    print('in', flush=True); sys.stdin.readline(); time.sleep(0.5)\n"
        "    print(list(Path(sys.argv[1]).glob('model.json')), flush=True)"
    )
    command = [sys.executable, "-c", code, str(place)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        assert fit(recipe(epochs=1), runs=tmp_path, quiet=True).run.finished
        assert other.stdout.readline() == "[]\n"  # nothing was trained while the other was in
    assert "another process is training this run" in caplog.text


def test_a_finished_run_is_opened_without_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others' runs may lie where nobody may write."""
    fitted = fit(recipe(epochs=1), runs=tmp_path, quiet=True)
    monkeypatch.setattr("sparring.recipe.fitting.alone", lambda *_, **__: pytest.fail("it asked for the lock"))
    assert fit(recipe(epochs=1), runs=tmp_path, quiet=True).run == fitted.run


def test_another_dataset_than_the_recipes_is_refused(tmp_path: Path) -> None:
    other = load("digits(validation=300)")
    with pytest.raises(InputError, match=r"fit: the dataset is digits\(validation=300.*not the recipe's"):
        fit(recipe(epochs=1), runs=tmp_path, quiet=True, dataset=other)
    assert not run_of(recipe(epochs=1), tmp_path).path.exists()


@pytest.mark.parametrize("value", [-0.5, 255.0, float("nan")])
def test_a_dataset_with_pixels_outside_0_to_1_is_refused(value: float) -> None:
    x = torch.rand(4, 1, 8, 8)
    x[2, 0, 3, 3] = value
    part = Split(x, torch.zeros(4, dtype=torch.int64), torch.arange(4))
    with pytest.raises(InputError, match=r"^mine: train: .*example 2"):
        Dataset("mine", ("a",), part, part, part)


def test_training_on_nothing_is_refused(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / name)
    nothing = Recipe.of({"data": f"folder({str(tmp_path)!r}, test=1.0)", "model": "mlp()"})
    with pytest.raises(InputError, match=r"there is nothing to train on: folder\(.*leaves no image to train"):
        fit(nothing, runs=tmp_path / "runs", quiet=True)


class Refuses(Standard):
    def init(self, setup: Setup) -> State:
        raise ValueError("a fault of one's own")


@pytest.mark.parametrize(
    ("changes", "device"),
    [
        ({"model": "lenet()"}, "cpu"),
        ({"model": "external('no_such_module:net')"}, "cpu"),
        ({}, "tpu"),
        ({"defence": Refuses()}, "cpu"),
    ],
)
def test_what_cannot_begin_leaves_nothing_behind(changes: dict[str, object], device: str, tmp_path: Path) -> None:
    """A run folder was left that held a lock and nothing else."""
    with pytest.raises((InputError, ValueError)):
        fit(recipe(epochs=1, **changes), runs=tmp_path / "runs", device=device, quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_refused_training_on_images_of_ones_own_leaves_nothing_behind(tmp_path: Path) -> None:
    for name in ("a/1.png", "b/1.png", "a/2.png", "b/2.png"):
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "own" / name)
    data = f"folder({str(tmp_path / 'own')!r}, test=0.5, validation=0)"
    with pytest.raises(InputError):
        fit(recipe(data=data, model="lenet()"), runs=tmp_path / "runs", quiet=True)
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_was_there_before_stays_when_training_is_refused(tmp_path: Path) -> None:
    place = run_of(recipe(model="lenet()"), tmp_path).path
    place.mkdir()
    with pytest.raises(InputError):
        fit(recipe(model="lenet()"), runs=tmp_path, quiet=True)
    assert place.is_dir()


def test_those_that_wait_stay_alone_when_the_first_takes_its_folder_away(tmp_path: Path) -> None:
    """Each makes the folder anew, and writes down when it comes and goes; a lock on a removed file would let two in."""
    code = (
        "import sys, time; from pathlib import Path; from sparring.core.files import alone\n"
        "for _ in range(20):\n"
        "    with alone(Path(sys.argv[1]) / 'new' / 'training'):\n"
        "        (Path(sys.argv[1]) / 'in').touch(exist_ok=False); time.sleep(0.002)\n"
        "        (Path(sys.argv[1]) / 'in').unlink()\n"
    )
    others = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [other.wait() for other in others] == [0, 0, 0]
    assert not list(tmp_path.iterdir())


def test_what_a_kill_left_half_written_is_swept(tmp_path: Path) -> None:
    run = run_of(recipe(epochs=1), tmp_path)
    run.path.mkdir(parents=True)
    (run.path / ".checkpoint.pt-abc.part").write_bytes(b"half")
    fit(recipe(epochs=1), runs=tmp_path, quiet=True)
    assert not list(run.path.glob(".*.part"))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_no_generator_takes_are_refused(seed: int) -> None:
    with pytest.raises(InputError, match=r"^recipe: seed: expected a whole number from 0"):
        recipe(seed=seed)


def test_the_greatest_seed_trains(tmp_path: Path) -> None:
    assert fit(recipe(seed=2**63 - 1, epochs=1), runs=tmp_path, quiet=True).run.finished


# ------------------------------------------------------------------------------------------------------- damaged runs


@pytest.mark.parametrize(
    "damage",
    [
        lambda saved: [1, 2],
        lambda saved: {},
        lambda saved: {**saved, "state": 3},
        lambda saved: {**saved, "position": {"place": 1}},
        lambda saved: {**saved, "history": [[1]]},
        lambda saved: {**saved, "generator": torch.zeros(3, dtype=torch.uint8)},
        lambda saved: {**saved, "state": {**saved["state"], "learners": {}}},
    ],
)
def test_a_checkpoint_of_a_wrong_kind_is_refused_as_damaged(
    damage: Callable[[dict[str, object]], object], tmp_path: Path, break_off: Callable[..., Run]
) -> None:
    run = break_off(recipe(), 3, tmp_path)
    torch.save(damage(run.read_checkpoint()), run.path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"checkpoint\.pt: damaged"):
        fit(recipe(), runs=tmp_path, quiet=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [1, 10**9, 10**9]},
        {"shape": [1, 8]},
        {"shape": "1x8x8"},
        {"shape": [1, -8, 8]},
        {"classes": 10},
        {"classes": "0123456789"},
        {"model": "cnn()"},
    ],
)
def test_an_absurd_description_is_refused_as_damaged(changes: dict[str, object], tmp_path: Path) -> None:
    path = fit(recipe(epochs=1), runs=tmp_path, quiet=True).run.path
    about = json.loads((path / "model.json").read_text(encoding="utf-8"))
    (path / "model.json").write_text(json.dumps(about | changes), encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        sparring.load(path)


def test_a_recipe_that_is_no_text_is_refused(tmp_path: Path) -> None:
    run = fit(recipe(epochs=1), runs=tmp_path, quiet=True).run
    (run.path / "recipe.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="damaged"):
        run.read_recipe()
    with pytest.raises(InputError, match="another recipe"):
        run.write_recipe("x")


def test_a_run_says_with_what_when_and_where_it_was_trained_and_nothing_depends_on_it(tmp_path: Path) -> None:
    run = fit(recipe(epochs=1), runs=tmp_path, quiet=True).run
    written = json.loads((run.path / "model.json").read_text(encoding="utf-8"))
    assert written["made"].keys() == {"sparring", "torch", "device", "ended"}
    assert (written["made"]["torch"], written["made"]["device"]) == (torch.__version__, "cpu")
    assert "made" not in run.read_description()


@pytest.mark.parametrize("device", ["tpu", "bogus", "cuda:7"])
def test_a_device_that_is_none_is_refused(device: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be used here; there are: auto, cpu, cuda, mps"):
        fit(recipe(epochs=1), runs=tmp_path, device=device, quiet=True)


def test_a_training_goes_on_where_it_was_begun(
    tmp_path: Path, break_off: Callable[..., Run], other_device: torch.device
) -> None:
    break_off(recipe(), 7, tmp_path)
    with pytest.raises(InputError, match="begun on cpu, whose noise cannot go on on pretend; give --device cpu"):
        fit(recipe(), runs=tmp_path, device=other_device.type, quiet=True)
    assert fit(recipe(), runs=tmp_path, device="cpu", quiet=True).run.finished

"""A long evaluation keeps what it finds: stopped and started again, it continues to the same result."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor, nn

from sparring import run
from sparring.attacks import Crafting
from sparring.core.results import Evaluation
from sparring.core.threat import THREATS
from sparring.evaluation import evaluate
from sparring.evaluation.parts import FIELDS, Parts

ATTACKS = ("fgsm()", "pgd(steps=5, restarts=2)")
GRID = (0.05, 0.1, 0.2)


class Flaky(nn.Module):
    """Another model, counting calls, which is killed at one of them."""

    def __init__(self, net: nn.Module, stop_at: int = 0) -> None:
        super().__init__()
        self.net, self.stop_at, self.calls = net, stop_at, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        return self.net(x)


def assert_same_verdict(one: Evaluation, other: Evaluation) -> None:
    timeless = [
        dataclasses.replace(
            e,
            provenance=one.provenance,
            attacked={k: dataclasses.replace(a, seconds=0.0) for k, a in e.attacked.items()},
            audit=tuple(dataclasses.replace(check, seconds=0.0) for check in e.audit),
        )
        for e in (one, other)
    ]
    assert repr(timeless[0]) == repr(timeless[1])
    assert one.arrays.keys() == other.arrays.keys()
    assert all(np.array_equal(value, other.arrays[name]) for name, value in one.arrays.items())


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_an_evaluation_that_was_stopped_goes_on_to_the_same_result(
    share: float, make_net: Callable, make_data: Callable, tmp_path: Path
) -> None:
    net = make_net(dropout=0.0)
    data = make_data(net, 20)
    settings = {"curve": GRID, "batch_size": 4, "name": "net", "audit": "off"}
    model = Flaky(net)
    whole = evaluate(model, (data.x, data.y), "linf(0.1)", ATTACKS, **settings)
    stopped = Flaky(net, stop_at=int(share * model.calls))
    with pytest.raises(KeyboardInterrupt):
        evaluate(stopped, (data.x, data.y), "linf(0.1)", ATTACKS, folder=tmp_path, **settings)
    rest = Flaky(net)
    resumed = evaluate(rest, (data.x, data.y), "linf(0.1)", ATTACKS, folder=tmp_path, **settings)
    assert_same_verdict(whole, resumed)
    nothing = Flaky(net)
    evaluate(nothing, (data.x, data.y), "linf(0.1)", ATTACKS, folder=tmp_path, **settings)
    assert nothing.calls < 0.3 * model.calls  # clean predictions, what is found out, and the few images for the report
    assert rest.calls - nothing.calls < model.calls * (1.15 - share)  # one batch is done again


@pytest.mark.parametrize("sizes", [(4, 8), (8, 4), (5, 20)])
def test_it_may_go_on_in_batches_of_another_size(
    sizes: tuple[int, int], make_net: Callable, make_data: Callable, tmp_path: Path
) -> None:
    """A machine or a version with other batches finds parts that are not those it would make."""
    net = make_net(dropout=0.0)
    data = make_data(net, 20)
    verdicts = [
        evaluate(net, (data.x, data.y), "linf(0.1)", ATTACKS, curve=GRID, name="net", batch_size=size, folder=tmp_path)
        for size in sizes
    ]
    assert_same_verdict(*verdicts)


def test_a_part_that_is_damaged_is_made_again(make_net: Callable, make_data: Callable, tmp_path: Path) -> None:
    net = make_net(dropout=0.0)
    data = make_data(net, 12)
    settings = {"curve": (), "batch_size": 4, "folder": tmp_path, "name": "net"}
    whole = evaluate(net, (data.x, data.y), "linf(0.1)", ATTACKS, **settings)
    first, second, third, *_ = sorted(tmp_path.glob("*.npz"))
    first.write_bytes(first.read_bytes()[:200])
    second.write_bytes(b"")
    third.write_bytes(b"not an archive")
    assert_same_verdict(whole, evaluate(net, (data.x, data.y), "linf(0.1)", ATTACKS, **settings))
    with np.load(first) as mended:
        assert set(mended) == {*FIELDS, "seconds"}


def test_the_seconds_before_a_stop_count(make_net: Callable, make_data: Callable, tmp_path: Path) -> None:
    net = make_net()
    data = make_data(net, 3)
    found = run("fgsm()", net, data.x, data.y, THREATS.parse("linf(0.1)"))
    before = Parts(tmp_path, "a")
    time.sleep(0.05)
    before[0] = found
    after = Parts(tmp_path, "a")
    assert 0 in after
    assert 1 not in after
    assert after.seconds == pytest.approx(before.seconds)
    assert after.seconds >= 0.05
    assert 0 not in Parts(tmp_path, "another attack")


SCRIPT = """
import sys, torch
from pathlib import Path
from sparring.evaluation import evaluate
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3)).eval()
x = torch.rand(40, 1, 8, 8)
y = net(x).argmax(1)
found = evaluate(net, (x, y), "linf(0.01)", "pgd(steps=300, restarts=2)", curve=(), batch_size=1,
                 folder=Path(sys.argv[1]), name="net")
found.save(sys.argv[2])
"""


def test_a_killed_process_loses_at_most_the_batch_it_was_at(tmp_path: Path) -> None:
    def start(folder: str, record: str) -> subprocess.Popen:
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / folder), str(tmp_path / record)]
        return subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})

    assert start("whole", "whole.json").wait() == 0
    killed = start("parts", "killed.json")
    begin = time.monotonic()
    while len(list(tmp_path.glob("parts/[!.]*.npz"))) < 5 and killed.poll() is None and time.monotonic() - begin < 60:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    kept = {file.name: file.stat().st_mtime_ns for file in tmp_path.glob("parts/[!.]*.npz")}
    assert len(kept) >= 5
    assert not (tmp_path / "killed.json").exists()
    assert start("parts", "resumed.json").wait() == 0
    assert {name: (tmp_path / "parts" / name).stat().st_mtime_ns for name in kept} == kept
    assert_same_verdict(*(Evaluation.load(tmp_path / name) for name in ("whole.json", "resumed.json")))


def test_a_folder_never_serves_another_model_seed_or_budget(
    make_net: Callable, make_data: Callable, tmp_path: Path
) -> None:
    """What one model's attacks found was handed back as another's."""
    nets = [make_net(seed=seed, dropout=0.0) for seed in (0, 1)]
    data = make_data(nets[0], 30)
    judge = {"threat": "linf(0.1)", "attacks": ATTACKS, "curve": (), "audit": "off"}
    for net in nets:
        for more in ({}, {"seed": 1}, {"crafting": Crafting(max_forwards=2)}):
            alone = evaluate(net, (data.x, data.y), **judge, **more)
            kept = evaluate(net, (data.x, data.y), **judge, **more, folder=tmp_path)
            assert kept.robust == alone.robust
            flags = {name for name in alone.arrays if name.startswith("correct/")}
            assert all(np.array_equal(kept.arrays[name], alone.arrays[name]) for name in flags)
            assert kept.means == ({"max_forwards": "2"} if "crafting" in more else {})

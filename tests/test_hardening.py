"""Hardening someone's own network: it holds more afterwards, it stays as it was, and what cannot be used is said."""

import copy
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import sparring
from sparring.core.errors import InputError, StoppedError
from sparring.data import load
from sparring.models.mask import Masked
from sparring.training.loop import Monitor

PGD = "adversarial(attack=pgd(steps=5, rel_step_size=0.4), threat=linf(0.1))"


class Own(nn.Module):
    """A network of someone's own, with batch norm."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())
        self.head = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(x))
        return logits


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    """Give a network that was trained elsewhere, left in training mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, train = Own(), load("digits()").train
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(train.images()), train.y).backward()
        optimiser.step()
    return net


def test_it_holds_more_and_the_network_stays_as_it_was(trained: nn.Module) -> None:
    before, rng = copy.deepcopy(trained.state_dict()), torch.get_rng_state()
    hardened = sparring.harden(trained, "digits()", PGD, epochs=15, optimiser="adam(lr=0.003)", quiet=True)
    assert torch.equal(rng, torch.get_rng_state())
    assert trained.training
    assert not hardened.training
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    attacks = "pgd(steps=20, loss='margin')"
    verdicts = [sparring.evaluate(net, "digits()", "linf(0.1)", attacks, curve=()) for net in (trained, hardened)]
    assert verdicts[1].robust.low > verdicts[0].robust.high + 0.2
    assert verdicts[1].clean.value > 0.85


def test_it_begins_with_the_weights_that_the_network_holds(trained: nn.Module) -> None:
    again = sparring.harden(trained, "digits()", "standard()", epochs=0, quiet=True)
    assert all(torch.equal(value, trained.state_dict()[name]) for name, value in again.state_dict().items())


def test_data_may_be_whatever_evaluate_takes(trained: nn.Module) -> None:
    train = load("digits()").train
    x, y = train.images()[:200], train.y[:200]
    given = [(x, y), (x.numpy(), y.numpy()), torch.utils.data.TensorDataset(x, y)]
    found = [sparring.harden(trained, data, "standard()", epochs=1, quiet=True) for data in given]
    for net in found[1:]:
        assert all(torch.equal(value, found[0].state_dict()[name]) for name, value in net.state_dict().items())


def test_a_mask_may_be_put_in_front(trained: nn.Module) -> None:
    net = sparring.harden(trained, "digits()", "masked(masks=(bit_depth(bits=3),))", epochs=1, quiet=True)
    assert isinstance(net, Masked)


def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a folder; without one it is said that nothing is kept."""

    def hardened(folder: Path | None) -> nn.Module:
        return sparring.harden(trained, "digits()", PGD, epochs=2, folder=folder, quiet=True)

    whole, steps = hardened(tmp_path / "whole"), []

    def stopping(_self: Monitor, _images: int) -> None:
        steps.append(1)
        if len(steps) == 7:
            threading.Thread(target=signal_interrupt).start()

    def signal_interrupt() -> None:
        import signal

        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr(Monitor, "step", stopping)
        with pytest.raises(StoppedError, match="can be resumed"):
            hardened(tmp_path / "broken")
        steps.clear()
        with pytest.raises(StoppedError, match=r"nothing is kept; with folder=\.\.\."):
            hardened(None)
    assert len(steps) < 20
    resumed = hardened(tmp_path / "broken")
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_another_training_does_not_go_on_in_a_folder(trained: nn.Module, tmp_path: Path) -> None:
    """Neither with other settings, nor from other weights, nor on other images."""
    x, y = load("digits()").train.images()[:50], load("digits()").train.y[:50]
    sparring.harden(trained, (x, y), "standard()", epochs=1, folder=tmp_path, quiet=True)
    sparring.harden(trained, (x, y), "standard()", epochs=1, folder=tmp_path, quiet=True)
    for net, data, epochs in ((trained, (x, y), 2), (Own(), (x, y), 1), (trained, (1 - x, y), 1)):
        with pytest.raises(InputError, match="another recipe; choose another"):
            sparring.harden(net, data, "standard()", epochs=epochs, folder=tmp_path, quiet=True)


def test_what_is_refused_leaves_a_folder_for_another_try(trained: nn.Module, tmp_path: Path) -> None:
    """It once left its settings there, by which the next call, with the fault mended, was refused."""
    given = load("digits()").train.images()[:50], load("digits()").train.y[:50]
    with pytest.raises(InputError, match="no layer 'boddy'"):
        sparring.harden(trained, given, "multi_task(layer='boddy')", epochs=1, folder=tmp_path / "new", quiet=True)
    assert not (tmp_path / "new").exists()
    sparring.harden(trained, given, "multi_task(layer='body')", epochs=1, folder=tmp_path / "new", quiet=True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"defence": "adversarail()"}, "did you mean 'adversarial'"),
        ({"epochs": -1}, "harden: epochs must be at least 0"),
        ({"batch_size": 0}, "harden: batch_size must be at least 1"),
        ({"optimiser": "adma()"}, "did you mean"),
        ({"seed": -1}, "harden: seed"),
        ({"device": "gpu"}, "device 'gpu' cannot be used here"),
        ({"model": Own(3)}, r"label \d of example \d+ is none of the model's 3 classes"),
        ({"model": "cnn()"}, "model"),
        (
            {"defence": "best_epoch(defence=standard(), threat=linf(0.1))"},
            r"needs images to choose by; give validation=\(x, y\)",
        ),
    ],
)
def test_what_cannot_be_used_ends_in_one_clear_line(arguments: dict[str, object], said: str) -> None:
    x, y = load("digits()").train.images()[:50], load("digits()").train.y[:50]
    fields = {"model": Own(), "data": (x, y), "defence": "standard()", "epochs": 1, "quiet": True, **arguments}
    with pytest.raises(InputError, match=said) as caught:
        sparring.harden(**fields)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_the_best_epoch_is_chosen_on_validation_images(trained: nn.Module) -> None:
    defence = f"best_epoch(defence={PGD}, threat=linf(0.1))"
    own = sparring.harden(trained, "digits()", defence, epochs=2, quiet=True)
    part = load("digits()").validation
    given = sparring.harden(trained, "digits()", defence, epochs=2, validation=(part.images(), part.y), quiet=True)
    assert all(torch.equal(value, own.state_dict()[name]) for name, value in given.state_dict().items())

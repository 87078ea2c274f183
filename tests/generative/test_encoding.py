"""An encoder that is trained for another run's decoder."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.core.trainable import Learner, Setup
from sparring.data import load
from sparring.generative import GENERATIVES, GenerativeNetwork
from sparring.generative.saved import load_generative
from sparring.recipe import Recipe, fit
from sparring.training.optimisers import Adam
from sparring.training.schedules import Constant

COMMON = {"data": "digits()", "optimiser": "adam(lr=0.003)", "batch_size": 64}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the runs "plain" and "told", of a GAN and a conditional one."""
    folder = tmp_path_factory.mktemp("runs")
    for name, conditional in (("plain", "false"), ("told", "true")):
        call = f"gan(latent=6, width=8, conditional={conditional})"
        fit(Recipe.of({**COMMON, "generative": call, "epochs": 5}), runs=folder, quiet=True).run.path.rename(
            folder / name
        )
    return folder


@pytest.fixture(autouse=True)
def at_hand(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs)


@pytest.mark.parametrize("name", ["plain", "told"])
def test_it_learns_to_tell_codes_and_leaves_the_decoder_alone(name: str, runs: Path, tmp_path: Path) -> None:
    recipe = Recipe.of({**COMMON, "generative": f"encoding(model='{name}', width=8)", "epochs": 6})
    fitted = fit(recipe, runs=tmp_path, quiet=True)
    before, after = load_generative(runs / name), fitted.model
    assert isinstance(after, GenerativeNetwork)
    assert not after.training
    for key, value in before.decoder.state_dict().items():
        assert torch.equal(after.decoder.state_dict()[key], value)
    epochs = [epoch.metrics for epoch in fitted.run.read_metrics()]
    assert epochs[-1]["code_error"] < 0.8 * epochs[0]["code_error"]
    assert epochs[-1]["pixel_error"] < 0.95 * epochs[0]["pixel_error"]
    z = after.draw(500, torch.Generator().manual_seed(0))
    y = torch.arange(500) % 10
    told = after.encode(after.decode(z, y), y).detach()
    assert float((told - z).square().mean()) < 0.8  # 1 without a clue
    x, labels = load("digits()").test.batch(torch.arange(200))
    again = after.decode(after.encode(x, labels), labels)
    blind = after.decode(torch.zeros(200, 6), labels)
    assert float((again - x).detach().square().mean()) < float((blind - x).detach().square().mean())


@pytest.mark.parametrize("at", [2, 8])
def test_it_goes_on_to_the_same_bits(at: int, same_after_a_break: Callable[[Recipe, int], None]) -> None:
    same_after_a_break(Recipe.of({**COMMON, "generative": "encoding(model='plain')", "epochs": 2, "limit": 320}), at)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("encoding(model='nowhere')", "^encoding: model: nowhere: there is no such file or folder$"),
        ("encoding(model='plain', width=0)", "width must be at least 1"),
        ("encoding(model='plain', pixels=-1)", "pixels is a weight of at least 0"),
    ],
)
def test_bad_input_ends_in_one_clear_line(call: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        fit(Recipe.of({**COMMON, "generative": call}), runs=tmp_path, quiet=True)


def test_images_of_another_shape_are_refused(tmp_path: Path) -> None:
    from sparring.data import Dataset

    digits = load("digits()")
    wide = {name: digits.split(name) for name in ("train", "validation", "test")}
    for name, part in wide.items():
        wide[name] = type(part)(torch.cat([part.x, part.x], 3), part.y, part.ids)
    with pytest.raises(InputError, match=r"plain is of 10 classes of images \(1, 8, 8\); .* has 10 of \(1, 8, 16\)"):
        fit(
            Recipe.of({**COMMON, "generative": "encoding(model='plain')"}),
            runs=tmp_path,
            quiet=True,
            dataset=Dataset(digits.source, digits.classes, **wide),
        )


def test_the_loss_is_its_formula_and_the_decoder_gets_no_gradient(runs: Path) -> None:
    model = GENERATIVES.parse("encoding(model='plain', width=8, pixels=7)")
    setup = Setup((1, 8, 8), 10, nn.Identity, lambda net: Learner(net, Adam().build(net), Constant()), runs)
    with seeded(0):
        state = model.init(setup)
    network, x = state.networks["whole"], load("digits()").train.batch(torch.arange(16))[0]
    assert isinstance(network, GenerativeNetwork)
    z = torch.randn(16, network.latent, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        assert network.encoder is not None
        told, codes = network.encoder.train()(torch.cat([network.decode(z), x]), torch.zeros(32, 0)).chunk(2)
        expected = (told - z).pow(2).mean() + 7 * (network.decode(codes) - x).pow(2).mean()
        expected = expected + ((codes.pow(2).mean(1) - 1) ** 2).mean()
    generator = torch.Generator().manual_seed(3)
    loss = model.step(state, x, torch.zeros(16).long(), progress=0, generator=generator)["loss"]
    assert torch.allclose(loss, expected, rtol=1e-4)
    assert all(p.grad is None and p.requires_grad for p in network.decoder.parameters())

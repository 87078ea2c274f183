"""Networks of other makes: their range, mean, size, channels and outputs, adapted at the edge."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sparring
from sparring.attacks import run
from sparring.core.errors import InputError
from sparring.models import adapt

MEAN, STD = (104.0, 117.0, 123.0), (1.0, 2.0, 4.0)


class Foreign(nn.Module):
    """Takes blue, green, red from 0 to 255, normalised, of 12x12, and gives what it likes."""

    def __init__(self, gives: str = "logits") -> None:
        super().__init__()
        self.last = nn.Linear(3 * 144, 4)
        self.gives = gives
        self.seen = torch.zeros(0)

    def forward(self, x: Tensor) -> object:
        self.seen = x
        logits = self.last(x.flatten(1) / 100)
        aux = torch.zeros(3)
        return {"logits": logits, "two": (aux, logits), "named": {"aux": aux, "out": logits}, "words": {"out": "no"}}[
            self.gives
        ]


def images() -> Tensor:
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_the_network_sees_what_it_wants() -> None:
    net = Foreign()
    model = adapt(net, mean=MEAN, std=STD, scale=255, size=(12, 12), order="bgr")
    x = images()
    model(x)
    large = F.interpolate(x, (12, 12), mode="bilinear", antialias=True)
    for place, (colour, mean, std) in enumerate(zip((2, 1, 0), MEAN, STD, strict=True)):
        assert torch.allclose(net.seen[:, place], (255 * large[:, colour] - mean) / std, atol=1e-3)
    plain = Foreign()
    adapt(plain, size=(12, 12))(large)
    assert torch.equal(plain.seen, large)


@pytest.mark.parametrize(("gives", "output"), [("logits", None), ("two", 1), ("two", -1), ("named", "out")])
def test_the_logits_are_found(gives: str, output: int | str | None) -> None:
    net = Foreign(gives)
    logits = adapt(net, size=(12, 12), output=output)(images())
    assert torch.equal(logits, net.last(net.seen.flatten(1) / 100))


@pytest.mark.parametrize(
    ("gives", "output", "said"),
    [
        ("two", None, "gives 2 things; say which"),
        ("two", 2, "gives 2 things"),
        ("named", None, "a dictionary of 'aux', 'out'; say which"),
        ("named", "logits", "a dictionary of 'aux', 'out'"),
        ("logits", 0, "gives one Tensor"),
        ("words", "out", "output 'out' is str, no tensor"),
    ],
)
def test_what_is_no_logits_is_said(gives: str, output: int | str | None, said: str) -> None:
    with pytest.raises(InputError, match=said):
        adapt(Foreign(gives), size=(12, 12), output=output)(images())


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"scale": 0}, "scale"),
        ({"std": (1, 0, 1)}, "std"),
        ({"mean": (0, float("nan"), 0)}, "mean"),
        ({"order": "grb"}, "order"),
    ],
)
def test_bad_settings_end_in_one_clear_line(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=f"adapt: {said}"):
        adapt(Foreign(), **fields)  # type: ignore[arg-type]  # one wrong thing each


def test_eps_is_of_the_images_that_come_in_and_the_mode_is_kept() -> None:
    model = adapt(Foreign().eval(), mean=MEAN, std=STD, scale=255, size=(12, 12), order="bgr")
    assert not model.training
    assert adapt(Foreign().train()).training
    x = images()
    y = model(x).argmax(1)
    outcome = run("fgsm()", model, x, y, "linf(8/255)")
    assert float((outcome.x - x).abs().max()) <= 8 / 255 + 1e-6
    assert sparring.evaluate(model, (x, y), "linf(8/255)", "fgsm()", curve=()).clean.value == 1

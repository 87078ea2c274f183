"""Networks of other makes: their range, mean, size, channels and outputs, adapted at the edge."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

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
        ("named", "logits", "has no output 'logits'; there are: aux, out"),
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
        ({"scale": float("inf")}, "scale"),
        ({"size": (0, 0)}, "size"),
        ({"size": 16}, "size"),
        ({"size": (16.0, 16.0)}, "size"),
        ({"mean": (0.5, 0.5), "std": (1, 1, 1)}, "mean has 2 values, std 3"),
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


class Named(NamedTuple):
    """What some networks give."""

    aux: Tensor
    logits: Tensor


class Holds(nn.Module):
    """Gives its logits in what `wraps` makes of them."""

    def __init__(self, wraps: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.last, self.wraps = nn.Linear(64, 4), wraps

    def forward(self, x: Tensor) -> object:
        return self.wraps(self.last(x.flatten(1)))


@pytest.mark.parametrize(
    "wraps", [lambda z: Named(z * 0, z), lambda z: SimpleNamespace(logits=z), lambda z: {"logits": z}]
)
def test_logits_are_found_by_name_in_whatever_has_it(wraps: Callable[[Tensor], object]) -> None:
    net, x = Holds(wraps), torch.rand(3, 1, 8, 8)
    assert torch.equal(adapt(net, output="logits")(x), net.last(x.flatten(1)))
    with pytest.raises(InputError, match=r"say which holds the logits|has no output 'no such'; there are: logits"):
        adapt(net, output="no such")(x)


def test_each_module_keeps_its_own_mode() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 4)).train()
    net[1].eval()
    model = adapt(net)
    assert [module.training for module in (model, net, net[1], net[3])] == [True, True, False, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_of_another_precision_gets_images_of_its_own_and_gives_float32(dtype: torch.dtype) -> None:
    net, x = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), torch.rand(3, 1, 8, 8)
    logits = adapt(net, mean=0.5, std=0.25)(x)
    found = adapt(net.to(dtype), mean=0.5, std=0.25)(x)
    assert found.dtype == torch.float32
    assert torch.allclose(found, logits, atol=0.05)


def test_what_is_subtracted_lies_where_the_network_does() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).to("meta")
    model = adapt(net, mean=0.5)
    assert model.mean.device.type == "meta"
    assert model(torch.empty(2, 1, 8, 8, device="meta")).shape == (2, 4)


def test_as_many_means_as_channels_or_one_and_grey_images_go_to_all() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with pytest.raises(InputError, match="mean has 2 values, and the images 3 channels"):
        adapt(net, mean=(0.5, 0.5))(torch.rand(2, 3, 8, 8))
    grey = torch.rand(2, 1, 8, 8)
    assert torch.equal(adapt(net, mean=MEAN, std=STD)(grey), adapt(net, mean=MEAN, std=STD)(grey.expand(-1, 3, -1, -1)))


def test_what_adapt_refuses_reaches_the_user_of_an_evaluation_as_it_is() -> None:
    with pytest.raises(InputError, match=r"^adapt: the network gives 2 things"):
        sparring.evaluate(
            adapt(Foreign("two"), size=(12, 12)), (images(), torch.zeros(5).long()), "linf(0.1)", "fgsm()"
        )

"""What cannot be attacked or evaluated is refused in one clear line that names the argument, and nothing is changed."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sparring import InputError, evaluate, run
from sparring.models import adapt

ATTACK = "pgd(steps=2)"
THREAT = "linf(0.1)"


def refusal(act: Callable[[], object], *names: str) -> str:
    """Give the message; it must be one line of a bearable length, and say each of `names`."""
    with pytest.raises(InputError) as caught:
        act()
    message = str(caught.value)
    assert "\n" not in message
    assert 10 < len(message) < 300
    for name in names:
        assert name in message, message
    return message


class Returns(nn.Module):
    """A network whose logits go through a function of (images, logits)."""

    def __init__(self, net: nn.Module, change: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.net, self.change = net, change

    def forward(self, x: Tensor) -> Any:
        return self.change(x, self.net(x))


class Bare(nn.Module):
    """A model that returns a function of the images, and has no parameters."""

    def __init__(self, function: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


# ------------------------------------------------------------------------------------------------------------- images


def spoil(x: Tensor, value: float) -> Tensor:
    x = x.clone()
    x[3, 0, 2, 2] = value
    return x


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -1e-6, 1.001, 255.0])
def test_pixels_outside_0_to_1_are_refused_with_their_example(
    value: float, net: nn.Module, data: SimpleNamespace
) -> None:
    x = spoil(data.x, value)
    assert refusal(lambda: run(ATTACK, net, x, data.y, THREAT), "x[3]", "[0, 1]")
    assert refusal(lambda: evaluate(net, (x, data.y), THREAT, [ATTACK]), "example 3")


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.long(),
        lambda x: (x * 255).to(torch.uint8),
        lambda x: x > 0.5,
        lambda x: x.to(torch.complex64),
        lambda x: x[0],
        lambda x: x[:, 0],
        lambda x: x.flatten(1),
        lambda x: x[None],
        lambda x: x[:0],
        lambda x: x.squeeze(),
    ],
    ids=["int64", "uint8", "bool", "complex", "one image", "no channel", "flat", "5-D", "none", "3-D"],
)
def test_images_of_the_wrong_kind_are_refused_by_run(
    change: Callable[[Tensor], Tensor], net: nn.Module, data: SimpleNamespace
) -> None:
    x = change(data.x)
    refusal(lambda: run(ATTACK, net, x, data.y[: len(x)], THREAT), "x: ", "(N, C, H, W)")


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.long(),
        lambda x: x > 0.5,
        lambda x: x[:, 0],
        lambda x: x.flatten(1),
        lambda x: x[None],
        lambda x: x[:0],
        lambda x: x[..., :0],
    ],
    ids=["int64", "bool", "no channel", "flat", "5-D", "none", "no pixels"],
)
def test_images_of_the_wrong_kind_are_refused_by_evaluate(
    change: Callable[[Tensor], Tensor], net: nn.Module, data: SimpleNamespace
) -> None:
    x = change(data.x)
    refusal(lambda: evaluate(net, (x, data.y[: len(x)]), THREAT, [ATTACK]), "given tensors")


def test_evaluate_takes_8_bit_images_as_they_are(net: nn.Module, data: SimpleNamespace) -> None:
    pixels = (data.x * 255).round().to(torch.uint8)
    found = evaluate(net, (pixels, data.y), THREAT, [ATTACK], curve=())
    same = evaluate(net, (pixels.float() / 255, data.y), THREAT, [ATTACK], curve=())
    assert found.robust == same.robust


def test_images_without_pixels_are_refused_by_run(net: nn.Module, data: SimpleNamespace) -> None:
    refusal(lambda: run(ATTACK, net, data.x[..., :0], data.y, THREAT), "x: ")


@pytest.mark.parametrize("name", ["x", "y", "target"])
def test_arrays_and_lists_that_are_no_tensors_are_refused(name: str, net: nn.Module, data: SimpleNamespace) -> None:
    given = {"x": data.x, "y": data.y, "target": data.wrong}
    for other in (given[name].numpy(), given[name].tolist(), None):
        if name == "target" and other is None:
            continue
        call = given | {name: other}
        refusal(lambda call=call: run(ATTACK, net, call["x"], call["y"], THREAT, target=call["target"]), name)


# ------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y.float(),
        lambda y: y.int(),
        lambda y: y[:-1],
        lambda y: torch.cat([y, y]),
        lambda y: y[:, None],
        lambda y: nn.functional.one_hot(y),
        lambda y: y[0],
        lambda y: y[:0],
    ],
    ids=["float", "int32", "short", "long", "column", "one-hot", "scalar", "none"],
)
def test_labels_and_targets_of_the_wrong_kind_are_refused_by_run(
    change: Callable[[Tensor], Tensor], net: nn.Module, data: SimpleNamespace
) -> None:
    refusal(lambda: run(ATTACK, net, data.x, change(data.y), THREAT), "y: ", "(8,)")
    refusal(lambda: run(ATTACK, net, data.x, data.y, THREAT, target=change(data.wrong)), "target: ", "(8,)")


@pytest.mark.parametrize(
    "change",
    [lambda y: y + 0.5, lambda y: y[:-1], lambda y: y[:, None], lambda y: nn.functional.one_hot(y), lambda y: -y - 1],
    ids=["halves", "short", "column", "one-hot", "negative"],
)
def test_labels_of_the_wrong_kind_are_refused_by_evaluate(
    change: Callable[[Tensor], Tensor], net: nn.Module, data: SimpleNamespace
) -> None:
    refusal(lambda: evaluate(net, (data.x, change(data.y)), THREAT, [ATTACK]), "label")


@pytest.mark.parametrize("label", [5, 99, -1])
@pytest.mark.parametrize("batch_size", [250, 2])
def test_labels_and_targets_that_are_no_class_are_refused_by_their_place_in_the_whole(
    label: int, batch_size: int, net: nn.Module, data: SimpleNamespace
) -> None:
    bad = data.y.clone()
    bad[5] = label
    refusal(lambda: run(ATTACK, net, data.x, bad, THREAT, batch_size=batch_size), f"y[5] is {label}", "classes 0 to 4")
    target = data.wrong.clone()
    target[5] = label
    refusal(
        lambda: run(ATTACK, net, data.x, data.y, THREAT, target=target, batch_size=batch_size), f"target[5] is {label}"
    )
    refusal(lambda: evaluate(net, (data.x, bad), THREAT, [ATTACK]), str(label))


@pytest.mark.parametrize("ids", [torch.arange(3), torch.arange(20), torch.rand(8), torch.zeros(8, 1).long()])
def test_ids_that_do_not_number_the_examples_are_refused(ids: Tensor, net: nn.Module, data: SimpleNamespace) -> None:
    refusal(lambda: run(ATTACK, net, data.x, data.y, THREAT, ids=ids), "ids")


# ---------------------------------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize("batch_size", [0, -1])
def test_an_impossible_batch_size_is_refused(batch_size: int, net: nn.Module, data: SimpleNamespace) -> None:
    refusal(lambda: run(ATTACK, net, data.x, data.y, THREAT, batch_size=batch_size), "batch_size", str(batch_size))
    refusal(lambda: evaluate(net, (data.x, data.y), THREAT, [ATTACK], batch_size=batch_size), "batch_size")


@pytest.mark.parametrize(
    ("attack", "threat", "said"),
    [
        ("pdg()", THREAT, "did you mean 'pgd'"),
        (ATTACK, "linf(8)", "did you mean linf(8/255)"),
        (ATTACK, "linf", "argument 'eps' is missing"),
        (ATTACK, "loo(0.1)", "unknown threat model 'loo'"),
        (ATTACK, 0.1, "threat model: expected a call string"),
        (ATTACK, None, "threat model: expected a call string"),
        (3, THREAT, "attack"),
        (None, THREAT, "attack"),
    ],
)
def test_an_attack_or_a_threat_that_does_not_exist_is_refused(
    attack: Any, threat: Any, said: str, net: nn.Module, data: SimpleNamespace
) -> None:
    refusal(lambda: run(attack, net, data.x, data.y, threat), said)
    refusal(lambda: evaluate(net, (data.x, data.y), threat, [attack]), said)


def test_one_attack_that_is_no_list_is_taken_as_one_or_refused_as_such(net: nn.Module, data: SimpleNamespace) -> None:
    try:
        found = evaluate(net, (data.x, data.y), THREAT, ATTACK, curve=())
    except InputError as error:
        message = str(error)
    else:
        message = "attacks" if len(found.attacked) == 1 else ""
    assert "attacks" in message, message


@pytest.mark.parametrize("examples", [0, -3])
def test_an_impossible_number_of_examples_is_refused(examples: int, net: nn.Module, data: SimpleNamespace) -> None:
    refusal(lambda: evaluate(net, (data.x, data.y), THREAT, [ATTACK], examples=examples), "examples")


@pytest.mark.parametrize(
    "given",
    [
        None,
        3,
        torch.rand(3, 1, 6, 6),
        (torch.rand(3, 1, 6, 6),),
        (torch.rand(3, 1, 6, 6), [0, 1, 2]),
        (np.zeros((3, 1, 6, 6)), np.zeros(3)),
        "no_such_data()",
        DataLoader(TensorDataset(torch.rand(3, 1, 6, 6))),
    ],
    ids=["none", "number", "images only", "one", "list", "numpy", "name", "loader without labels"],
)
def test_data_of_the_wrong_kind_is_refused(given: Any, net: nn.Module) -> None:
    refusal(lambda: evaluate(net, given, THREAT, [ATTACK]))


def test_an_eps_of_the_curve_that_cannot_be_is_refused(net: nn.Module, data: SimpleNamespace) -> None:
    refusal(lambda: evaluate(net, (data.x, data.y), THREAT, [ATTACK], curve=(-0.1,)), "eps")


@pytest.mark.parametrize("threat", ["linf(0.5)", "linf(0.7)", "linf(0.9)", "linf(1)"])
def test_a_large_eps_gets_a_curve_too(threat: str, net: nn.Module, data: SimpleNamespace) -> None:
    found = evaluate(net, (data.x, data.y), threat, [ATTACK])
    eps = [point.eps for point in found.curves[0].points]
    assert max(eps) <= 1
    assert float(threat[5:-1]) in eps


# ------------------------------------------------------------------------------------------------------------- models


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x, z: (z, x), "tuple"),
        (lambda x, z: {"logits": z}, "dict"),
        (lambda x, z: z.tolist(), "list"),
        (lambda x, z: None, "NoneType"),
        (lambda x, z: z[:, 0], "(8,)"),
        (lambda x, z: z.sum(), "()"),
        (lambda x, z: z[None], "(1, 8, 5)"),
        (lambda x, z: z[:-1], "(7, 5)"),
        (lambda x, z: torch.cat([z, z]), "(16, 5)"),
        (lambda x, z: z.T, "(5, 8)"),
        (lambda x, z: z[:, :1], "(8, 1)"),
        (lambda x, z: z[:, :0], "(8, 0)"),
    ],
    ids=["tuple", "dict", "list", "none", "1-D", "scalar", "3-D", "short", "long", "turned", "one class", "no class"],
)
def test_a_model_that_gives_no_logits_is_refused(
    change: Callable[[Tensor, Tensor], Any], said: str, net: nn.Module, data: SimpleNamespace
) -> None:
    model = Returns(net, change)
    refusal(lambda: run(ATTACK, model, data.x, data.y, THREAT), "the model returns", said)
    refusal(lambda: evaluate(model, (data.x, data.y), THREAT, [ATTACK]), "the model returns", said)


def test_a_function_that_is_no_module_is_refused_with_a_hint(net: nn.Module, data: SimpleNamespace) -> None:
    refusal(lambda: run(ATTACK, lambda x: net(x), data.x, data.y, THREAT), "model", "Module")
    refusal(lambda: evaluate(lambda x: net(x), (data.x, data.y), THREAT, [ATTACK]), "model", "Module")


@pytest.mark.parametrize(
    "model",
    [
        lambda net: Returns(net, lambda x, z: z.detach()),
        lambda net: Returns(net, lambda x, z: torch.from_numpy(z.detach().numpy())),
        lambda net: Returns(net, lambda x, z: z.round().detach()),
        lambda net: Bare(lambda x: net(x.detach())),
        lambda net: Bare(lambda x: net(x.detach()) * torch.ones(5, requires_grad=True)),
        lambda net: Returns(net, lambda x, z: (z * 10).round().long()),
    ],
    ids=["detached", "numpy", "rounded", "images detached", "with a tensor of its own", "whole numbers"],
)
@pytest.mark.parametrize("attack", [ATTACK, "fgsm()"])
def test_a_model_without_a_gradient_is_refused_by_an_attack_that_needs_one(
    model: Callable[[nn.Module], nn.Module], attack: str, net: nn.Module, data: SimpleNamespace
) -> None:
    refusal(lambda: run(attack, model(net), data.x, data.y, THREAT), "gradient", "model")
    verdict = evaluate(model(net), (data.x, data.y), THREAT, [attack], curve=())
    assert verdict.detected  # an evaluation finds it out, and passes by it or says that it cannot be trusted
    assert verdict.detected == ("gradients cut off",) or not verdict.trustworthy


@pytest.mark.parametrize("message", ["", "one line", "two\nlines", "x" * 5000])
def test_a_model_that_fails_on_the_images_is_refused_with_its_first_line(
    message: str, net: nn.Module, data: SimpleNamespace
) -> None:
    def fail(x: Tensor, z: Tensor) -> Tensor:
        raise RuntimeError(message)

    refusal(lambda: run(ATTACK, Returns(net, fail), data.x, data.y, THREAT), "the model")
    refusal(lambda: evaluate(Returns(net, fail), (data.x, data.y), THREAT, [ATTACK]), "the model")


@pytest.mark.parametrize("shape", [(3, 6, 6), (1, 7, 7)], ids=["channels", "size"])
def test_images_that_the_model_cannot_take_are_refused_with_their_shape(
    shape: tuple[int, int, int], net: nn.Module, data: SimpleNamespace
) -> None:
    x = torch.rand(8, *shape)
    refusal(lambda: run(ATTACK, net, x, data.y, THREAT), "model", str((8, *shape)))
    refusal(lambda: evaluate(net, (x, data.y), THREAT, [ATTACK]), "model", str((8, *shape)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_in_another_precision_than_the_images_is_refused(
    dtype: torch.dtype, net: nn.Module, data: SimpleNamespace
) -> None:
    model = net.to(dtype)
    refusal(lambda: run(ATTACK, model, data.x, data.y, THREAT), "model", "float32")
    refusal(lambda: evaluate(model, (data.x, data.y), THREAT, [ATTACK]), "model", "float32")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 8 / 255), ("l2", 0.5), ("l1", 2.0)])
def test_images_in_half_precision_are_attacked_within_the_ball_or_refused(
    norm: str, eps: float, dtype: torch.dtype, net: nn.Module, data: SimpleNamespace
) -> None:
    x = data.x.to(dtype)
    try:
        found = run("pgd(steps=5)", net.to(dtype), x, data.y, f"{norm}({eps})")
    except InputError as error:
        message = str(error)
    else:
        delta = (found.x.double() - x.double()).flatten(1)
        length = torch.linalg.vector_norm(delta, ord={"linf": float("inf"), "l2": 2, "l1": 1}[norm], dim=1)
        message = "x: in the ball" if length.max() <= eps * (1 + 1e-5) else f"{float(length.max())} is outside"
    assert message.startswith("x: ")


def test_a_model_that_half_way_changes_its_number_format_is_judged_in_float32(
    net: nn.Module, data: SimpleNamespace
) -> None:
    model = Returns(net, lambda x, z: z.to(torch.bfloat16))
    found = run(ATTACK, model, data.x, data.y, THREAT)
    assert found.logits.dtype == torch.float32
    with torch.no_grad():
        assert torch.equal(found.success, model(found.x).float().argmax(1) != data.y)


def test_nothing_is_changed_by_what_is_refused(net: nn.Module, data: SimpleNamespace) -> None:
    net.train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    state = torch.get_rng_state()
    bad = data.y.clone()
    bad[7] = 99
    refusal(lambda: run(ATTACK, net, data.x, bad, THREAT, batch_size=3))
    refusal(lambda: run(ATTACK, Returns(net, lambda x, z: z.detach()), data.x, data.y, THREAT))
    assert [module.training for module in net.modules()] == modes
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_under_inference_mode_an_attack_works_or_says_so(net: nn.Module, data: SimpleNamespace) -> None:
    expected = run(ATTACK, net, data.x, data.y, THREAT)
    with torch.inference_mode():
        try:
            found = run(ATTACK, net, data.x, data.y, THREAT)
        except InputError as error:
            assert "inference_mode" in str(error)  # noqa: PT017  # either end is right
        else:
            assert torch.equal(found.x, expected.x)


@pytest.mark.parametrize("kind", [AssertionError, ValueError, TypeError, IndexError, RuntimeError])
def test_a_model_that_refuses_the_images_is_named(kind: type[Exception], data: SimpleNamespace) -> None:
    def refuse(x: Tensor) -> Tensor:
        raise kind("wants 224 pixels")

    assert refusal(lambda: evaluate(Bare(refuse), (data.x, data.y), THREAT, [ATTACK]), "the model fails", "wants 224")


def test_an_attack_that_was_not_made_is_refused(net: nn.Module, data: SimpleNamespace) -> None:
    from sparring.attacks import PGD

    assert refusal(lambda: evaluate(net, (data.x, data.y), THREAT, PGD), "make one: PGD()")
    assert refusal(lambda: run(PGD, net, data.x, data.y, THREAT), "make one: PGD()")


# -------------------------------------------------------------------------------------------------- what helps is named


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.double])
def test_a_network_of_another_precision_is_told_what_cures_it(dtype: torch.dtype) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 5)).to(dtype).eval()
    x, y = torch.rand(4, 1, 6, 6), torch.arange(4)
    refusal(lambda: run(ATTACK, net, x, y, THREAT), "; sparring.models.adapt(net) gives")
    assert len(run(ATTACK, adapt(net), x, y, THREAT).success) == 4  # and it does


def test_images_with_their_channels_last_are_told_how_they_are_turned() -> None:
    net, x = nn.Sequential(nn.Conv2d(3, 5, 6), nn.Flatten()).eval(), torch.rand(4, 6, 6, 3)
    refusal(lambda: run(ATTACK, net, x, torch.arange(4), THREAT), "x.permute(0, 3, 1, 2)")
    assert len(run(ATTACK, net, x.permute(0, 3, 1, 2), torch.arange(4), THREAT).success) == 4
    message = refusal(lambda: run(ATTACK, net, torch.rand(4, 1, 6, 6), torch.arange(4), THREAT), "the model fails")
    assert "permute" not in message


def test_several_outputs_are_told_how_one_is_chosen(net: nn.Module, data: SimpleNamespace) -> None:
    named = Returns(net, lambda _, logits: {"loss": logits.sum(), "logits": logits})
    pair = Returns(net, lambda _, logits: (logits, logits))
    refusal(lambda: run(ATTACK, pair, data.x, data.y, THREAT), "sparring.models.adapt(net, output=0)")
    refusal(lambda: run(ATTACK, named, data.x, data.y, THREAT), "adapt(net, output=...), one of 'loss', 'logits'")
    wrong = adapt(named, output="logit")
    refusal(lambda: run(ATTACK, wrong, data.x, data.y, THREAT), "has no output 'logit'; did you mean 'logits'?")

"""What is special to transfer: the victim is asked nothing, the surrogate stays as it was, what runs is prepared."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sparring import InputError, run
from sparring.attacks import ATTACKS, MIFGSM, PGD, Oracle, Square, Transfer, Universal, craft, prepared
from sparring.core.threat import THREATS

LINF = THREATS.parse("linf(0.1)")


@pytest.fixture
def twin(make_net: Callable) -> nn.Module:
    """Give a network like that of these tests, of other weights."""
    return make_net(seed=7)


class Watched(nn.Module):
    """Another network; counts its rows, and refuses to be differentiated."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.rows = net, 0

    def forward(self, x: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.rows += len(x)
        return self.net(x)


class Noisy(nn.Module):
    """A mask of random noise, which counts its rows."""

    adaptive = frozenset({"eot"})

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return x + 0.01 * torch.randn_like(x)


@pytest.mark.parametrize("attack", [PGD(steps=5), MIFGSM(steps=5), Square(queries=20)])
def test_nothing_is_asked_of_the_victim(
    attack: PGD | Square, net: nn.Module, twin: nn.Module, data: SimpleNamespace
) -> None:
    victim = Watched(net)
    found = run(Transfer.of(twin, attack=attack), victim, data.x, data.y, "linf(0.2)")
    assert victim.rows == 2 * len(data.x)  # once clean, and once for the judge
    assert not found.forwards.any()
    assert not found.backwards.any()
    assert not torch.equal(found.x, data.x)


@pytest.mark.parametrize("spec", ["pgd(steps=5)", "pgd(steps=3, restarts=2)", "uniform_noise()", "targeted(steps=5)"])
def test_from_the_victim_itself_come_the_images_of_the_attack(spec: str, net: nn.Module, data: SimpleNamespace) -> None:
    attack = ATTACKS.parse(spec)
    found = run(Transfer.of(net, attack=attack), net, data.x, data.y, LINF, seed=3)
    assert torch.equal(found.x, craft(attack, net, data.x, data.y, LINF, seed=3))
    with torch.no_grad():
        assert torch.equal(found.success, net(found.x).argmax(1) != data.y)


def test_the_verdict_on_the_victim_itself_is_that_of_the_attack(net: nn.Module, data: SimpleNamespace) -> None:
    for eps in (0.02, 0.1, 0.3):
        threat = f"linf({eps})"
        plain, moved = (run(a, net, data.x, data.y, threat) for a in (PGD(), Transfer.of(net, attack=PGD())))
        assert torch.equal(plain.success, moved.success)


def test_images_go_on_past_the_surrogates_boundary(twin: nn.Module, net: nn.Module, data: SimpleNamespace) -> None:
    with torch.no_grad():
        y = twin(data.x).argmax(1)
    threat = THREATS.parse("linf(0.5)")
    found = Transfer.of(twin, attack=PGD(steps=20)).perturb(Oracle(net, torch.arange(8)), data.x, y, threat)
    just_fooled = run(PGD(steps=20), twin, data.x, y, threat)
    with torch.no_grad():
        far, near = (nn.functional.cross_entropy(twin(x), y) for x in (found, just_fooled.x))
    assert far > near + 0.5


def test_towards_a_target(twin: nn.Module, data: SimpleNamespace) -> None:
    target = (data.y + 1) % 5
    found = run(Transfer.of(twin, attack=PGD()), twin, data.x, data.y, "linf(0.7)", target=target)
    assert found.success.all()


# ----------------------------------------------------------------------------------------------------- the surrogate


@pytest.mark.parametrize("fails", [False, True])
def test_the_surrogate_is_as_it_was(fails: bool, net: nn.Module, make_net: Callable, data: SimpleNamespace) -> None:
    twin = make_net(seed=7).train()
    twin[1].eval()
    first = next(twin.parameters())
    first.requires_grad_(False)
    first.grad = torch.ones_like(first)
    before = {k: v.clone() for k, v in twin.state_dict().items()}
    modes = [m.training for m in twin.modules()]
    if fails:
        twin[-1].register_forward_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(Transfer.of(twin, attack=PGD(steps=2)), net, data.x, data.y, LINF)
    else:
        run(Transfer.of(twin, attack=PGD(steps=2)), net, data.x, data.y, LINF)
    assert modes == [m.training for m in twin.modules()]
    assert all(torch.equal(v, before[k]) for k, v in twin.state_dict().items())
    assert [p.requires_grad for p in twin.parameters()] == [False] + [True] * (len(list(twin.parameters())) - 1)
    assert all(p.grad is None for p in list(twin.parameters())[1:])
    assert torch.equal(first.grad, torch.ones_like(first))


def test_a_random_surrogate_is_averaged_over_draws_and_the_victim_is_not(
    net: nn.Module, make_net: Callable, data: SimpleNamespace
) -> None:
    noisy, victim = Noisy(), Watched(net)
    run(Transfer.of(nn.Sequential(noisy, make_net(seed=7)), attack=PGD(steps=3)), victim, data.x, data.y, LINF)
    assert noisy.rows == 3 * 20 * len(data.x) + 1  # and one image to see how many classes it knows
    assert victim.rows == 2 * len(data.x)


def test_what_does_not_fit_is_refused_in_one_line(net: nn.Module, make_net: Callable, data: SimpleNamespace) -> None:
    attack = Transfer(surrogate="runs/twin", attack=PGD())
    with pytest.raises(InputError, match="'runs/twin' is not opened"):
        run(attack, net, data.x, data.y, LINF)
    few = make_net(classes=2)
    with pytest.raises(InputError, match=r"transfer: on the surrogate, target\[0\] is 4, .* has classes 0 to 1"):
        run(attack.with_model(few), net, data.x, data.y % 2, LINF, target=torch.full((8,), 4))
    large = make_net(shape=(1, 9, 9))
    with pytest.raises(InputError, match="fails on"):
        run(attack.with_model(large), net, data.x, data.y, LINF)
    with pytest.raises(InputError, match="targeted: attacks in linf, not in l2"):
        run(Transfer.of(net, attack=ATTACKS.parse("targeted()")), net, data.x, data.y, "l2(0.5)")
    with pytest.raises(InputError, match="argument 'surrogate' is missing"):
        ATTACKS.parse("transfer()")
    with pytest.raises(InputError, match="unknown argument 'model'"):
        ATTACKS.parse("transfer(surrogate='runs/twin', attack=pgd(), model=3)")


def test_the_open_surrogate_is_no_part_of_the_call_string(twin: nn.Module) -> None:
    named = ATTACKS.parse("transfer(surrogate='runs/twin', attack=mifgsm(steps=3))")
    assert isinstance(named, Transfer)
    opened = named.with_model(twin)
    assert opened.model is twin
    assert named.model is None
    assert repr(opened) == repr(named) == "transfer(surrogate='runs/twin', attack=mifgsm(steps=3, decay=1.0))"
    assert opened == named
    assert hash(opened) == hash(named)
    assert Transfer.of(twin, attack=MIFGSM(steps=3), name="runs/twin") == named


# -------------------------------------------------------------------------------------------------------- preparation


def test_surrogates_are_opened_by_name_however_deep_and_only_where_needed(
    net: nn.Module, twin: nn.Module, data: SimpleNamespace
) -> None:
    asked = []

    def load(name: str) -> nn.Module:
        asked.append(name)
        return twin

    def never() -> tuple[Tensor, Tensor]:
        raise AssertionError

    deep = ATTACKS.parse("transfer(surrogate='one', attack=transfer(surrogate='two', attack=pgd(steps=2)))")
    ready = prepared(deep, net, LINF, examples=never, load=load)
    assert asked == ["one", "two"]
    assert ready == deep
    assert torch.equal(
        run(ready, net, data.x, data.y, LINF).x,
        run(Transfer.of(twin, attack=PGD(steps=2)), net, data.x, data.y, LINF).x,
    )
    opened = Transfer.of(net, attack=Universal(epochs=1).fit(net, data.x, data.y, LINF))
    for plain in (PGD(), opened):
        assert prepared(plain, net, LINF, examples=never, load=lambda _: 1 / 0) == plain
    again = prepared(opened, twin, LINF, examples=never, load=load)
    assert again.model is net
    assert again.attack.delta is opened.attack.delta


def test_what_learns_inside_a_transfer_learns_from_the_surrogate(
    net: nn.Module, twin: nn.Module, data: SimpleNamespace
) -> None:
    spec = "transfer(surrogate='twin', attack=universal(epochs=2, minibatch=4))"
    victim = Watched(net)
    ready = prepared(ATTACKS.parse(spec), victim, LINF, examples=lambda: (data.x, data.y), load=lambda _: twin)
    assert victim.rows == 0
    expected = Universal(epochs=2, minibatch=4).fit(twin, data.x, data.y, LINF)
    assert torch.equal(ready.attack.delta, expected.delta)
    assert torch.equal(run(ready, net, data.x, data.y, LINF).x, run(expected, net, data.x, data.y, LINF).x)


def test_a_minimal_attack_is_refused_for_it_goes_no_further_than_one_models_boundary() -> None:
    with pytest.raises(InputError, match="takes an attack that goes as far as eps lets it, not deepfool"):
        ATTACKS.parse("transfer(surrogate='twin', attack=deepfool())")

"""The engine under every attack: the active set, the ledger, budgets, precision, EOT, BPDA, branches, warm starts."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sparring.attacks.active
from sparring import run
from sparring.attacks import PGD, Crafting, Oracle, bpda
from sparring.attacks.active import Closest, Worst
from sparring.attacks.adaptation import EOT_DRAWS
from sparring.attacks.crafting import suitable_batch
from sparring.attacks.deepfool import _Boundaries, _leads, _pick
from sparring.attacks.first_layer import quick_input_gradients
from sparring.attacks.freezing import frozen
from sparring.attacks.losses import likeliest
from sparring.attacks.oracle import OutOfPasses, finite, pooled
from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.core.threat import THREATS
from sparring.models.adaptive import adaptation

LINF, L2 = THREATS.parse("linf(0.1)"), THREATS.parse("l2(inf)")


class Watching(nn.Module):
    """Counts the rows that another model sees, and whether autocast was on."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.rows: list[int] = []
        self.low: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        self.low.append(torch.is_autocast_enabled("cpu"))
        return self.net(x)


# ------------------------------------------------------------------------------------------------ the active set


@pytest.mark.parametrize("spec", ["pgd(steps=10, restarts=3)", "pgd(steps=10, restarts=2, loss='margin')"])
@pytest.mark.parametrize("threat", ["linf(0.03)", "l2(0.3)"])
def test_when_finished_examples_leave_changes_neither_verdicts_nor_images_nor_the_ledger(
    spec: str, threat: str, net: nn.Module, make_data: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, found, seen = make_data(net, 60), [], []
    for worth in (10**9, 16, 2, 1):  # at once, ..., only when all are finished
        monkeypatch.setattr(sparring.attacks.active, "WORTH", worth)
        model = Watching(net)
        found.append(run(spec, model, data.x, data.y, threat))
        seen.append(sum(model.rows))
    assert 0.1 < found[0].success.float().mean() < 0.9
    for other in found[1:]:
        assert torch.equal(other.success, found[0].success)
        assert torch.equal(other.forwards, found[0].forwards)
        assert torch.equal(other.backwards, found[0].backwards)
        assert torch.allclose(other.x, found[0].x, atol=1e-5)
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]
    alone = run(spec, net, data.x, data.y, threat, batch_size=1)
    assert torch.equal(alone.forwards, found[1].forwards)


def test_a_finished_example_that_lingers_is_neither_charged_nor_overwritten(
    net: nn.Module, data: SimpleNamespace
) -> None:
    x, y = data.x.repeat(5, 1, 1, 1), data.y.repeat(5)
    oracle = Oracle(net, torch.arange(40))
    active = Worst(oracle, x, y, None, stop=True)
    fooled_logits, right_logits = F.one_hot((y + 1) % 5, 5).float(), F.one_hot(y, 5).float()
    with frozen(net):
        oracle.logits(x)
        first = torch.where((torch.arange(40) == 7)[:, None], fooled_logits, right_logits)
        assert active.record(x + 1, torch.zeros(40), first) is None  # one in forty does not pay
        oracle.logits(x)
        assert active.record(x + 2, torch.ones(40), right_logits) is None
    assert oracle.forwards.tolist() == [1 if i == 7 else 2 for i in range(40)]
    assert torch.equal(active.worst[7], x[7] + 1)
    assert torch.equal(active.worst[8], x[8] + 2)
    active.purge()
    assert len(active) == 39
    assert torch.equal(active.worst[7], x[7] + 1)


def test_the_closest_image_is_kept_and_under_a_finite_eps_the_first_within_it_ends_the_example() -> None:
    x, y = torch.full((2, 1, 1, 1), 0.5), torch.zeros(2).long()
    net = nn.Identity()
    fooled, right = torch.tensor([[0.0, 1.0]] * 2), torch.tensor([[1.0, 0.0]] * 2)
    for eps, ends in ((math.inf, False), (0.2, True)):
        closest = Closest(Oracle(net, torch.arange(2)), x, y, THREATS.parse(f"linf({eps})"), None, stop=True)
        for step, logits in ((0.4, fooled), (0.3, fooled), (0.35, fooled), (0.25, right)):
            assert closest.record(x + step, logits)[1] is None
        assert closest.distance.tolist() == pytest.approx([0.3, 0.3])
        kept = closest.record(x + torch.tensor([0.15, 0.22]).view(2, 1, 1, 1), fooled)[1]
        assert closest.distance.tolist() == pytest.approx([0.15, 0.22])
        assert closest.best.flatten().tolist() == pytest.approx([0.65, 0.72])
        assert (kept is not None and kept.tolist() == [False, True]) == ends


def test_an_image_that_fools_by_rounding_alone_is_kept_only_while_there_is_no_other() -> None:
    """Its success would depend on how the judge's batch is rounded; it ends no example either."""
    x, y = torch.full((2, 1, 1, 1), 0.5), torch.zeros(2).long()
    closest = Closest(Oracle(nn.Identity(), torch.arange(2)), x, y, THREATS.parse("linf(0.4)"), None, stop=True)
    hair, lead = torch.tensor([[1.0, 1 + 2e-6, 0.0]] * 2), torch.tensor([[1.0, 1.1, 0.0]] * 2)
    assert closest.record(x + 0.1, hair)[1] is None
    assert closest.distance.tolist() == pytest.approx([0.1, 0.1])
    fooled, kept = closest.record(x + torch.tensor([0.3, 0.45]).view(2, 1, 1, 1), lead)
    assert fooled.all()
    assert closest.distance.tolist() == pytest.approx([0.3, 0.45])
    assert kept is not None
    assert kept.tolist() == [False, True]
    closest.record(x[1:] + 0.05, hair[1:])
    assert closest.distance.tolist() == pytest.approx([0.3, 0.45])


# ------------------------------------------------------------------------------------------------------- budgets


class Slope(nn.Module):
    """Fooled when the mean grey exceeds a threshold that the last pixel gives."""

    def forward(self, x: Tensor) -> Tensor:
        grey, threshold = x[:, 0, 0, :-1].mean(1), x[:, 0, 0, -1].detach()
        return torch.stack([threshold, grey], dim=1)


def test_a_budget_is_hard_and_what_was_found_before_it_ended_counts() -> None:
    x = torch.zeros(3, 1, 1, 5)
    x[:, 0, 0, -1] = torch.tensor([0.05, 0.25, 0.75])  # fooled after 1, 3 and 8 steps of 0.1
    attack = PGD(steps=12, rel_step_size=0.1, random_start=False)
    whole = run(attack, Slope(), x, torch.zeros(3).long(), "linf(1)")
    assert whole.success.all()
    assert whole.forwards.tolist() == [2, 4, 9]
    short = run(attack, Slope(), x, torch.zeros(3).long(), "linf(1)", crafting=Crafting(max_forwards=5))
    assert short.success.tolist() == [True, True, False]
    assert short.forwards.tolist() == [2, 4, 5]
    assert torch.equal(short.x[:2], whole.x[:2])
    assert torch.equal(short.x[2], x[2])
    plenty = run(attack, Slope(), x, torch.zeros(3).long(), "linf(1)", crafting=Crafting(max_forwards=100))
    assert torch.equal(plenty.x, whole.x)


def test_draws_count_towards_the_budget() -> None:
    x = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.9]).view(1, 1, 1, 5)
    crafting = Crafting(draws=4, max_forwards=11)
    found = run(PGD(steps=20), Slope(), x, torch.zeros(1).long(), "linf(0.01)", crafting=crafting)
    assert found.forwards.item() == 8


# ----------------------------------------------------------------------------------------------------- precision


class Hasty(nn.Module):
    """In bfloat16 always fooled; in float32 from a mean grey of 0.6 on."""

    def forward(self, x: Tensor) -> Tensor:
        grey = x.flatten(1).mean(1)
        threshold = torch.full_like(grey, -1.0 if torch.is_autocast_enabled("cpu") else 0.6)
        return torch.stack([threshold, grey], dim=1)


def test_what_bfloat16_says_is_fooled_goes_on_until_float32_agrees() -> None:
    x = torch.full((2, 1, 2, 2), 0.3)
    attack = PGD(steps=20, rel_step_size=0.05, random_start=False)
    found = run(attack, Hasty(), x, torch.zeros(2).long(), "linf(0.4)", crafting=Crafting(precision="bf16-mixed"))
    assert found.success.all()
    assert found.distance.max() < 0.33
    assert found.forwards.tolist() == [2 * 17] * 2  # sixteen steps of 0.02, each seen in both precisions


def test_passes_are_in_bfloat16_and_the_judge_is_not(net: nn.Module, data: SimpleNamespace) -> None:
    model = Watching(net)
    found = run("pgd(steps=3)", model, data.x, data.y, "linf(0.01)", crafting=Crafting(precision="bf16-mixed"))
    assert model.low[0] is False
    assert model.low[-1] is False
    assert sum(model.low) >= 4
    with torch.no_grad():
        assert torch.equal(found.success, net(found.x).argmax(1) != data.y)
    plain = run("pgd(steps=3)", net, data.x, data.y, "linf(0.01)")
    assert torch.equal(found.success, plain.success)


def test_channels_last_images_reach_the_model_and_change_no_verdict(make_net: Callable, make_data: Callable) -> None:
    net = make_net(shape=(3, 6, 6))
    data, formats = make_data(net, 12, shape=(3, 6, 6)), []
    net[0].register_forward_pre_hook(
        lambda _, given: formats.append(given[0].is_contiguous(memory_format=torch.channels_last))
    )
    found = run("pgd(steps=3)", net, data.x, data.y, "linf(0.03)", crafting=Crafting(memory_format="channels_last"))
    assert sum(formats) == 4
    assert torch.equal(found.success, run("pgd(steps=3)", net, data.x, data.y, "linf(0.03)").success)


# ------------------------------------------------------------------------------------------- random models (EOT)


class Scaled(nn.Module):
    """Two classes; each pass, whatever its batch, scales the logits by the next factor."""

    def __init__(self, factors: Tensor) -> None:
        super().__init__()
        self.factors, self.passes = factors, 0

    def forward(self, x: Tensor) -> Tensor:
        grey, factor = x.flatten(1).mean(1), self.factors[self.passes % len(self.factors)]
        self.passes += 1
        return torch.stack([torch.zeros_like(grey), factor * grey], dim=1)


def test_eot_averages_losses_and_their_gradients_not_logits() -> None:
    factors, x = torch.tensor([1.0, 8.0]), torch.tensor([0.2, 0.7]).view(2, 1, 1, 1)
    oracle = Oracle(Scaled(factors), torch.arange(2), crafting=Crafting(draws=2))
    value, grad, logits = oracle.value_and_gradient(
        x, lambda z: F.cross_entropy(z, torch.zeros(2).long(), reduction="none")
    )
    grey, p = x.flatten(), torch.sigmoid(factors[:, None] * x.flatten())
    assert torch.allclose(value, F.softplus(factors[:, None] * grey).mean(0))
    assert torch.allclose(grad.flatten(), (factors[:, None] * p).mean(0), atol=1e-6)
    assert torch.allclose(logits.softmax(1)[:, 1], p.mean(0))
    assert oracle.forwards.tolist() == [2, 2]
    assert oracle.backwards.tolist() == [2, 2]


def test_a_model_that_draws_once_for_a_whole_batch_is_drawn_from_as_often() -> None:
    """Draws are passes of their own: a random resize, say, is one for all the images of a pass."""
    factors, x = torch.tensor([1.0, 8.0]), torch.tensor([0.2, 0.7]).view(2, 1, 1, 1)
    _, grads = Oracle(Scaled(factors), torch.arange(2), crafting=Crafting(draws=2)).jacobian(x, torch.ones(2, 1).long())
    assert grads.flatten().tolist() == [4.5, 4.5]
    oracle = Oracle(Scaled(factors), torch.arange(2), crafting=Crafting(draws=2))
    assert torch.allclose(oracle.logits(x).softmax(1)[:, 1], torch.sigmoid(factors[:, None] * x.flatten()).mean(0))


def test_an_image_of_a_random_model_is_let_go_only_when_it_fools_clearly() -> None:
    """What fools on average, but not in every quarter of fresh draws, is climbed further."""
    x = torch.full((2, 1, 1, 1), 0.5)
    oracle = Oracle(Scaled(torch.tensor([9.0, 9.0, 9.0, -3.0])), torch.arange(2), crafting=Crafting(draws=4))
    fooled = torch.tensor([True, True])
    judge = lambda logits, rows: logits.argmax(1) == 1  # noqa: E731  # as the attacks' own
    assert judge(oracle.logits(x), fooled).all()
    assert not oracle.confirm(fooled, x, judge).any()
    clear = Oracle(Scaled(torch.tensor([9.0, 8.0, 7.0, 3.0])), torch.arange(2), crafting=Crafting(draws=4))
    assert clear.confirm(fooled, x, judge).all()
    assert clear.forwards.tolist() == [4, 4]


class Noisy(nn.Module):
    """Adds noise to images; says so."""

    adaptive = frozenset({"eot"})

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x + 0.05 * torch.randn_like(x))


def test_a_gradient_that_is_the_same_in_every_pixel_can_be_written_to() -> None:
    """Torch hands over one value for many pixels; attacks that keep rows of it must not stumble."""

    class Sum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            total = x.sum((1, 2, 3))
            return torch.stack([total, 3 - total], dim=1)

    x, y = torch.full((6, 1, 2, 2), 0.4), torch.ones(6).long()
    assert run("apgd(steps=20)", Sum(), x, y, "linf(0.01)").success.tolist() == [True] * 6


def test_a_model_that_says_it_is_random_is_drawn_from_unasked(net: nn.Module, data: SimpleNamespace) -> None:
    model = nn.Sequential(Noisy(net))
    assert adaptation(model) == {"eot"}
    found = run("pgd(steps=3)", model, data.x, data.y, "linf(0.0001)")
    assert not found.backwards[~found.skipped & ~found.success].remainder(EOT_DRAWS).any()
    assert found.backwards.max() == 3 * EOT_DRAWS
    again = run("pgd(steps=3)", model, data.x, data.y, "linf(0.0001)")
    assert torch.equal(again.x, found.x)
    assert run("pgd(steps=3)", model, data.x, data.y, "linf(0.0001)", crafting=Crafting(draws=1)).backwards.max() == 3


# ------------------------------------------------------------------------------------- broken gradients (BPDA)


class Rounded(nn.Module):
    """Rounds to tenths: its gradient is zero."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 10).round() / 10


class Declared(Rounded):
    """The same, and says so."""

    adaptive = frozenset({"bpda"})


class Halved(nn.Module):
    """Half the resolution, by NumPy; what approximates it on the way back is average pooling."""

    adaptive = frozenset({"bpda"})
    approximation = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy()[:, :, ::2, ::2].copy())


def bright(linear: Callable, pixels: int) -> nn.Module:
    """Class 1 where the mean grey is above 0.5."""
    return linear(torch.stack([torch.zeros(pixels), torch.full((pixels,), 1 / pixels)]), torch.tensor([0.5, 0.0]))


def test_bpda_gives_a_mask_without_gradient_one_and_keeps_its_values(linear: Callable) -> None:
    x, y = torch.full((3, 1, 4, 4), 0.4), torch.zeros(3).long()
    plain = nn.Sequential(Rounded(), bright(linear, 16))
    attack = PGD(random_start=False)
    assert not run(attack, plain, x, y, "linf(0.2)").success.any()  # what a naive attack sees
    for model in (nn.Sequential(bpda(Rounded()), bright(linear, 16)), nn.Sequential(Declared(), bright(linear, 16))):
        assert torch.equal(model(x), plain(x))
        assert run(attack, model, x, y, "linf(0.2)").success.all()
        assert not model[0]._forward_hooks
    assert torch.equal(bpda(Rounded())(x), Rounded()(x))


def test_bpda_takes_the_gradient_of_what_is_named_for_it(linear: Callable) -> None:
    x, y = torch.full((2, 1, 4, 4), 0.4), torch.zeros(2).long()
    model = nn.Sequential(Halved(), bright(linear, 4))
    assert adaptation(model) == {"bpda"}
    assert run(PGD(random_start=False), model, x, y, "linf(0.2)").success.all()
    wrapped = nn.Sequential(bpda(Halved(), nn.AvgPool2d(2)), bright(linear, 4))
    oracles = [Oracle(each, torch.arange(2)) for each in (model, wrapped)]
    with frozen(model), frozen(wrapped):
        grads = [oracle.value_and_gradient(x, lambda z: z[:, 1] - z[:, 0])[1] for oracle in oracles]
    assert torch.equal(grads[0], torch.full_like(x, 1 / 16))
    assert torch.equal(grads[1], grads[0])


def test_bpda_of_another_shape_is_refused_in_one_line(linear: Callable) -> None:
    model = nn.Sequential(bpda(Halved()), bright(linear, 4))
    with pytest.raises(InputError, match="same shape"):
        run("pgd()", model, torch.full((2, 1, 4, 4), 0.4), torch.zeros(2).long(), "linf(0.2)")


def test_a_model_whose_gradient_is_broken_unsaid_is_named_and_told_of_bpda() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x.flatten(1).detach(), x.flatten(1).detach() * 0.5], dim=1)

    with pytest.raises(InputError, match="bpda"):
        run("fgsm()", Broken(), torch.full((2, 1, 1, 1), 0.4), torch.zeros(2).long(), "linf(0.2)")


# ------------------------------------------------------------------------------------------ branches, warm starts


def test_a_branch_shares_the_ledger_but_neither_rows_nor_noise(net: nn.Module, data: SimpleNamespace) -> None:
    def draws() -> list[Tensor]:
        oracle = Oracle(net, torch.arange(8), seed=3)
        first, second = oracle.branch(), oracle.branch()
        noise = [branch.uniform(4) for branch in (oracle, first, second, first.branch())]
        first.keep(torch.arange(8) < 2)
        with frozen(net):
            first.logits(data.x[:2])
            second.value_and_gradient(data.x, lambda z: z.sum(1))
            oracle.logits(data.x)
        assert oracle.forwards.tolist() == [3, 3, 2, 2, 2, 2, 2, 2]
        assert oracle.backwards.tolist() == [1] * 8
        return noise

    noise = draws()
    assert all(not torch.equal(a, b) for i, a in enumerate(noise) for b in noise[:i])
    assert all(torch.equal(a, b) for a, b in zip(noise, draws(), strict=True))


def test_a_budget_covers_all_branches(net: nn.Module, data: SimpleNamespace) -> None:
    oracle = Oracle(net, torch.arange(8), crafting=Crafting(max_forwards=2))
    with frozen(net):
        oracle.branch().logits(data.x)
        oracle.logits(data.x)
        with pytest.raises(OutOfPasses):
            oracle.branch().logits(data.x)
    assert oracle.forwards.tolist() == [2] * 8


def test_a_warm_start_that_fools_already_costs_one_pass_and_is_held_to_the_ball(
    net: nn.Module, data: SimpleNamespace
) -> None:
    cold = run("pgd(steps=20)", net, data.x, data.y, LINF)
    assert cold.success.any()
    warm = run("pgd(steps=20)", net, data.x, data.y, LINF, start=cold.x)
    assert (warm.forwards[cold.success] == 1).all()
    assert torch.equal(warm.x[cold.success], cold.x[cold.success])
    far = run("pgd(steps=1)", net, data.x, data.y, LINF, start=torch.ones_like(data.x))
    assert far.distance.max() <= 0.1 + 1e-6
    with pytest.raises(InputError, match="start"):
        run("pgd(steps=1)", net, data.x, data.y, LINF, start=data.x[:3])


def test_the_batch_suits_the_images_and_never_falls_below_one() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert suitable_batch(torch.empty(1, 1, 28, 28), cpu) == 250
    assert suitable_batch(torch.empty(1, 3, 224, 224), cpu) == 8
    assert suitable_batch(torch.empty(1, 3, 32, 32), cpu) == 85
    assert suitable_batch(torch.empty(1, 3, 32, 32), gpu) == 1000
    assert suitable_batch(torch.empty(1, 3, 2000, 2000), cpu) == 8


@pytest.mark.parametrize("bad", [{"draws": 0}, {"max_forwards": 0}])
def test_impossible_means_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        Crafting(**bad)


# ------------------------------------------------------------------------------------- models that are hard to climb


class Rooted(nn.Module):
    """Another model behind a root, whose slope is infinite at black pixels and NaN where its own gradient is 0."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.sqrt())


@pytest.mark.parametrize("threat", ["linf(0.15)", "l2(1)"])
@pytest.mark.parametrize("spec", ["pgd(steps=20)", "apgd(steps=20)", "fmn(steps=50)", "ddn(steps=50)", "autoattack()"])
def test_gradients_that_are_not_finite_do_not_shield_a_model(
    spec: str, threat: str, net: nn.Module, make_data: Callable
) -> None:
    """Images became NaN, whose logits count as fooled, and the clean image was handed back: it looked robust."""
    if spec.startswith("ddn") and threat.startswith("linf"):
        pytest.skip("ddn is of L2")
    data = make_data(net, 40)
    x = torch.where(data.x < 0.3, 0.0, data.x)
    y = Rooted(net)(x).argmax(1)
    leaf = x.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(Rooted(net)(leaf).sum(), leaf)
    assert not grad.isfinite().flatten(1).all(1).any()
    left = {
        shift: 1 - run(spec, Rooted(net), (x + shift).clamp(max=1), y, threat).success.float().mean()
        for shift in (0.0, 1e-3)
    }
    assert left[1e-3] < 0.5
    assert left[0.0] <= left[1e-3] + 0.15


def test_a_slope_without_end_is_as_steep_as_the_images_steepest_other() -> None:
    grad = torch.tensor([[math.nan, math.inf, -math.inf, -3.0], [math.nan] * 4]).view(2, 1, 2, 2)
    assert finite(grad).flatten().tolist() == pytest.approx([0, 3, -3, -3, 0, 0, 0, 0])


def test_what_is_no_image_fools_nobody(net: nn.Module) -> None:
    x, y = torch.full((3, 1, 8, 8), 0.5), torch.zeros(3).long()
    active = Worst(Oracle(net, torch.arange(3)), x, y, None, stop=True)
    broken = x.clone()
    broken[1, 0, 2, 3], broken[2, 0, 0, 0] = math.nan, math.inf
    logits = torch.tensor([[0.0, 1.0]]).repeat(3, 1)
    logits[1] = math.nan
    assert active.fooled(broken, logits).tolist() == [True, False, False]


def test_the_other_classes_are_the_others_though_some_are_ruled_out() -> None:
    never = -math.inf
    logits = torch.tensor([[never, 1.0, 3.0, never], [never, never, never, never], [5.0, 5.0, 5.0, 5.0]])
    found = likeliest(logits, torch.tensor([2, 1, 3]))
    assert found.tolist() == [[1, 0, 3], [0, 2, 3], [0, 1, 2]]


@pytest.mark.parametrize("spec", ["deepfool()", "fab()", "ddn()", "fmn()"])
@pytest.mark.parametrize("ruled_out", [-1e4, -math.inf])
def test_a_class_that_is_ruled_out_changes_no_distance(
    spec: str, ruled_out: float, net: nn.Module, make_data: Callable
) -> None:
    class Less(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.pad(net(x), (0, 1), value=ruled_out)

    data = make_data(net, 20)
    plain, more = (run(spec, model, data.x, data.y, "l2(inf)").distance for model in (net, Less()))
    assert more.median() <= plain.median() * 1.03


def test_logits_over_draws_do_not_underflow() -> None:
    drawn = torch.tensor([[[0.0, -500.0, -900.0]], [[0.0, -700.0, -900.0]]])
    assert pooled(drawn).isfinite().all()
    small = drawn / 300
    assert torch.allclose(pooled(small), small.softmax(2).mean(0).log(), atol=1e-6)


def test_a_first_layer_may_be_followed_by_one_that_works_in_place(make_data: Callable) -> None:
    def build(*, inplace: bool) -> nn.Module:
        torch.manual_seed(0)
        tail = (nn.ReLU(inplace=inplace), nn.Flatten(), nn.Linear(4 * 36, 10))
        return nn.Sequential(nn.Conv2d(1, 4, 3), *tail)

    data = make_data(build(inplace=False), 10, shape=(1, 8, 8))
    found = [run("pgd(steps=5)", build(inplace=inplace), data.x, data.y, "linf(0.1)") for inplace in (False, True)]
    assert torch.equal(found[0].x, found[1].x)


def test_the_quick_gradient_of_a_first_layer_has_a_gradient_itself() -> None:
    """A model may differentiate itself, as one that purifies its images does."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 3))
        x = torch.rand(2, 1, 8, 8)

    def outer() -> Tensor:
        leaf = x.clone().requires_grad_(True)
        (inner,) = torch.autograd.grad(body(leaf).square().sum(), leaf, create_graph=True)
        return torch.autograd.grad(body(leaf - 0.1 * inner)[:, 0].sum(), leaf)[0]

    for parameter in body.parameters():
        parameter.requires_grad_(False)
    plain = outer()
    with quick_input_gradients(body):
        assert torch.allclose(outer(), plain, atol=1e-6)


def test_a_model_that_changes_its_images_in_place_is_refused(net: nn.Module, make_data: Callable) -> None:
    class Shifting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return net(x.sub_(0.5))

    data = make_data(net, 5)
    with pytest.raises(InputError, match=r"in place.*x\.clone\(\)"):
        run("fgsm()", Shifting(), data.x, data.y, LINF)


@pytest.mark.parametrize("said", [["bpda"], ("eot", "bpda"), "bpda", {"BPDA"}, frozenset({"bpda"})])
def test_what_a_module_declares_may_be_written_in_any_way(said: object, net: nn.Module) -> None:
    net.adaptive = said  # type: ignore[assignment]
    assert "bpda" in adaptation(net)
    net.adaptive = True  # type: ignore[assignment]  # of somebody else's, who means something else
    assert not adaptation(net)


def test_the_callers_autocast_does_not_reach_an_attack(net: nn.Module, make_data: Callable) -> None:
    data, model = make_data(net, 5), Watching(net)
    with torch.autocast("cpu", torch.bfloat16):
        run("pgd(steps=3)", model, data.x, data.y, LINF)
    assert not any(model.low)


def test_deepfool_on_a_random_model_goes_towards_one_class(net: nn.Module, make_data: Callable) -> None:
    """Each draw chose rivals of its own, and a mean over draws was of several classes' boundaries."""

    class Noisy(nn.Module):
        adaptive = frozenset({"eot"})

        def forward(self, x: Tensor) -> Tensor:
            return net(x + 0.3 * torch.randn_like(x))

    data = make_data(net, 12)
    with seeded(0), frozen(Noisy()):
        few, many = (Oracle(Noisy(), torch.arange(12), crafting=Crafting(draws=draws)) for draws in (20, 400))
        boundaries = _Boundaries(few, Closest(few, data.x, data.y, L2, None, stop=False), "l2")
        _, way = boundaries.look_at_all(data.x, 9)
        rivals, nearest = boundaries.rivals, boundaries.nearest
        _, grads = many.jacobian(data.x, lambda logits: _leads(logits, data.y, None, rivals))
        expected = _pick(boundaries._inward(grads.neg_(), data.x)[0], nearest)
    assert float(F.cosine_similarity(way.flatten(1), expected.flatten(1)).min()) > 0.8

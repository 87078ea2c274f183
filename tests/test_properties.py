"""What holds for every input: projections, steps, noise, intervals, and the order of the figures of an evaluation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import optimize, stats
from torch import Tensor, nn

from sparring import evaluate, run
from sparring.attacks import ATTACKS, Attack, Oracle
from sparring.core.randomness import derive, seeded, uniform
from sparring.core.statistics import clopper_pearson, mean, share
from sparring.core.threat import THREATS, ThreatModel
from sparring.evaluation.checks import rising
from sparring.evaluation.conditions import Conditions
from sparring.evaluation.curve import Nearest, predictions, single_attack_curve, worst_case_curve

NORMS = ("linf", "l2", "l1")
ORDER = {"linf": math.inf, "l2": 2, "l1": 1}
DUAL = {"linf": 1, "l2": 2, "l1": math.inf}
Array = NDArray[np.float64]

every_norm = pytest.mark.parametrize("norm", NORMS)

shapes = st.tuples(st.integers(1, 3), st.integers(1, 2), st.integers(1, 3), st.integers(1, 3))
pixels = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1, width=32))
near = st.floats(-2, 3, width=32)
far = st.one_of(near, st.sampled_from([-1e30, 1e30, -1e20, 1e12, -1e6, 1e3, 3e38]))
bounds = st.one_of(st.sampled_from([0.0, 8 / 255, 0.5, 1.0]), st.floats(1e-4, 1))


@st.composite
def pairs(draw: st.DrawFn, moved: st.SearchStrategy[float] = near) -> tuple[Tensor, Tensor]:
    """Give images in [0, 1] and others of the same shape anywhere."""
    shape = draw(shapes)
    x = draw(arrays(np.float32, shape, elements=pixels))
    return torch.from_numpy(x), torch.from_numpy(draw(arrays(np.float32, shape, elements=moved)))


def lengths(delta: Tensor, norm: str) -> Tensor:
    return torch.linalg.vector_norm(delta.double().flatten(1), ord=ORDER[norm], dim=1)


def threat_of(norm: str, eps: float) -> ThreatModel:
    """Give the threat; norms that sum over pixels get more room."""
    return THREATS.parse(f"{norm}({eps if norm == 'linf' else 3 * eps!r})")


def rounding(pixels: int) -> float:
    """Give what float32 pixels in [0, 1] may add to a distance, in any of the norms."""
    return 1e-6 + 2.0**-24 * pixels


# -------------------------------------------------------------------------------------------------------- projection


def nearest(z: Array, x: Array, eps: float, norm: str) -> Array:
    """Project z slowly: one multiplier found by bisection, in double precision."""
    delta, sign = np.abs(z - x), np.sign(z - x)
    room = np.where(sign > 0, 1 - x, x)
    if norm == "linf":
        return x + sign * np.minimum(np.minimum(delta, room), eps)

    def cut(multiplier: float) -> Array:  # of the KKT conditions: L2 shrinks all alike, L1 takes the same from all
        return np.minimum(delta / (1 + multiplier) if norm == "l2" else np.maximum(delta - multiplier, 0), room)

    def length(size: Array) -> float:
        return float(np.sqrt((size**2).sum()) if norm == "l2" else size.sum())

    low, high = 0.0, 1.0
    if length(cut(low)) <= eps:
        return x + sign * cut(low)
    while length(cut(high)) > eps:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if length(cut(middle)) > eps else (low, middle)
    return x + sign * cut(high)


@every_norm
@given(pair=pairs(), eps=bounds)
def test_projection_gives_the_nearest_point_of_ball_and_box(norm: str, pair: tuple[Tensor, Tensor], eps: float) -> None:
    x, z = pair
    threat = threat_of(norm, eps)
    found = threat.project(z, x).double().flatten(1).numpy()
    for row, image, away in zip(found, x.double().flatten(1).numpy(), z.double().flatten(1).numpy(), strict=True):
        assume(threat.eps > 0)
        np.testing.assert_allclose(row, nearest(away, image, threat.eps, norm), atol=3e-6)


@every_norm
def test_the_slow_reference_agrees_with_a_general_solver(norm: str) -> None:
    rng = np.random.default_rng(0)
    for eps in (0.3, 1.0):
        x, z = rng.random(4).round(1), rng.normal(0.5, 1.5, 4)
        # delta = up - down, so that the L1 ball is smooth
        inside = {
            "linf": lambda v, eps=eps: eps - (v[:4] + v[4:]),
            "l2": lambda v, eps=eps: eps**2 - ((v[:4] - v[4:]) ** 2).sum(),
            "l1": lambda v, eps=eps: eps - v.sum(),
        }[norm]
        found = optimize.minimize(
            lambda v, x=x, z=z: ((x + v[:4] - v[4:] - z) ** 2).sum(),
            np.zeros(8),
            bounds=[(0, 1 - p) for p in x] + [(0, p) for p in x],
            constraints=[{"type": "ineq", "fun": inside}],
            method="SLSQP",
            options={"maxiter": 1000, "ftol": 1e-14},
        )
        np.testing.assert_allclose(x + found.x[:4] - found.x[4:], nearest(z, x, eps, norm), atol=1e-4)


@every_norm
@given(pair=pairs(far), eps=st.one_of(bounds, st.just(math.inf)))
@example(pair=(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 1e30)), eps=0.5)
@example(pair=(torch.full((1, 1, 2, 2), 0.5), torch.full((1, 1, 2, 2), 1e30)), eps=0.01)
def test_projection_lands_in_ball_and_box_from_however_far(norm: str, pair: tuple[Tensor, Tensor], eps: float) -> None:
    x, z = pair
    threat = threat_of(norm, eps)
    found = threat.project(z, x)
    assert found.shape == x.shape
    assert found.dtype == x.dtype
    assert bool(((found >= 0) & (found <= 1)).all())
    assert lengths(found.double() - x.double(), norm).max() <= threat.eps + rounding(x[0].numel())


@every_norm
@given(pair=pairs(far))
def test_projection_with_no_room_gives_the_image_itself(norm: str, pair: tuple[Tensor, Tensor]) -> None:
    x, z = pair
    assert torch.equal(THREATS.parse(f"{norm}(0)").project(z, x), x)


@every_norm
@given(pair=pairs(far))
def test_projection_without_a_bound_only_cuts_to_the_box(norm: str, pair: tuple[Tensor, Tensor]) -> None:
    x, z = pair
    found = THREATS.parse(f"{norm}(inf)").project(z, x)
    assert torch.allclose(found, z.clamp(0, 1), atol=1e-7, rtol=0)


@every_norm
@given(pair=pairs(far), eps=bounds)
def test_projection_is_idempotent(norm: str, pair: tuple[Tensor, Tensor], eps: float) -> None:
    x, z = pair
    threat = threat_of(norm, eps)
    once = threat.project(z, x)
    assert torch.allclose(threat.project(once, x), once, atol=2e-6, rtol=0)


@every_norm
@given(pair=pairs(pixels), eps=bounds)
def test_projection_leaves_what_is_inside_where_it_is(norm: str, pair: tuple[Tensor, Tensor], eps: float) -> None:
    x, other = pair
    threat = threat_of(norm, eps)
    share_of_way = (0.99 * threat.eps / lengths(other - x, norm).clamp(min=1e-30)).clamp(max=1).float()
    inside = x + share_of_way.view(-1, 1, 1, 1) * (other - x)
    assert torch.allclose(threat.project(inside, x), inside, atol=1e-6, rtol=0)


@pytest.mark.parametrize("eps", [0.5, 12.0, 400.0])
@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_projection_of_photographs_keeps_to_the_ball(norm: str, eps: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 32, 32, generator=generator)
    for spread in (0.1, 1.0, 30.0):
        found = THREATS.parse(f"{norm}({eps})").project(x + spread * torch.randn(x.shape, generator=generator), x)
        assert lengths(found.double() - x.double(), norm).max() <= eps * (1 + 2e-5)
        reached = lengths(found.double() - x.double(), norm)
        room = lengths(torch.maximum(x, 1 - x), norm)
        if eps < 0.1 * float(room.min()) and spread >= 1.0:  # pushed out everywhere: the ball's border is the answer
            assert reached.min() >= eps * (1 - 2e-5)


# ------------------------------------------------------------------------------------------------------------- steps


@every_norm
@given(
    grad=shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=st.floats(-1, 1, width=32))),
    exponent=st.integers(-30, 30),
)
def test_the_steepest_step_attains_the_dual_norm(norm: str, grad: Array, exponent: int) -> None:
    scaled = torch.from_numpy((grad * 10.0**exponent).astype(np.float32))
    assume(bool((scaled.abs().flatten(1).amax(1) > 1e-36).all()))
    step = THREATS.parse(f"{norm}(1)").steepest(scaled)
    assert step.shape == scaled.shape
    assert lengths(step, norm).max() <= 1 + 1e-6
    gain = (step.double() * scaled.double()).flatten(1).sum(1)
    dual = torch.linalg.vector_norm(scaled.double().flatten(1), ord=DUAL[norm], dim=1)
    assert torch.allclose(gain, dual, rtol=1e-5, atol=0)


@every_norm
def test_a_gradient_of_zero_gives_no_step_and_leaves_its_neighbours_alone(norm: str) -> None:
    grad = torch.zeros(2, 1, 2, 2)
    grad[1, 0, 0, 1] = -2.0
    step = THREATS.parse(f"{norm}(1)").steepest(grad)
    assert not step[0].any()
    assert step[1].flatten().tolist() == [0.0, -1.0, 0.0, 0.0]


@pytest.mark.parametrize("size", [1e-30, 1e-37, 1e-42])
def test_a_tiny_gradient_does_not_vanish_in_l2(size: float) -> None:
    step = THREATS.parse("l2(1)").steepest(torch.tensor([3.0, -4.0]).mul(size).view(1, 1, 1, 2))
    assert step.flatten().tolist() == pytest.approx([0.6, -0.8], abs=1e-2)  # 1e-42 itself has three digits only


@every_norm
@given(pair=pairs())
def test_the_ascent_step_spends_nothing_on_pixels_that_cannot_move(norm: str, pair: tuple[Tensor, Tensor]) -> None:
    x, grad = pair
    threat = THREATS.parse(f"{norm}(1)")
    free = ~(((x == 0) & (grad < 0)) | ((x == 1) & (grad > 0)))
    step = threat.ascent(x, grad, 1.0)
    assert lengths(step, norm).max() <= 1 + 1e-5
    gain = (step * grad * free).double().flatten(1).sum(1)
    most = torch.linalg.vector_norm((grad * free).double().flatten(1), ord=DUAL[norm], dim=1)
    if norm == "l1":  # in a box a pixel takes no more than its room, so the strongest are filled in turn
        most = torch.stack([filled(*pair) for pair in zip(x.double(), grad.double(), strict=True)])
        assert bool(((x + step >= -1e-6) & (x + step <= 1 + 1e-6)).all())
    assert torch.allclose(gain, most, rtol=1e-4, atol=1e-6 if norm == "l1" else 1e-30)


def filled(x: Tensor, grad: Tensor) -> Tensor:
    """Spend a budget of 1 on one image's pixels in the order of their gradients, one by one."""
    left, gain = 1.0, 0.0
    for g, at in sorted(zip(grad.flatten().tolist(), x.flatten().tolist(), strict=True), key=lambda p: -abs(p[0])):
        spent = min(left, 1 - at if g > 0 else at)
        left, gain = left - spent, gain + spent * abs(g)
    return torch.tensor(gain, dtype=torch.float64)


# ------------------------------------------------------------------------------------------------------ random starts


@every_norm
@given(pair=pairs(), eps=st.one_of(bounds, st.just(math.inf)), seed=st.integers(0, 2**40))
def test_random_starts_are_in_ball_and_box(norm: str, pair: tuple[Tensor, Tensor], eps: float, seed: int) -> None:
    x, _ = pair
    threat = threat_of(norm, eps)
    start = threat.random_start(x, uniform(seed, torch.arange(len(x)), 0, x[0].numel() + 1))
    assert start.shape == x.shape
    assert bool(((start >= 0) & (start <= 1)).all())
    assert lengths(start.double() - x.double(), norm).max() <= threat.eps + rounding(x[0].numel())


@every_norm
def test_random_starts_are_finite_at_the_ends_of_the_noise(norm: str) -> None:
    x = torch.full((3, 1, 1, 2), 0.5)
    ends = torch.tensor([[0.0] * 3, [1 - 2.0**-24] * 3, [0.5] * 3])
    start = THREATS.parse(f"{norm}(0.3)").random_start(x, ends)
    assert bool(start.isfinite().all())
    assert lengths(start - x, norm).max() <= 0.3 + 1e-6


@every_norm
def test_random_starts_fill_the_ball_evenly(norm: str) -> None:
    count, d, eps = 4000, 6, 0.2
    x = torch.full((count, 1, 2, 3), 0.5)
    start = THREATS.parse(f"{norm}({eps})").random_start(x, uniform(11, torch.arange(count), 0, d + 1))
    delta = (start - x).double().flatten(1) / eps
    filled = lengths(delta, norm).numpy() ** d  # the share of the ball's volume that lies further in
    assert stats.kstest(filled, "uniform").pvalue > 1e-3
    spread = delta.square().mean(0)
    assert delta.mean(0).abs().max() < 5 * float((spread.max() / count).sqrt())  # no direction is preferred
    assert float(spread.max() / spread.min()) < 1.15  # and no pixel
    assert (torch.corrcoef(delta.T) - torch.eye(d)).abs().max() < 5 / math.sqrt(count)
    # a thin slice through the middle, against an exact sampler's
    rng = np.random.default_rng(0)
    if norm == "linf":
        exact = rng.uniform(-1, 1, (count, d))
    elif norm == "l2":
        exact = rng.normal(size=(count, d))
        exact *= (rng.random(count) ** (1 / d) / np.linalg.norm(exact, axis=1))[:, None]
    else:  # the first d of d + 1 gaps between sorted points of [0, 1] lie evenly in the simplex
        exact = np.diff(np.sort(rng.random((count, d)), axis=1), axis=1, prepend=0) * rng.choice([-1, 1], (count, d))
    assert stats.ks_2samp(delta[:, 0].numpy(), exact[:, 0]).pvalue > 1e-3


def test_a_random_start_without_a_bound_is_an_image_of_noise() -> None:
    x = torch.zeros(2000, 1, 1, 2)
    for norm in NORMS:
        start = THREATS.parse(f"{norm}(inf)").random_start(x, uniform(0, torch.arange(2000), 0, 3))
        assert stats.kstest(start.flatten().numpy(), "uniform").pvalue > 1e-3


# ------------------------------------------------------------------------------------------------------------- noise


@given(seed=st.integers(0, 2**64 - 1), draw=st.integers(0, 1000), examples=st.lists(st.integers(0, 2**50), max_size=8))
def test_noise_depends_on_seed_example_draw_and_place_alone(seed: int, draw: int, examples: list[int]) -> None:
    ids = torch.tensor([*examples, 5])
    whole = uniform(seed, ids, draw, 7)
    assert whole.dtype == torch.float32
    assert bool(((whole >= 0) & (whole < 1)).all())
    assert torch.equal(uniform(seed, ids.flip(0), draw, 7).flip(0), whole)
    assert torch.equal(uniform(seed, ids[-1:], draw, 7), whole[-1:])
    assert torch.equal(uniform(seed, ids, draw, 3), whole[:, :3])
    if seed < 2**63:
        assert torch.equal(uniform(torch.tensor(seed), ids, draw, 7), whole)


def test_noise_differs_between_seeds_examples_draws_and_places() -> None:
    ids = torch.arange(20)
    blocks = torch.stack([uniform(seed, ids, draw, 20) for seed in range(10) for draw in range(10)])
    values = blocks.double().flatten()
    repeats = len(values) - len(values.unique())
    assert repeats < 200  # 40,000 draws of 2**24 values: 48 repeats are expected by chance
    assert len(blocks.flatten(0, 1).unique(dim=0)) == 10 * 10 * 20


@pytest.mark.parametrize("axis", ["seed", "example", "draw", "place"])
def test_noise_is_uniform_and_uncorrelated_along_every_axis(axis: str) -> None:
    n = 4096
    ids = torch.arange(n)
    noise = {
        "seed": lambda: torch.cat([uniform(seed, ids[:1], 0, 1) for seed in range(n)]),
        "example": lambda: uniform(1, ids, 0, 1),
        "draw": lambda: torch.cat([uniform(1, ids[:1], draw, 1) for draw in range(n)]),
        "place": lambda: uniform(1, ids[:1], 0, n),
    }[axis]()
    values = noise.flatten().double().numpy()
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    for lag in (1, 2, 3, 64):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 5 / math.sqrt(n)
    low_bits = (values * 2**24).astype(np.int64) & 0xFF
    assert stats.chisquare(np.bincount(low_bits, minlength=256)).pvalue > 1e-3


def test_derived_seeds_differ_between_the_parts_of_a_run_and_between_runs() -> None:
    paths = [(stream, index) for stream in range(4) for index in range(20)]
    runs = [[derive(seed, *path) for path in paths] for seed in range(5)]
    for seeds in runs:
        assert len(set(seeds)) == len(paths)
    assert all(len(set(same)) == len(runs) for same in zip(*runs, strict=True))
    assert runs[3] == [derive(3, *path) for path in paths]


def test_a_seeded_block_repeats_itself_and_restores_the_global_state() -> None:
    before = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with seeded(7):
            drawn.append(torch.rand(3))
    assert torch.equal(*drawn)
    with pytest.raises(RuntimeError, match="size"), seeded(7):
        torch.rand(3).view(2)
    assert torch.equal(torch.get_rng_state(), before)


# --------------------------------------------------------------------------------------------------------- intervals


counts = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
@example((0, 1))
@example((1, 1))
@example((10000, 10000))
@example((9999, 10000))
def test_the_interval_of_a_share_is_wilsons_and_exact_at_the_ends(count: tuple[int, int]) -> None:
    successes, n = count
    found = share(successes, n)
    method = "exact" if successes in (0, n) else "wilson"
    true = stats.binomtest(successes, n).proportion_ci(0.95, method)
    assert found.value == successes / n
    assert (found.low, found.high) == pytest.approx((true.low, true.high), abs=1e-9)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.n == n


@given(counts)
def test_the_exact_interval_is_clopper_and_pearsons(count: tuple[int, int]) -> None:
    successes, n = count
    found = clopper_pearson(successes, n)
    true = stats.binomtest(successes, n).proportion_ci(0.95, "exact")
    assert (found.low, found.high) == pytest.approx((true.low, true.high), abs=1e-9)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=30))
def test_the_interval_of_a_mean_is_students(values: list[float]) -> None:
    assume(np.std(values) > 1e-6)
    found = mean(values)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((np.mean(values), low, high), rel=1e-9, abs=1e-9)
    assert found.n == len(values)


def test_what_nothing_was_there_to_average_is_not_a_number() -> None:
    for empty in (share(0, 0), mean([])):
        assert math.isnan(empty.value)
        assert math.isnan(empty.low)
        assert math.isnan(empty.high)
        assert empty.n == 0
    one = mean([0.25])
    assert one.value == 0.25
    assert math.isnan(one.low)
    assert math.isnan(one.high)


# -------------------------------------------------------------------------------------------------------- evaluations


ARMOURY = ("uniform_noise()", "fgsm()", "pgd(steps=5)", 'pgd(steps=5, restarts=2, loss="margin")')


@pytest.mark.parametrize("threat", ["linf(0.02)", "linf(0.1)", "l2(0.5)", "l1(2)", "linf(0)", "linf(inf)"])
def test_robust_is_at_most_clean_and_at_most_what_any_attack_leaves(
    threat: str, net: nn.Module, make_data: Callable
) -> None:
    data = make_data(net, 40)
    y = torch.where(torch.arange(40) % 5 == 0, data.wrong, data.y)
    verdict = evaluate(net, (data.x, y), threat, ARMOURY)
    assert verdict.clean.value == 32 / 40
    assert verdict.robust.value <= verdict.clean.value
    for result in verdict.attacked.values():
        assert verdict.robust.value <= result.accuracy.value <= verdict.clean.value
    flags = np.stack([flag for name, flag in verdict.arrays.items() if name.startswith("correct/")])
    assert len(flags) == 1 + len(ARMOURY)
    assert verdict.robust.value == pytest.approx(flags.all(0).mean() - verdict.otherwise / 40)
    assert verdict.robust.value == pytest.approx(verdict.arrays["standing"].mean())
    for estimate in (verdict.clean, verdict.robust):
        assert estimate.low <= estimate.value <= estimate.high
        assert estimate.n == 40


@pytest.mark.parametrize("threat", ["linf(0.1)", "l2(0.5)", "l1(2)"])
def test_the_worst_case_curve_falls_from_clean_and_never_rises(
    threat: str, net: nn.Module, make_data: Callable
) -> None:
    data = make_data(net, 40)
    verdict = evaluate(net, (data.x, data.y), threat, ARMOURY)
    (curve,) = verdict.curves
    within = THREATS.parse(threat)
    accuracy = [point.accuracy.value for point in curve.points]
    assert curve.worst_case
    assert [point.eps for point in curve.points] == sorted({point.eps for point in curve.points})
    assert curve.points[0].eps == 0
    assert accuracy[0] == verdict.clean.value
    assert accuracy == sorted(accuracy, reverse=True)
    at = {point.eps: point.accuracy.value for point in curve.points}
    assert at[within.eps] <= verdict.robust.value
    assert accuracy[-1] < accuracy[0]


class Hollow(nn.Module):
    """Says class 1 only where the grey is near 0.6, though the gradient says that brighter is always better."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        grey = x.flatten(1).mean(1)
        return torch.stack([torch.full_like(grey, 5.0), grey + 10.0 * ((grey - 0.6).abs() < 0.05)], dim=1)


def test_what_a_small_eps_broke_stays_broken_where_a_larger_step_would_miss() -> None:
    net, x, y = Hollow(), torch.full((50, 1, 1, 1), 0.5), torch.zeros(50).long()
    attack, threat, eps = ATTACKS.parse("fgsm()"), THREATS.parse("linf(0.3)"), (0.3, 0.02, 0.1)
    clean = predictions(net, x)
    net.rows = 0
    known = {"clean": clean, "nearest": Nearest.unknown(clean), "ids": torch.arange(50), "conditions": Conditions()}
    worst_case, _ = worst_case_curve(attack, net, x, y, threat, eps, **known)
    assert [(p.eps, p.accuracy.value) for p in worst_case.points] == [(0.0, 1.0), (0.02, 1.0), (0.1, 0.0), (0.3, 0.0)]
    assert net.rows == 2 * 50 * 3  # at two eps: clean, the attack, the judge; at the third nothing was left to break
    alone = single_attack_curve(attack, net, x, y, threat, eps)
    assert [(p.eps, p.accuracy.value) for p in alone.points] == [(0.02, 1.0), (0.1, 0.0), (0.3, 1.0)]
    assert rising(worst_case) is None
    flag = rising(alone)
    assert flag is not None
    assert flag.severity == "warn"


def test_what_is_known_to_break_at_a_distance_is_broken_on_the_curve_from_there_on() -> None:
    net, x, y = Hollow(), torch.full((5, 1, 1, 1), 0.5), torch.zeros(5).long()
    threat = THREATS.parse("linf(0.3)")
    clean, nearest = predictions(net, x), Nearest(torch.full((5,), 0.1), predictions(net, x + 0.1))
    curve, _ = worst_case_curve(
        ATTACKS.parse("fgsm()"),
        net,
        x,
        y,
        threat,
        (0.04, 0.1, 0.3),
        clean=clean,
        nearest=nearest,
        ids=torch.arange(5),
        conditions=Conditions(),
    )
    assert [p.accuracy.value for p in curve.points] == [1.0, 1.0, 0.0, 0.0]


@dataclass(frozen=True, kw_only=True)
class Paint(Attack):
    """Paints every image one grey."""

    name = "paint"
    source = "nowhere"
    kind = "budget"
    grey: float = 0.0

    def perturb(self, oracle: Oracle, x: Tensor, y: Tensor, threat: ThreatModel, **_: object) -> Tensor:
        return torch.full_like(x, self.grey)


class Steps(nn.Module):
    """Logits that are a table of the image's grey, in tenths; of a grey that is not in it, those of black."""

    def __init__(self, table: dict[int, Sequence[float]]) -> None:
        super().__init__()
        self.table = table

    def forward(self, x: Tensor) -> Tensor:
        tenths = (x.flatten(1).mean(1) * 10).round().long().tolist()
        return torch.tensor([self.table.get(t, self.table[0]) for t in tenths])


@pytest.mark.parametrize("order", [(2, 8), (8, 2)])
def test_an_example_that_one_attack_breaks_by_a_tie_is_broken(order: tuple[int, int]) -> None:
    # at 0.2 the label ties with a later class and is still predicted; at 0.8 with an earlier one and is not
    net = Steps({0: (0, 1, 0), 2: (0, 1, 1), 8: (1, 1, 0)})
    attacks = [Paint(grey=tenths / 10) for tenths in order]
    verdict = evaluate(net, (torch.zeros(1, 1, 1, 1), torch.tensor([1])), "linf(inf)", attacks, curve=())
    assert [verdict.attacked[repr(Paint(grey=g))].accuracy.value for g in (0.2, 0.8)] == [1.0, 0.0]
    assert verdict.robust.value == 0.0


def test_an_example_on_which_the_model_breaks_down_under_attack_is_broken() -> None:
    # argmax takes NaN for the largest: it points to class 0, which is the label
    net = Steps({0: (2, 1, 0), 8: (math.nan,) * 3})
    data = (torch.zeros(1, 1, 1, 1), torch.tensor([0]))
    verdict = evaluate(net, data, "linf(inf)", [Paint(grey=0.8)], curve=())
    assert verdict.clean.value == 1.0
    assert verdict.attacked[repr(Paint(grey=0.8))].accuracy.value == 0.0
    assert verdict.robust.value == 0.0


def test_an_example_on_which_the_model_breaks_down_from_the_start_is_wrong() -> None:
    net = Steps({0: (math.nan,) * 3, 8: (2, 1, 0)})
    verdict = evaluate(net, (torch.zeros(1, 1, 1, 1), torch.tensor([0])), "linf(inf)", [Paint(grey=0.8)], curve=())
    assert verdict.clean.value == 0.0
    assert not verdict.arrays["correct/clean"].any()
    assert verdict.robust.value == 0.0


def test_success_rate_is_over_the_examples_first_classified_right(net: nn.Module, make_data: Callable) -> None:
    data = make_data(net, 20)
    y = torch.where(torch.arange(20) < 5, data.wrong, data.y)
    verdict = evaluate(net, (data.x, y), "linf(0.1)", ["fgsm()"], curve=())
    (result,) = verdict.attacked.values()
    outcome = run("fgsm()", net, data.x, y, "linf(0.1)")
    assert result.success_rate.n == 15
    assert result.success_rate.value == pytest.approx(float(outcome.success[5:].float().mean()))
    assert result.accuracy.value == pytest.approx(float((~outcome.success).float().mean()))
    assert result.forwards == result.backwards == 1.0


def test_accuracy_does_not_depend_on_how_the_examples_are_batched(net: nn.Module, make_data: Callable) -> None:
    data = make_data(net, 23)
    y = torch.where(torch.arange(23) % 6 == 0, data.wrong, data.y)
    whole, parts = (evaluate(net, (data.x, y), "linf(0.05)", ARMOURY, batch_size=size, curve=()) for size in (250, 5))
    assert parts.clean == whole.clean
    assert parts.robust == whole.robust
    for name, result in whole.attacked.items():
        assert parts.attacked[name].accuracy == result.accuracy


def test_a_subset_is_judged_as_it_is_within_the_whole(net: nn.Module, make_data: Callable) -> None:
    data = make_data(net, 30)
    whole = evaluate(net, (data.x, data.y), "linf(0.05)", ARMOURY, curve=(), seed=3)
    some = evaluate(net, (data.x, data.y), "linf(0.05)", ARMOURY, curve=(), seed=3, examples=10)
    rows = some.arrays["ids"]
    assert len(rows) == some.robust.n == 10
    for name in (name for name in whole.arrays if name.startswith("correct/")):
        assert np.array_equal(some.arrays[name], whole.arrays[name][rows])

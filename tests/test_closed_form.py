"""Linear classifiers, where the truth is known: an example falls at |margin| / dual norm, and never sooner.

Where the box [0, 1] binds, the truth comes from SciPy's solvers instead.
"""

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog, minimize_scalar
from torch import Tensor, nn

import sparring
from sparring import Adversarial
from sparring.attacks import ATTACKS, prepared
from sparring.models.perturber import Perturber

PIXELS = 16
EXAMPLES = 24
DUAL = {"linf": 1, "l2": 2, "l1": math.inf}
MINIMAL = ("deepfool()", "cw(step_size=0.01)", "ddn()", "fmn()")
SMALL = {
    "pgd": 'pgd(steps=40, restarts=3, loss="margin")',
    "apgd": 'apgd(steps=40, loss="targeted_dlr")',
    "fab": "fab(steps=30)",
    "square": "square(queries=100)",
    "autoattack": "autoattack(steps=30, queries=50)",
    "targeted": "targeted(steps=20)",
    "hopskipjump": "hopskipjump(steps=8, evaluations=20)",
    "transfer": "transfer(surrogate='twin', attack=mifgsm())",
    "universal": "universal(epochs=3, minibatch=8)",
    "cw": "cw(steps=20, search_steps=4)",
    "learned": "learned(run='game')",
}
SPECS = (
    *(SMALL.get(attack.name, f"{attack.name}()") for attack in ATTACKS),
    "pgd(steps=20)",
    'pgd(steps=20, loss="dlr", momentum=0.9)',
    "uniform_noise(draws=20)",
)
Array = NDArray[np.float64]

every_norm = pytest.mark.parametrize("norm", list(DUAL))
every_attack_and_norm = pytest.mark.parametrize(
    ("spec", "norm"), [(spec, norm) for spec in SPECS for norm in DUAL if norm in ATTACKS.parse(spec).norms]
)


def run(spec: str, model: nn.Module, x: Tensor, y: Tensor, threat: str, **settings: object) -> Adversarial:
    """Attack as ever; what learns is fitted to the model on these images first, and a surrogate is the model's twin."""
    twin = copy.deepcopy(model)
    attack = prepared(
        ATTACKS.parse(spec),
        twin,
        threat,
        examples=lambda: (x, y),
        load=lambda _: twin,
        load_perturber=lambda _: Perturber(hidden=(8,)).build(tuple(x.shape[1:])).to(x.dtype).eval(),
    )
    return sparring.run(attack, model, x, y, threat, **settings)


class Problem:
    """A random linear classifier in K classes, and images around grey, so far from 0 and 1 that the box never binds."""

    def __init__(
        self, linear: Callable[..., nn.Module], classes: int, *, offset: float = 0.0, scale: float = 1.0
    ) -> None:
        generator = torch.Generator().manual_seed(classes)
        self.weight = scale * torch.randn(classes, PIXELS, generator=generator)
        self.bias = -self.weight.sum(1) / 2 + offset
        self.x = 0.45 + 0.1 * torch.rand(EXAMPLES, 1, 4, 4, generator=generator)
        self.net = linear(self.weight, self.bias)
        with torch.no_grad():
            self.y = self.net(self.x).argmax(1)

    def reach(self, norm: str) -> Tensor:
        """Give the distance of each image to the nearest boundary, (N,), in double precision."""
        w, rows = self.weight.double(), torch.arange(EXAMPLES)
        logits = self.x.double().flatten(1) @ w.T + self.bias.double()
        lead = logits[rows, self.y][:, None] - logits
        dual = torch.linalg.vector_norm(w[self.y][:, None] - w[None], ord=DUAL[norm], dim=2)
        ratio = lead / dual
        ratio[rows, self.y] = math.inf
        found = ratio.amin(1)
        assert 0 < found.max() < 0.4  # else the box binds
        return found


def levels(reach: Tensor) -> list[float]:
    """Give eps at which a quarter, half and three quarters of the examples fall."""
    return reach.quantile(torch.tensor([0.25, 0.5, 0.75], dtype=reach.dtype)).tolist()


# ------------------------------------------------------------------------------------------------- away from the box


@pytest.mark.parametrize("classes", [2, 3, 5, 10])
@every_norm
def test_margin_pgd_gives_the_exact_verdict(norm: str, classes: int, linear: Callable) -> None:
    problem = Problem(linear, classes)
    reach = problem.reach(norm)
    for eps in levels(reach):
        spec = f'pgd(restarts={classes}, loss="margin")'
        found = run(spec, problem.net, problem.x, problem.y, f"{norm}({eps})")
        clear = (eps / reach - 1).abs() > 0.02
        assert clear.sum() >= EXAMPLES - 4
        assert torch.equal(found.success[clear], (reach < eps)[clear])


@pytest.mark.parametrize(
    "spec",
    [
        'apgd(steps=30, loss="targeted_dlr")',
        "fab(steps=10, targets=9)",
        "fab(steps=10)",
        "autoattack(steps=20, queries=5)",
    ],
)
@pytest.mark.parametrize("classes", [2, 3, 5, 10])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_targeted_apgd_fab_and_autoattack_give_the_exact_verdict(
    norm: str, classes: int, spec: str, linear: Callable
) -> None:
    problem = Problem(linear, classes)
    reach = problem.reach(norm)
    for eps in levels(reach):
        found = run(spec, problem.net, problem.x, problem.y, f"{norm}({eps})")
        clear = (eps / reach - 1).abs() > 0.02
        assert clear.sum() >= EXAMPLES - 4
        assert torch.equal(found.success[clear], (reach < eps)[clear])


@pytest.mark.parametrize("spec", ["fab()", "fab(targets=9)"])
@pytest.mark.parametrize("classes", [2, 3, 5, 10])
@every_norm
def test_fab_finds_distances_near_the_least_possible(norm: str, classes: int, spec: str, linear: Callable) -> None:
    problem = Problem(linear, classes)
    found = run(spec, problem.net, problem.x, problem.y, f"{norm}(inf)")
    assert found.success.all()
    assert (found.distance / problem.reach(norm)).median() <= 1.25


@pytest.mark.parametrize("scale", [1.0, 50.0])
@pytest.mark.parametrize("classes", [2, 3, 5, 10])
@pytest.mark.parametrize(
    ("spec", "norm"), [(spec, norm) for spec in MINIMAL for norm in ATTACKS.parse(spec).norms if norm != "l1"]
)
def test_minimal_attacks_find_the_least_distance(
    spec: str, norm: str, classes: int, scale: float, linear: Callable
) -> None:
    if spec == "ddn()" and scale == 1 and classes > 2:
        pytest.skip(
            "of an unsure model, the cross-entropy's gradient leads away from all rivals' mean, not the nearest"
        )
    problem = Problem(linear, classes, scale=scale)
    found = run(spec, problem.net, problem.x, problem.y, f"{norm}(inf)")
    assert found.success.all()
    assert (found.distance / problem.reach(norm)).median() <= 1.05


@pytest.mark.parametrize("classes", [2, 4])
@every_attack_and_norm
def test_nothing_succeeds_below_the_true_distance(norm: str, spec: str, classes: int, linear: Callable) -> None:
    problem = Problem(linear, classes)
    reach = problem.reach(norm)
    for eps in levels(reach):
        found = run(spec, problem.net, problem.x, problem.y, f"{norm}({eps})")
        assert not found.success[reach > eps * (1 + 1e-4)].any()
        assert (found.distance[found.success] > reach[found.success] * (1 - 1e-4)).all()


@every_norm
def test_one_step_is_exact_for_two_classes(norm: str, linear: Callable) -> None:
    problem = Problem(linear, 2)
    reach = problem.reach(norm)
    for eps in levels(reach):
        found = run("fgsm()", problem.net, problem.x, problem.y, f"{norm}({eps})")
        clear = (eps / reach - 1).abs() > 1e-4
        assert clear.sum() >= EXAMPLES - 1
        assert torch.equal(found.success[clear], (reach < eps)[clear])


@every_norm
def test_a_targeted_attack_reaches_its_class_exactly_where_it_can(norm: str, linear: Callable) -> None:
    problem = Problem(linear, 2)
    reach = problem.reach(norm)
    eps = levels(reach)[1]
    for loss in ("cross_entropy", "margin", "dlr"):
        found = run(f'pgd(loss="{loss}")', problem.net, problem.x, problem.y, f"{norm}({eps})", target=1 - problem.y)
        clear = (eps / reach - 1).abs() > 0.02
        assert torch.equal(found.success[clear], (reach < eps)[clear])


@pytest.mark.parametrize("offset", [1e4, -1e4])
@every_attack_and_norm
def test_logits_far_from_zero_are_attacked_and_judged_as_float32_gives_them(
    norm: str, spec: str, offset: float, linear: Callable
) -> None:
    problem = Problem(linear, 3, offset=offset, scale=100.0)
    plain = Problem(linear, 3, scale=100.0)
    reach = plain.reach(norm)
    # float32 knows a logit near 10,000 to 1/1024; the sum of 16 products and a bias may lose a few of these
    blur = 8 / 1024 / float((plain.weight[:, None] - plain.weight[None]).abs().amax(2).median())
    eps = levels(reach)[1]
    found = run(spec, problem.net, problem.x, problem.y, f"{norm}({eps})")
    with torch.no_grad():
        assert torch.equal(found.success, problem.net(found.x).argmax(1) != problem.y)
    attacked = ~found.skipped
    assert attacked.sum() > EXAMPLES / 2
    assert not (found.success & attacked & (reach > eps * 1.0001 + blur)).any()
    if spec == SMALL["pgd"]:
        assert found.success[reach < eps * 0.98 - blur].all()


@pytest.mark.parametrize("offset", [-50.0, -3.0])
@every_norm
def test_negative_logits_are_attacked_like_any_others(norm: str, offset: float, linear: Callable) -> None:
    problem = Problem(linear, 5, offset=offset)
    with torch.no_grad():
        assert problem.net(problem.x).max() < 0
    reach = problem.reach(norm)
    eps = levels(reach)[1]
    found = run('pgd(restarts=5, loss="margin")', problem.net, problem.x, problem.y, f"{norm}({eps})")
    clear = (eps / reach - 1).abs() > 0.02
    assert torch.equal(found.success[clear], (reach < eps)[clear])


@every_norm
def test_the_distance_reported_is_that_of_the_image_returned(norm: str, linear: Callable) -> None:
    problem = Problem(linear, 3)
    found = run("pgd()", problem.net, problem.x, problem.y, f"{norm}(0.05)")
    order = {"linf": math.inf, "l2": 2, "l1": 1}[norm]
    true = torch.linalg.vector_norm((found.x.double() - problem.x.double()).flatten(1), ord=order, dim=1)
    assert torch.allclose(found.distance.double(), true, rtol=1e-5)


# -------------------------------------------------------------------------------------------- where the box binds too


def best_gain(w: Array, x: Array, eps: float, norm: str) -> float:
    """Give the most that w @ delta can reach with x + delta in [0, 1] and delta within eps, by a general solver."""
    d = len(w)
    if norm == "linf":
        bounds = list(zip(np.maximum(-x, -eps), np.minimum(1 - x, eps), strict=True))
        return -linprog(-w, bounds=bounds).fun
    if norm == "l1":  # delta = up - down
        bounds = [(0, 1 - v) for v in x] + [(0, v) for v in x]
        return -linprog(np.concatenate([-w, w]), A_ub=np.ones((1, 2 * d)), b_ub=[eps], bounds=bounds).fun

    def dual(log_price: float) -> float:  # the length of delta has a price; at the best price the bound is tight
        price = math.exp(log_price)
        delta = np.clip(w / (2 * price), -x, 1 - x)
        return price * eps**2 + float(w @ delta - price * delta @ delta)

    return minimize_scalar(dual, bounds=(-20, 20), method="bounded", options={"xatol": 1e-10}).fun


@pytest.mark.parametrize(
    ("norm", "eps", "pixels"), [("linf", 0.4, 12), ("l2", 1.2, 12), ("l1", 3.0, 12), ("l1", 12.0, 144)]
)
def test_where_the_box_binds_pgd_agrees_with_a_general_solver(
    norm: str, eps: float, pixels: int, linear: Callable
) -> None:
    generator = torch.Generator().manual_seed(7)
    w = torch.randn(pixels, generator=generator)
    x = torch.rand(6, 1, 3, pixels // 3, generator=generator)
    x = torch.where(torch.rand(x.shape, generator=generator) < 0.4, x.round(), x)  # many pixels at the border
    unbounded = eps * float(torch.linalg.vector_norm(w, ord=DUAL[norm]))
    verdicts = []
    for image in x:
        gain = best_gain(w.double().numpy(), image.flatten().double().numpy(), eps, norm)
        assert gain < 0.98 * unbounded  # the box does bind
        start = float(w @ image.flatten())
        for factor in (0.95, 1.001):  # class 0 leads by a little less, and by a little more, than can be won
            net = linear(torch.stack([torch.zeros(pixels), w]), torch.tensor([start + factor * gain, 0.0]))
            spec = 'pgd(steps=100, restarts=3, loss="margin")'
            verdicts.append(bool(run(spec, net, image[None], torch.tensor([0]), f"{norm}({eps})").success))
    assert verdicts == [True, False] * len(x)

"""What is special to Square: where its squares lie and how large they are, what it keeps, what it costs."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sparring import InputError, run
from sparring.attacks import ATTACKS, Oracle, Square
from sparring.attacks.square import SEARCHES, Pyramids, PyramidsL1, PyramidsL2, Search
from sparring.core.threat import THREATS
from sparring.defences.masks.smooth import GaussianNoise

NORMS = ("linf", "l2", "l1")
EPS = {"linf": 0.1, "l2": 0.7, "l1": 3.0}


def stubborn(linear: Callable, shape: tuple[int, int, int], count: int = 3) -> tuple[nn.Module, Tensor, Tensor]:
    """Give a net that cannot be fooled, though some directions look better than others."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.stack([torch.zeros(math.prod(shape)), torch.randn(math.prod(shape), generator=generator)])
    net = linear(weight, torch.tensor([1e4, 0.0]))
    return net, torch.rand(count, *shape, generator=generator), torch.zeros(count).long()


class Watched(nn.Module):
    """Passes images on and keeps them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        return self.net(x)


@pytest.mark.parametrize("norm", NORMS)
def test_each_query_is_one_forward_and_no_gradient_is_asked_for(norm: str, linear: Callable) -> None:
    net, x, y = stubborn(linear, (1, 7, 7))
    for spec, forwards in (("square(queries=70)", 70), ("square(queries=1)", 1), ("square(queries=5, restarts=3)", 15)):
        found = run(spec, net, x, y, f"{norm}({EPS[norm]})")
        assert found.forwards.tolist() == [forwards] * 3
        assert found.backwards.tolist() == [0] * 3


def test_a_model_without_gradients_is_fooled(linear: Callable) -> None:
    class Hard(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = linear(torch.tensor([[0.0] * 9, [1.0] * 9]), torch.tensor([0.3, 0.0]))

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.detach()).round(decimals=2)

    for norm in NORMS:
        found = run("square(queries=200)", Hard(), torch.zeros(4, 1, 3, 3), torch.zeros(4).long(), f"{norm}(0.9)")
        assert found.success.all()


def test_a_short_search_comes_down_to_the_smallest_squares_too_unless_told_otherwise() -> None:
    """As in its authors' code (`resc_schedule`): of 100 changes the last have the size of the last of 10,000."""
    full = [Square(horizon=10_000)._share(n) for n in range(0, 10_000, 100)]
    assert [Square(queries=100)._share(n) for n in range(100)] == full
    assert len(set(full)) == 9
    assert Square(queries=100, horizon=10_000)._share(99) == 0.8 / 4


@pytest.mark.parametrize(
    ("shape", "sides"),
    [  # with p_init 0.8, after so many changes: round(sqrt(p * 784)); in L2 and L1 odd and at least 3
        ((1, 28, 28), {"linf": [25, 18, 13, 9, 6, 4, 3, 2], "l2": [25, 19, 13, 9, 7, 5, 3, 3]}),
        ((3, 32, 32), {"linf": [29, 20, 14, 10, 7, 5, 4, 3], "l2": [29, 21, 15, 11, 7, 5, 5, 3]}),
        ((1, 6, 3), {"linf": [3, 3, 2, 1, 1, 1, 1, 1], "l2": [3, 3, 3, 3, 3, 3, 3, 3]}),
        ((1, 1, 1), {"linf": [1] * 8, "l2": [1] * 8}),
    ],
)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_squares_shrink_as_in_the_original_without_rescaling(
    norm: str, shape: tuple[int, int, int], sides: dict[str, list[int]]
) -> None:
    search = SEARCHES[norm](Oracle(nn.Identity(), torch.arange(1)), torch.zeros(1, *shape), THREATS.parse(f"{norm}(1)"))
    ends = [10, 50, 200, 500, 1000, 2000, 4000]  # the last change of each size, counted from 0
    for changes, expected in (([0, *ends[1:]], sides[norm][:7]), ([end + 1 for end in ends], sides[norm][1:])):
        shares = [Square(horizon=10_000)._share(n) for n in changes]
        assert [search._side(math.sqrt(share * shape[1] * shape[2])) for share in shares] == expected


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 6, 4), (2, 3, 8)])
def test_in_linf_a_change_is_one_square_of_one_sign_a_channel_and_all_pixels_stay_at_the_border(
    shape: tuple[int, int, int], linear: Callable
) -> None:
    net, x, y = stubborn(linear, shape, 4)
    model = Watched(net)
    run("square(queries=60, p_init=0.3)", model, x, y, "linf(0.3)")
    lower, upper = (x - 0.3).clamp(min=0), (x + 0.3).clamp(max=1)
    best, lead = None, torch.full((4,), -math.inf)
    for image in model.seen[1:-1]:
        assert bool((torch.isclose(image, lower) | torch.isclose(image, upper)).all())
        if best is not None:
            for row in range(4):
                changed = (image[row] != best[row]).any(0).nonzero()
                if len(changed):
                    top, left = changed.amin(0).tolist()
                    down, right = changed.amax(0).tolist()
                    side = max(down - top, right - left) + 1
                    assert side <= max(round(math.sqrt(0.3 * shape[1] * shape[2])), 1)
                    patch = slice(None), slice(top, down + 1), slice(left, right + 1)
                    up = torch.isclose(image[row][patch], upper[row][patch]).flatten(1)
                    assert bool((up.all(1) | ~up.any(1)).all() | (lower == upper).any())
        with torch.no_grad():
            value = net(image)[:, 1]
        better = value > lead
        lead = torch.where(better, value, lead)
        best = image if best is None else torch.where(better.view(-1, 1, 1, 1), image, best)


def test_starts_are_stripes_that_differ_between_examples(linear: Callable) -> None:
    net, _, y = stubborn(linear, (2, 5, 6))
    model = Watched(net)
    run("square(queries=1)", model, torch.full((3, 2, 5, 6), 0.5), y, "linf(0.1)")
    start = model.seen[1] - 0.5
    assert bool((start == start[:, :, :1]).all())
    assert torch.allclose(start.abs(), torch.tensor(0.1))
    assert not torch.equal(start[0], start[1])
    assert not torch.equal(start[0, 0], start[0, 1])


@pytest.mark.parametrize("norm", NORMS)
def test_squares_fall_on_every_place_up_to_the_last_row_and_column(norm: str) -> None:
    x, threat = torch.full((1, 1, 5, 6), 0.5), THREATS.parse(f"{norm}(0.1)")
    search = SEARCHES[norm](Oracle(nn.Identity(), torch.arange(1)), x, threat)
    corners = set()
    for change in range(300):
        search.propose(Oracle(nn.Identity(), torch.tensor([change])), 0, 0.1)
        corners.add(int(search.corners[0, 0, 0]))
    side = search.side
    assert side == (2 if norm == "linf" else 3)
    assert corners == {row * 6 + column for row in range(6 - side) for column in range(7 - side)}


@pytest.mark.parametrize("norm", NORMS)
def test_more_queries_go_on_from_the_same_search_and_never_do_worse(norm: str, linear: Callable) -> None:
    net, x, y = stubborn(linear, (2, 6, 5))
    lead = torch.full((3,), -math.inf)
    leads = []
    for queries in (1, 2, 5, 20, 90, 200):
        found = run(Square(queries=queries), net, x, y, f"{norm}({EPS[norm]})")
        assert bool((found.logits[:, 1] >= lead - 1e-4).all())
        lead = found.logits[:, 1]
        leads.append(lead.mean().item())
    assert leads[-1] > leads[0]


@pytest.mark.parametrize("norm", NORMS)
def test_restarts_keep_the_worst(norm: str, linear: Callable) -> None:
    net, x, y = stubborn(linear, (1, 6, 6))
    one, more = (run(Square(queries=4, restarts=n), net, x, y, f"{norm}({EPS[norm]})") for n in (1, 6))
    assert bool((more.logits[:, 1] >= one.logits[:, 1] - 1e-4).all())
    assert bool((more.logits[:, 1] > one.logits[:, 1] + 1e-2).any())


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 9, 14), (1, 2, 3), (2, 1, 7)])
@pytest.mark.parametrize(("norm", "eps"), [("l2", 0.5), ("l1", 2.0)])
def test_in_l2_and_l1_every_image_asked_for_spends_all_of_eps_where_the_box_allows(
    norm: str, eps: float, shape: tuple[int, int, int], linear: Callable
) -> None:
    net, _, y = stubborn(linear, shape)
    x = torch.full((3, *shape), 0.5)
    model = Watched(net)
    threat = THREATS.parse(f"{norm}({eps / math.prod(shape) if norm == 'l1' else eps / 10})")
    run("square(queries=80)", model, x, y, threat)
    for image in model.seen[1:]:
        spent = threat.distance(image, x)
        assert spent.max() <= threat.eps * 1.001
        if norm == "l2" or min(shape[1:]) > 1:  # else a tile of one pixel may cancel what is there
            assert spent.min() >= threat.eps * 0.999


@pytest.mark.parametrize(("kind", "order"), [(PyramidsL2, 2), (PyramidsL1, 1)])
@pytest.mark.parametrize("side", [1, 2, 3, 5, 8])
def test_tiles_are_a_hill_beside_a_hollow_of_length_1(kind: type[Pyramids], order: int, side: int) -> None:
    threat = THREATS.parse(f"l{order}(1)")
    search = kind(Oracle(nn.Identity(), torch.arange(1)), torch.zeros(1, 1, 8, 8), threat)
    tile, turned = search._tile(side).view(2, side, side)
    assert torch.allclose(tile, turned.T)
    assert torch.linalg.vector_norm(tile, ord=order).item() == pytest.approx(1)
    assert bool((tile[: side // 2] > 0).all())
    assert bool((tile[side // 2 :] < 0).all())
    if side > 2:
        halves = [torch.linalg.vector_norm(half, ord=order) for half in (tile[: side // 2], tile[side // 2 :])]
        assert torch.allclose(halves[0], halves[1])
        lower = tile[side // 2 :]  # steepest at the middle of each half: the sum of 1/k^2 or 1/k^4 over the rings
        assert lower.abs().argmax().item() == (len(lower) // 2) * side + side // 2


def test_a_given_target_is_reached_past_other_classes(linear: Callable) -> None:
    net = linear(torch.tensor([[0.0] * 9, [1.0] * 9, [2.0] * 9]), torch.tensor([0.0, -0.3, -0.9]))
    x, y = torch.zeros(3, 1, 3, 3), torch.zeros(3).long()
    for norm, eps in (("linf", 0.3), ("l2", 0.6), ("l1", 1.2)):
        found = run("square(queries=300)", net, x, y, f"{norm}({eps})", target=torch.full((3,), 2))
        assert found.success.all()
        assert found.forwards.max() < 300


def test_rows_of_a_search_go_together() -> None:
    class Plain(Search):
        """The least that a search needs."""

        squares, extra = 1, 0

        def _side(self, side: float) -> int:
            return 1

        def _start(self, oracle: Oracle) -> Tensor:
            return self.x.clone()

        def _changed(self, place: int) -> Tensor:
            return self.x_adv

        def _keep(self, better: Tensor) -> None:
            pass

    search = Plain(Oracle(nn.Identity(), torch.arange(3)), torch.rand(3, 1, 2, 2), THREATS.parse("linf(0.1)"))
    search.propose(Oracle(nn.Identity(), torch.arange(3)), 0, 0.5)
    search.rows(torch.tensor([True, False, True]))
    assert {len(value) for value in vars(search).values() if isinstance(value, Tensor)} == {2}


def test_classification_by_a_hair_is_a_success_only_when_the_prediction_changes(
    net: nn.Module, data: SimpleNamespace
) -> None:
    found = run("square(queries=150)", net, data.x, data.y, "linf(0.1)")
    assert 0 < found.success.sum() < 8
    assert bool((found.forwards[found.success] < 150).all())
    assert bool((found.forwards[~found.success] == 150).all())


@pytest.mark.parametrize("setting", ["queries=0", "restarts=0", "p_init=0", "p_init=1.2", "horizon=0"])
def test_settings_that_can_attack_nothing_are_refused(setting: str) -> None:
    with pytest.raises(InputError, match="square: "):
        ATTACKS.parse(f"square({setting})")


def test_a_success_against_a_random_model_is_confirmed_once(data: SimpleNamespace, net: nn.Module) -> None:
    """One question of 20 draws, and one look more at what fools; it was two."""
    noisy = nn.Sequential(GaussianNoise(0.1), net)
    found = run("square(queries=1)", noisy, data.x, data.y, "linf(0.3)")
    assert set(found.forwards[~found.skipped].tolist()) <= {20, 40}
    assert 40 in found.forwards.tolist()

"""The gallery's data: exact where it fits, less where the page would grow too large, nothing where it cannot be."""

import base64
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest

from sparring.report import explorer, html


@pytest.fixture
def explorable(make_row, make_gallery, make_every_eps):
    def explorable(name="one", channels=3, side=12, count=4, eps=(0.1, 0.2, 0.3), threat="linf(0.3)", **changed):
        row = make_row(name)
        arrays = make_every_eps(make_gallery(channels, side, count), eps) | changed
        return replace(row, evaluation=replace(row.evaluation, arrays=arrays, threat=threat))

    return explorable


def packed(rows, room=explorer.BYTES):
    return json.loads(explorer.pack(rows, room) or "[]")


def unpacked(group, member, place):
    """Return what the page shows at each of a member's eps: (E, H, W, C)."""
    clean = np.frombuffer(zlib.decompress(base64.b64decode(group["images"][place]["clean"])), np.uint8)
    added = np.frombuffer(zlib.decompress(base64.b64decode(member["added"][place])), np.uint8)
    return (clean + added.reshape(-1, clean.size)).reshape(-1, *group["shape"])


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_back_to_the_byte(explorable, channels):
    row = explorable(channels=channels)
    arrays = row.evaluation.arrays
    arrays["gallery/at"][-1] = 255 - arrays["gallery/at"][-1]  # changes of more than half the range as well
    (group,) = packed([row])
    for place in range(4):
        shown = unpacked(group, group["rows"][0], place).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(shown, arrays["gallery/at"][:, place])


def test_what_is_said_is_the_likeliest_classes_and_the_true_one(explorable):
    p = np.full((3, 4, 1000), 1e-4)
    p[:, :, [7, 9, 11, 13]] = [0.5, 0.3, 0.08, 0.02]
    row = explorable(**{"gallery/p_at": p, "gallery/p_clean": p[0], "gallery/y": np.array([7, 9, 0, 5])})
    (group,) = packed([row])
    said = [of[1] for of in group["rows"][0]["said"]]
    assert said[0] == [7, 500, 9, 300, 11, 80, 13, 20]
    assert said[1] == [7, 300, 7, 500, 11, 80, 13, 20]
    assert said[2] == [7, 0, 7, 500, 9, 300, 11, 80]
    assert {int(number) for number in group["classes"]} == {0, 5, 7, 9, 11, 13}


def test_rows_are_compared_only_on_the_same_examples_in_the_same_norm(explorable):
    other = explorable("other examples", **{"gallery/ids": np.arange(4)})
    rows = [explorable("a"), explorable("l2", threat="l2(0.5)"), explorable("b", eps=(0.1, 0.25)), other]
    groups = packed(rows)
    assert [[member["name"] for member in group["rows"]] for group in groups] == [
        ["a", "b"],
        ["l2"],
        ["other examples"],
    ]
    assert groups[0]["eps"] == ["0", "0.1", "0.2", "0.25", "0.3"]
    assert [member["at"] for member in groups[0]["rows"]] == [[0, 1, 2, 4], [0, 1, 3]]


@pytest.mark.parametrize(
    "broken",
    [
        {"gallery/eps": np.array([0.1, 0.3, 0.2])},
        {"gallery/eps": np.array([0.1, np.nan, 0.3])},
        {"gallery/eps": np.array(["a", "b", "c"])},
        {"gallery/eps": np.zeros((0,)), "gallery/at": np.zeros((0, 4, 3, 12, 12), np.uint8)},
        {"gallery/at": np.zeros((3, 4, 3, 12, 11), np.uint8)},
        {"gallery/at": np.zeros((3, 4, 3, 12, 12), np.float32)},
        {"gallery/p_at": np.zeros((3, 4, 5))},
        {"gallery/p_clean": np.zeros(())},
        {"gallery/ids": np.zeros((4, 2))},
        {"gallery/y": np.zeros(3)},
        {"gallery/x": np.zeros((0, 3, 12, 12))},
    ],
)
def test_arrays_that_do_not_fit_together_are_left_to_the_strips(explorable, make_study, broken):
    row = explorable(**broken)
    assert packed([row]) == []
    assert 'id="explorer"' not in html.render(make_study(row))


@pytest.mark.parametrize("missing", ["ids", "y", "x", "p_clean", "eps", "at", "p_at"])
def test_a_missing_array_is_no_gallery_to_explore(explorable, missing):
    row = explorable()
    del row.evaluation.arrays[f"gallery/{missing}"]
    assert explorer.explorable([row]) == ()


def test_one_eps_one_class_and_no_figures_are_enough(explorable):
    nothing = np.full((1, 1, 1), np.nan)
    row = explorable(count=1, eps=(np.inf,), **{"gallery/p_at": nothing, "gallery/p_clean": nothing[0]})
    (group,) = packed([row])
    assert group["eps"] == ["0", "∞"]
    assert group["rows"][0]["said"] == [[[0, 0], [0, 0]]]


@pytest.mark.parametrize("shape", [(1, 300), (7, 5), (2, 400)])
def test_images_of_any_shape_are_shrunk_to_something(explorable, make_study, shape):
    x = np.full((4, 3, *shape), 0.5, np.float32)
    at = np.full((3, *x.shape), 140, np.uint8)
    row = explorable(**{"gallery/x": x, "gallery/x_adv": x, "gallery/at": at})
    (group,) = packed([row], 20_000)
    assert min(group["shape"]) >= 1
    assert "Example 70" in html.render(make_study(row))


@pytest.mark.parametrize("room", [400_000, 60_000, 20_000])
def test_less_room_keeps_less_and_always_the_largest_eps(explorable, room):
    rows = [explorable(str(n), side=64, count=10, eps=tuple(0.05 * k for k in range(1, 9))) for n in range(3)]
    text = explorer.pack(rows, room)
    (group,) = json.loads(text)
    assert 0 < len(text) <= room
    assert group["eps"][-1] == "0.4"
    assert group["total"] == 10


def test_no_room_is_no_gallery_and_leaves_the_page_whole(explorable):
    assert explorer.pack([explorable()], 100) == ""
    assert explorer.pack([], 100_000) == ""


def test_a_page_of_many_large_images_stays_below_eight_megabytes(make_row, make_study, make_gallery, make_audit):
    """As many rows as any study has, images as large as ImageNet's, as many classes, and pixels that do not deflate."""
    rng = np.random.default_rng(0)
    arrays = make_gallery(3, 224, 10)
    arrays |= {
        "gallery/p_clean": rng.dirichlet(np.ones(1000), 10),
        "gallery/p_adv": rng.dirichlet(np.ones(1000), 10),
        "gallery/eps": np.arange(1, 9) / 255,
        "gallery/at": rng.integers(0, 256, (8, 10, 3, 224, 224), np.uint8),
        "gallery/p_at": rng.dirichlet(np.ones(1000), (8, 10)),
    }
    row = make_row("row")
    judged = replace(
        row.evaluation, arrays=arrays, classes=tuple(f"class {n}" for n in range(1000)), audit=make_audit("fail")
    )
    page = html.render(make_study(*(replace(row, name=f"row {n}", evaluation=judged) for n in range(21))))
    assert len(page.encode()) <= 8_000_000
    assert 'id="pictures">[{' in page

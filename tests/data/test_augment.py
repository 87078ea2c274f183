"""Augmentations against a slow reference, one image at a time."""

import math

import pytest
import torch
from torch import Tensor

from sparring.core.errors import InputError
from sparring.data.augment import AUGMENTATIONS, Augmentation, Blur, Crop, Flip, cut, draw_flips, draw_offsets, mirror


def images(dtype: torch.dtype = torch.uint8, count: int = 64) -> Tensor:
    x = torch.randint(1, 256, (count, 3, 7, 9), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return x if dtype == torch.uint8 else x.to(dtype) / 255


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_cut(image: Tensor, padding: int, top: int, left: int) -> Tensor:
    height, width = image.shape[1:]
    out = torch.zeros_like(image)
    for row in range(height):
        for column in range(width):
            r, c = row + top - padding, column + left - padding
            if 0 <= r < height and 0 <= c < width:
                out[:, row, column] = image[:, r, c]
    return out


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("padding", [0, 1, 4, 12])
def test_crop_equals_a_slow_reference_to_the_bit(dtype: torch.dtype, padding: int) -> None:
    x = images(dtype, count=16)
    offsets = draw_offsets(len(x), padding, generator(3))
    expected = torch.stack([slow_cut(x[i], padding, *map(int, offsets[:, i])) for i in range(len(x))])
    assert torch.equal(cut(x, padding, offsets), expected)
    assert torch.equal(Crop(padding=padding)(x, generator(3)), expected)


def test_every_offset_is_drawn_and_none_beyond() -> None:
    offsets = draw_offsets(4000, 2, generator())
    for axis in offsets:
        counts = axis.bincount()
        assert len(counts) == 5
        assert (counts - 800).abs().max() < 130  # five standard deviations
    assert not torch.equal(offsets[0], offsets[1])


def test_flip_gives_the_exact_mirror_or_the_exact_image_about_half_each() -> None:
    x = images(count=1000)
    out = Flip()(x, generator(1))
    kept, turned = (out == x).flatten(1).all(1), (out == x.flip(3)).flatten(1).all(1)
    assert (kept ^ turned).all()
    assert 400 < int(turned.sum()) < 600


def test_crop_flip_is_a_crop_and_then_a_flip_with_draws_of_their_own() -> None:
    x, source = images(), generator(5)
    offsets, flips = draw_offsets(len(x), 4, source), draw_flips(len(x), source)
    assert torch.equal(AUGMENTATIONS.parse("crop_flip()")(x, generator(5)), mirror(cut(x, 4, offsets), flips))


@pytest.mark.parametrize("augmentation", [component() for component in AUGMENTATIONS])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_it_is_seeded_keeps_shape_and_type_and_leaves_no_trace(augmentation: Augmentation, dtype: torch.dtype) -> None:
    x = images(dtype)
    before, state = x.clone(), torch.get_rng_state()
    one, again, other = (augmentation(x, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert (one.shape, one.dtype) == (x.shape, x.dtype)
    assert torch.equal(one, other) == (augmentation.name in ("none", "blur"))


def test_an_empty_and_a_single_image_batch_go_through() -> None:
    for augmentation in AUGMENTATIONS:
        assert augmentation()(images()[:0], generator()).shape == (0, 3, 7, 9)
        assert augmentation()(images()[:1], generator()).shape == (1, 3, 7, 9)


def test_negative_padding_is_refused() -> None:
    with pytest.raises(InputError, match="crop_flip: padding"):
        AUGMENTATIONS.parse("crop_flip(padding=-1)")


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("size", "sigma"), [(1, 1.0), (3, 0.8), (5, 5.0)])
def test_blur_is_the_weighted_mean_of_what_lies_around(dtype: torch.dtype, size: int, sigma: float) -> None:
    x = images(dtype, count=3)
    reach = size // 2
    offsets = range(-reach, reach + 1)
    weight = {(r, c): math.exp(-(r * r + c * c) / (2 * sigma**2)) for r in offsets for c in offsets}

    def mirrored(place: int, length: int) -> int:
        return abs(place) if place < length else 2 * (length - 1) - place

    expected = torch.zeros(x.shape)
    for row in range(7):
        for column in range(9):
            for (r, c), w in weight.items():
                at = x[:, :, mirrored(row + r, 7), mirrored(column + c, 9)].float()
                expected[:, :, row, column] += w / sum(weight.values()) * at
    blurred = Blur(size=size, sigma=sigma)(x, generator())
    assert blurred.dtype == dtype
    assert torch.allclose(blurred.float(), expected.round() if dtype == torch.uint8 else expected, atol=1e-5)


@pytest.mark.parametrize("call", ["blur(size=4)", "blur(size=-1)", "blur(sigma=0)"])
def test_a_blur_that_is_none_is_refused(call: str) -> None:
    with pytest.raises(InputError, match="blur: "):
        AUGMENTATIONS.parse(call)
    with pytest.raises(InputError, match="too large for images of 7x9"):
        Blur(size=15)(images(), generator())


@pytest.mark.parametrize("augmentation", [component() for component in AUGMENTATIONS])
def test_it_changes_images_where_they_are(augmentation: Augmentation, other_device: torch.device) -> None:
    x = images()
    changed = augmentation(x.to(other_device), torch.Generator(other_device).manual_seed(0))
    assert changed.device == other_device
    assert torch.equal(changed.cpu(), augmentation(x, generator()))

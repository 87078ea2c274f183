"""The images: faithful to the byte where they fit, fewer or smaller where the page would grow too large."""

import base64
import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sparring.report import gallery


@pytest.fixture
def strip(make_row):
    def strip(arrays, rows=1):
        return gallery.strip(replace(make_row("one").evaluation, arrays=arrays), rows)

    return strip


@pytest.mark.parametrize(("channels", "side", "mode"), [(1, 8, "L"), (3, 32, "RGB")])
def test_an_image_is_shown_to_the_byte(strip, make_gallery, channels, side, mode):
    arrays = make_gallery(channels, side)
    uri = gallery.data_uri(strip(arrays).examples[1].adversarial)
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        assert image.mode == mode
        shown = np.asarray(image).reshape(side, side, channels).transpose(2, 0, 1)
    np.testing.assert_array_equal(shown, np.rint(255 * arrays["gallery/x_adv"][1]))


def test_the_difference_is_magnified_by_a_whole_factor_about_grey(strip, make_gallery):
    made = strip(make_gallery(1, 8))
    assert made.factor == 5  # the largest change is 0.1
    assert set(np.unique(made.examples[0].difference)) <= {0, 255}
    assert gallery.magnification(np.zeros(3)) == 1
    assert gallery.magnification(np.array([-1.0, 0.2])) == 0.5
    assert gallery.magnification(np.array([8 / 255])) == 15


def test_an_example_says_what_it_is_called_and_what_became_of_it(strip, make_gallery):
    arrays = make_gallery(1, 8)
    arrays["gallery/y"] = np.array([0, 2, 1])
    arrays["gallery/p_adv"][2, 2], arrays["gallery/p_adv"][2, 0] = 0.1, 0.8
    examples = strip(arrays).examples
    assert [e.label for e in examples] == ["zero", "two", "one"]
    assert [e.verdict for e in examples] == ["fooled", "wrong already", "wrong already"]
    assert (examples[0].predicted_clean, examples[0].predicted, examples[0].confidence) == ("zero", "two", 0.8)


@pytest.mark.parametrize("missing", ["ids", "y", "x", "x_adv", "p_clean", "p_adv"])
def test_incomplete_arrays_are_no_gallery(strip, make_gallery, missing):
    arrays = make_gallery(1, 8)
    del arrays[f"gallery/{missing}"]
    assert strip(arrays) is None


def test_empty_or_unequal_arrays_are_no_gallery(strip, make_gallery):
    assert strip({}) is None
    assert strip(make_gallery(1, 8, 0)) is None
    assert strip(make_gallery(1, 8) | {"gallery/y": np.zeros(2)}) is None


def test_many_large_images_stay_within_the_pages_budget(strip, make_gallery):
    made = strip(make_gallery(3, 224, 5), rows=20)
    assert made.scale > 1
    assert 1 <= len(made.examples) <= made.total == 5
    assert 20 * sum(3 * example.clean.size for example in made.examples) <= gallery.BYTES


def test_what_cannot_be_shown_as_colours_is_shown_as_grey(strip, make_gallery):
    assert strip(make_gallery(2, 8)).examples[0].clean.shape == (8, 8)


def test_values_outside_the_range_do_not_wrap_around(strip, make_gallery):
    arrays = make_gallery(1, 8)
    arrays["gallery/x"][0, 0, 0, :3] = [-0.5, 1.5, np.nan]
    assert strip(arrays).examples[0].clean[0, :3].tolist() == [0, 255, 0]

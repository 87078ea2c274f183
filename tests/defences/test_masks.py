"""Every mask: what it does to an image, beside an independent library, and what it tells an attacker."""

import io
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import median_filter
from sklearn import decomposition
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import run
from sparring.attacks.adaptation import differentiable
from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.core.spec import Component
from sparring.core.trainable import Learner, Setup
from sparring.data import load
from sparring.defences import MASKS
from sparring.defences.masks import PCA, Mask
from sparring.defences.masks.defense_gan import Searching
from sparring.defences.masks.pca import principal_components
from sparring.generative.recovery import Recovery, recover
from sparring.models.mask import Masked
from sparring.recipe import Recipe, fit, open_run
from sparring.training.optimisers import Adam
from sparring.training.schedules import Constant

CALLS = {
    "pca(variance=0.9)": set(),
    "pca(components=5, examples=300)": set(),
    "reconstruct(model='autoencoder')": set(),
    "additive_noise(low=-0.1, high=0.2)": {"eot"},
    "smooth(sigma=0.2)": {"eot"},
    "downsample(factor=0.5)": set(),
    "downsample(factor=0.25, interpolation='nearest')": set(),
    "jpeg(quality=40)": {"bpda"},
    "bit_depth(bits=2)": {"bpda"},
    "median()": set(),
    "defense_vae(model='vae')": set(),
    "defense_gan(model='vae', recovery=recovery(steps=2), restarts=0)": {"bpda"},
    "defense_gan(model='vae', recovery=recovery(steps=2), restarts=2)": {"bpda", "eot"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the runs "autoencoder" and "vae" of generative models and "clean" of a classifier."""
    folder = tmp_path_factory.mktemp("runs")
    for name, call in (("autoencoder", "autoencoder(latent=8)"), ("vae", "vae(latent=8, width=8)")):
        fields = {"data": "digits()", "generative": call, "optimiser": "adam(lr=0.01)", "epochs": 2}
        fit(Recipe.of(fields), runs=folder, quiet=True).run.path.rename(folder / name)
    fields = {"data": "digits()", "model": "mlp(hidden=(16,))", "optimiser": "adam(lr=0.01)", "epochs": 3}
    fit(Recipe.of(fields), runs=folder, quiet=True).run.path.rename(folder / "clean")
    return folder


def setup(runs: Path, images: Tensor | None = None, shape: tuple[int, int, int] = (1, 8, 8)) -> Setup:
    train = load("digits()").train
    given = (
        (train.x, train.y, train.ids)
        if images is None
        else (images, torch.zeros(len(images)).long(), torch.arange(len(images)))
    )
    return Setup(
        shape, 10, nn.Identity, lambda net: Learner(net, Adam().build(net), Constant()), runs, training=lambda: given
    )


def some(count: int = 30) -> Tensor:
    return load("digits()").test.batch(torch.arange(count))[0]


def test_every_mask_is_in_the_catalogue_and_under_this_contract() -> None:
    def concrete(kind: type[Component]) -> set[type[Component]]:
        below = {sub for child in kind.__subclasses__() for sub in concrete(child)}
        return below | ({kind} if not getattr(kind, "__abstractmethods__", None) else set())

    assert {kind for kind in concrete(Mask) if kind.__module__.startswith("sparring.")} == set(MASKS)
    assert {MASKS.parse(call).name for call in CALLS} == {kind.name for kind in MASKS}


@pytest.mark.parametrize(("call", "declared"), CALLS.items())
def test_images_stay_images_and_the_mask_says_how_to_go_through_it(call: str, declared: set[str], runs: Path) -> None:
    module = MASKS.parse(call).fit(setup(runs))
    x = some()
    before, state = x.clone(), torch.get_rng_state()
    with seeded(0):
        seen = module(x)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert seen.shape == x.shape
    assert seen.dtype == x.dtype
    assert not torch.allclose(seen, x, atol=1e-3)
    if not call.startswith(("pca", "smooth")):
        assert 0 <= float(seen.detach().min()) <= float(seen.detach().max()) <= 1
    said = {str(word) for part in module.modules() for word in getattr(part, "adaptive", ())}
    assert said == declared
    assert not [p for p in module.parameters() if p.requires_grad]
    leaf = x.clone().requires_grad_(True)
    out = module(leaf)
    has_gradient = out.requires_grad and bool(torch.autograd.grad(out.square().sum(), leaf)[0].abs().sum() > 0)
    assert has_gradient == ("bpda" not in declared)


@pytest.mark.parametrize("call", CALLS)
def test_it_opens_again_with_its_run(call: str, runs: Path) -> None:
    fields = {"data": "digits()", "model": "mlp(hidden=(16,))", "optimiser": "adam(lr=0.01)"}
    recipe = Recipe.of({**fields, "defence": f"masked(masks=({call},), model='clean')"})
    fitted = fit(recipe, runs=runs, quiet=True)
    again = open_run(fitted.run.path).model
    assert isinstance(again, Masked)
    with seeded(3):
        one = fitted.model(some())
    with seeded(3):
        other = again(some())
    assert torch.equal(one, other)


@pytest.mark.parametrize("call", CALLS)
def test_it_is_fitted_and_attacked_on_another_device(
    call: str, runs: Path, tmp_path: Path, other_device: torch.device
) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    fields = {"data": "digits()", "model": "mlp(hidden=(16,))", "optimiser": "adam(lr=0.01)"}
    recipe = Recipe.of({**fields, "defence": f"masked(masks=({call},), model='clean')"})
    fitted = fit(recipe, runs=tmp_path / "runs", device=other_device.type, quiet=True)
    assert {tensor.device for tensor in fitted.model.state_dict().values()} == {other_device}
    test = load("digits()").test
    found = run("fgsm()", fitted.model, test.images()[:4].to(other_device), test.y[:4].to(other_device), "linf(0.05)")
    assert found.x.device == other_device


@pytest.mark.parametrize("count", [700, 40])
def test_pca_is_that_of_scikit_learn_with_many_images_and_with_few(count: int, runs: Path) -> None:
    images = load("digits()").train.x[:count]
    module = PCA(variance=0.9).fit(setup(runs, images))
    theirs = decomposition.PCA(n_components=0.9, svd_solver="full").fit(images.flatten(1).double().numpy() / 255)
    x = some()
    expected = theirs.inverse_transform(theirs.transform(x.flatten(1).double().numpy()))
    assert len(module.axes) == theirs.n_components_
    assert np.allclose(module(x).flatten(1).numpy(), expected, atol=1e-4)
    assert torch.allclose(module(module(x)), module(x), atol=1e-4)


def test_all_components_change_nothing_and_too_many_are_refused(runs: Path) -> None:
    images = (torch.rand(200, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8)
    small = setup(runs, images, (1, 4, 4))
    x = torch.rand(5, 1, 4, 4)
    assert torch.allclose(PCA(components=16).fit(small)(x), x, atol=1e-4)
    for components, most in ((17, 16), (300, 16)):
        with pytest.raises(InputError, match=f"asked for {components} components.*at most {most}"):
            PCA(components=components).fit(small)
    with pytest.raises(InputError, match="at most 9"):
        PCA(components=10, examples=10).fit(small)


def test_images_that_are_all_alike_have_one_component(runs: Path) -> None:
    images = torch.full((50, 1, 8, 8), 100, dtype=torch.uint8)
    images[25:, 0, 0, 0] = 200
    for count in (50, 20):
        module = PCA(variance=1.0).fit(setup(runs, images[15 : 15 + count] if count < 50 else images))
        assert module.axes.isfinite().all()
        assert float(module(images[:2] / 255).isfinite().float().mean()) == 1


@pytest.mark.parametrize("quality", [5, 30, 50, 75, 95])
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 9, 13), (1, 16, 8)])
def test_jpeg_is_that_of_a_jpeg_library(quality: int, shape: tuple[int, int, int]) -> None:
    """Smooth images with noise; libjpeg works in whole numbers, so here and there a wave is rounded the other way."""
    generator = torch.Generator().manual_seed(0)
    x = torch.nn.functional.interpolate(torch.rand(4, shape[0], 3, 3, generator=generator), shape[1:], mode="bicubic")
    x = (x + 0.05 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
    x = (x * 255).round() / 255
    ours = (MASKS.parse(f"jpeg(quality={quality})").blank(shape, {})(x) * 255).round().numpy()
    theirs = []
    for image in x:
        pixels = (image * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(2).numpy()
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling=0)
        opened = np.asarray(Image.open(file)).astype(float)
        theirs.append(opened.reshape(*shape[1:], shape[0]).transpose(2, 0, 1))
    apart, changed = np.abs(ours - np.stack(theirs)), np.abs(x.numpy() * 255 - np.stack(theirs))
    assert apart.mean() < 0.25 * changed.mean()
    assert np.quantile(apart, 0.9) <= 1


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_the_median_is_that_of_scipy(size: int) -> None:
    """By SciPy's own defaults, which are the authors': an edge's pixels are repeated, and even windows lie up left."""
    x = some(3)
    found = MASKS.parse(f"median(size={size})").blank((1, 8, 8), {})(x)
    assert np.allclose(found[:, 0].numpy(), np.stack([median_filter(image[0].numpy(), size) for image in x]))


def test_values_that_are_all_the_median_share_its_gradient() -> None:
    """In a flat area it went to one of nine, and FGSM left half as much again of a CNN behind it on MNIST."""
    leaf = torch.zeros(1, 1, 5, 5)
    leaf[0, 0, 2, 2], leaf[0, 0, 1, 1] = 1.0, -1.0
    leaf.requires_grad_()
    made = MASKS.parse("median()").blank((1, 5, 5), {})(leaf)
    (slope,) = torch.autograd.grad(made[0, 0, 2, 2], leaf)
    expected = torch.zeros(1, 1, 5, 5)
    expected[..., 1:4, 1:4] = 1 / 7
    expected[0, 0, 2, 2] = expected[0, 0, 1, 1] = 0
    assert torch.allclose(slope, expected)
    assert torch.equal(made, torch.zeros_like(made))


def test_the_median_hands_its_gradient_to_one_pixel() -> None:
    leaf = torch.rand(1, 1, 5, 5, requires_grad=True)
    (slope,) = torch.autograd.grad(MASKS.parse("median()").blank((1, 5, 5), {})(leaf)[0, 0, 2, 2], leaf)
    assert int((slope != 0).sum()) == 1
    assert float(slope.sum()) == 1


def test_bits_leave_as_many_levels() -> None:
    x = torch.linspace(0, 1, 256).view(1, 1, 16, 16)
    for bits in (1, 3, 8):
        found = MASKS.parse(f"bit_depth(bits={bits})").blank((1, 16, 16), {})(x)
        assert len(found.unique()) == 2**bits
        assert float((found - x).abs().max()) <= 0.5 / (2**bits - 1) + 1e-6
        assert torch.equal(MASKS.parse(f"bit_depth(bits={bits})").blank((1, 16, 16), {})(found), found)


def test_noise_lies_where_it_should_and_differs_each_time() -> None:
    module = MASKS.parse("additive_noise(low=-0.1, high=0.2)").blank((1, 8, 8), {})
    x = torch.full((500, 1, 8, 8), 0.5)
    one, other = module(x), module(x)
    assert -0.1 <= float((one - x).min()) < -0.09
    assert 0.19 < float((one - x).max()) <= 0.2001
    assert float((one - x).mean()) == pytest.approx(0.05, abs=0.005)
    assert not torch.equal(one, other)
    still = MASKS.parse("additive_noise(low=0, high=0)").blank((1, 8, 8), {})
    assert torch.equal(still(x), x)


def test_fewer_pixels_keep_what_is_even_and_lose_what_is_fine() -> None:
    even = torch.full((1, 1, 8, 8), 0.3)
    fine = (torch.arange(8)[:, None] + torch.arange(8)).remainder(2).float().view(1, 1, 8, 8)
    for way in ("nearest", "bilinear", "bicubic", "area"):
        module = MASKS.parse(f"downsample(factor=0.5, interpolation='{way}')").blank((1, 8, 8), {})
        assert torch.allclose(module(even), even, atol=1e-5)
        if way != "nearest":
            assert float((module(fine) - 0.5).abs()[..., 2:-2, 2:-2].max()) < 0.05
    nearest = MASKS.parse("downsample(factor=0.5, interpolation='nearest')").blank((1, 8, 8), {})
    assert len(nearest(fine).unique()) == 1  # aliasing: every second pixel


@pytest.mark.parametrize("quality", [40, 75])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_attacker_sees_which_waves_a_jpeg_keeps(quality: int, channels: int) -> None:
    """A step of one grey level by the mask's own gradient gains far more than one by the identity's."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(8, channels, 8, 8, generator=generator)
    x = F.interpolate(small, (40, 37), mode="bicubic", align_corners=False).clamp(0, 1)
    weights = torch.randn(x.shape, generator=generator)
    mask = MASKS.parse(f"jpeg(quality={quality})").blank((channels, 40, 37), {})
    leaf = x.clone().requires_grad_(True)
    with differentiable(mask):
        seen = mask(leaf)
    assert torch.allclose(seen, mask(x), atol=1e-6)  # in front of the classifier stands the real one
    (gradient,) = torch.autograd.grad((seen * weights).sum(), leaf)

    def gain(direction: Tensor) -> float:
        return float(((mask((x + direction.sign() / 255).clamp(0, 1)) - mask(x)) * weights).sum())

    assert gain(gradient) > 1.4 * gain(weights) > 0
    black = torch.zeros(1, channels, 16, 16, requires_grad=True)
    with differentiable(mask):
        (gradient,) = torch.autograd.grad((mask(black) * weights[:1, :, :16, :16]).sum(), black)
    assert float(gradient.abs().min()) > 0  # a flat image is no dead end


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("pca(variance=0)", "variance is a share"),
        ("pca(components=-1)", "at least 0"),
        ("additive_noise(low=0.2, high=0.1)", "low first"),
        ("downsample(factor=1)", "share of the sides"),
        ("downsample(interpolation='cubic')", "bicubic"),
        ("jpeg(quality=0)", "1 to 100"),
        ("bit_depth(bits=9)", "1 to 8"),
        ("median(size=0)", "at least 1"),
    ],
)
def test_bad_settings_end_in_one_clear_line(call: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        MASKS.parse(call)


def test_images_that_do_not_fit_are_refused() -> None:
    for call, shape, said in (
        ("jpeg()", (2, 8, 8), "one channel or three"),
        ("median(size=10)", (1, 4, 4), "too large"),
        ("downsample(factor=0.1)", (1, 4, 4), "leaves no pixel"),
    ):
        with pytest.raises(InputError, match=said):
            MASKS.parse(call).blank(shape, {})


def test_of_all_restarts_each_image_gets_its_nearest(runs: Path) -> None:
    module = MASKS.parse("defense_gan(model='vae', recovery=recovery(steps=2), restarts=5)").fit(setup(runs))
    x = some(40)
    with seeded(0):
        found = module(x)
    with seeded(0):
        starts = [torch.randn(40, 8) for _ in range(5)]
    settings = Recovery(steps=2, clipping="hard")
    errors = [recover(module.network, x, torch.zeros(40).long(), settings, start=start)[1] for start in starts]
    assert torch.allclose((found - x).square().flatten(1).mean(1), torch.stack(errors).amin(0), atol=1e-6)


@pytest.mark.parametrize("restarts", [0, 1, 5])
def test_what_stands_in_for_the_search_is_the_search(restarts: int, runs: Path) -> None:
    """From the same draws the same images, those of the nearest of all restarts."""
    module = MASKS.parse(f"defense_gan(model='vae', recovery=recovery(steps=4), restarts={restarts})").fit(setup(runs))
    assert isinstance(module, Searching)
    with seeded(0):
        found = module(some(20))
    with seeded(0):
        again = module.approximation(some(20).requires_grad_(True))
    assert torch.allclose(found, again, atol=1e-6)
    assert again.requires_grad


def test_without_restarts_an_image_is_cleaned_alike_whatever_its_mates(runs: Path) -> None:
    module = MASKS.parse("defense_gan(model='vae', recovery=recovery(steps=60, lr=0.5), restarts=0)").fit(setup(runs))
    x = some(60)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(module(x[order]), module(x)[order], atol=1e-4)


def test_the_cut_of_noisy_images_hides_no_gradient() -> None:
    """Black pixels that noise makes darker still: what a cut does to them must not look as if they did not matter."""
    module = MASKS.parse("additive_noise(low=-0.3, high=-0.1)").fit(setup(Path()))
    x = torch.zeros(2, 1, 8, 8, requires_grad=True)
    seen = module(x)
    assert float(seen.detach().abs().max()) == 0
    assert torch.equal(torch.autograd.grad(seen.sum(), x)[0], torch.ones_like(x))


def test_pca_is_fitted_on_examples_from_everywhere(runs: Path) -> None:
    images = torch.cat([torch.zeros(100, 1, 8, 8), torch.full((100, 1, 8, 8), 255)]).to(torch.uint8)
    assert 0.2 < float(PCA(examples=60).fit(setup(runs, images)).mean.mean()) < 0.8


def test_images_that_give_no_components_are_refused(runs: Path) -> None:
    one, broken = torch.rand(1, 1, 8, 8), torch.full((20, 1, 8, 8), math.nan)
    line = torch.linspace(0, 1, 30).view(-1, 1, 1, 1) * torch.rand(1, 1, 8, 8)
    for images, says in ((one, "1 image to fit on"), (broken, "no numbers"), (line, "differ in 1 only")):
        with pytest.raises(InputError, match=says):
            PCA(components=5).fit(setup(runs, images))


def test_masks_behind_others_take_what_leaves_the_range() -> None:
    x = torch.tensor([[-0.4, 0.2], [0.9, 1.7]]).view(1, 1, 2, 2)
    for call in ("bit_depth(bits=1)", "jpeg(quality=90)"):
        module = MASKS.parse(call).blank((1, 2, 2), {})
        assert torch.equal(module(x), module(x.clamp(0, 1)))


def test_a_model_of_another_shape_cannot_stand_in_front(runs: Path) -> None:
    with pytest.raises(InputError, match=r"vae draws images \(1, 8, 8\), and the data has \(1, 9, 9\)"):
        MASKS.parse("defense_vae(model='vae')").fit(setup(runs, shape=(1, 9, 9)))
    with pytest.raises(InputError, match="as many pixels as before"):
        MASKS.parse("downsample(factor=0.95)").fit(setup(runs))


def test_components_of_faint_images_are_not_lost_to_rounding() -> None:
    """With more images than pixels the covariance was taken in float32, a difference of numbers much larger than it."""
    x = 0.9 + 0.001 * torch.randn(500, 64, generator=torch.Generator().manual_seed(0)) * torch.linspace(1, 0.1, 64)
    _, axes, variances = principal_components(x)
    values, vectors = torch.linalg.eigh(torch.cov(x.double().T))
    assert torch.allclose(variances.double(), values.flip(0), rtol=1e-3)
    assert torch.allclose(
        (axes.double() @ vectors.flip(1)[:, :20]).abs().diagonal(), torch.ones(20).double(), atol=0.02
    )


@pytest.mark.parametrize("call", ["jpeg(quality=75)", "pca(components=20)"])
def test_a_mask_is_the_same_under_autocast(call: str, runs: Path) -> None:
    """Trained in bfloat16, a network once stood behind another mask than the one that it was judged behind."""
    mask, x = MASKS.parse(call), some(5)
    model = Masked((mask,), [mask.fit(setup(runs))], nn.Flatten())
    with torch.autocast("cpu", torch.bfloat16):
        assert not torch.equal(model.before(x).flatten(1), model(x))  # under it the mask by itself is another
        seen = model(x)
    assert torch.equal(seen, model(x))


def test_defense_gan_searches_in_inference_mode(runs: Path) -> None:
    module, x = MASKS.parse("defense_gan(model='vae', recovery=recovery(steps=2))").fit(setup(runs)), some(3)
    with torch.inference_mode():
        found = module(x)
    assert found.shape == x.shape


def test_components_are_as_many_however_little_images_differ(runs: Path) -> None:
    """What counts as rounding is a share of the variance; it was once a number."""
    images = 0.5 + 1e-5 * torch.randn(2000, 1, 4, 4)
    assert len(PCA(variance=0.99).fit(setup(runs, images, (1, 4, 4))).axes) >= 15

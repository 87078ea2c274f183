"""Images from elsewhere in a batch: which, how many, and with which labels."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks import FGSM, craft
from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.core.threat import Linf
from sparring.core.trainable import Learner, Setup, State
from sparring.data import load
from sparring.defences import DEFENCES, Adversarial, Generated, LatentMix, PixelMix, Standard
from sparring.defences.latent_mix import slerp
from sparring.defences.supplied import Supplied
from sparring.generative.codes import codes_of
from sparring.generative.recovery import Recovery
from sparring.generative.saved import load_generative
from sparring.models import MLP
from sparring.recipe import Recipe, fit
from sparring.training.optimisers import Adam
from sparring.training.schedules import Constant


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the runs "told" and "plain" of a conditional VAE and of one that is not, and "cnn"."""
    folder = tmp_path_factory.mktemp("runs")
    for name, conditional in (("told", "true"), ("plain", "false")):
        call = f"vae(latent=8, width=8, conditional={conditional})"
        fields = {"data": "digits()", "generative": call, "optimiser": "adam(lr=0.01)", "epochs": 8}
        fit(Recipe.of(fields), runs=folder, quiet=True).run.path.rename(folder / name)
    fields = {"data": "digits()", "model": "cnn()", "optimiser": "adam(lr=0.005)", "epochs": 6}
    fit(Recipe.of(fields), runs=folder, quiet=True).run.path.rename(folder / "cnn")
    return folder


@dataclass(frozen=True, kw_only=True)
class Spy(Standard):
    """Keeps what it is given."""

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        state.data["x"], state.data["y"] = x, y
        return super().step(state, x, y, progress=progress, generator=generator)


def setup(runs: Path, shape: tuple[int, int, int] = (1, 8, 8)) -> Setup:
    def classifier() -> nn.Module:
        with seeded(0):
            return MLP(hidden=(16,)).build(shape, 10)

    train = load("digits()").train
    return Setup(
        shape,
        10,
        classifier,
        lambda net: Learner(net, Adam().build(net), Constant()),
        runs,
        training=lambda: (train.x[:300], train.y[:300], train.ids[:300]),
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(size: int = 40) -> tuple[Tensor, Tensor]:
    return load("digits()").train.batch(torch.arange(size))


def given(supplied: Supplied, runs: Path) -> tuple[Tensor, Tensor, State]:
    """Return the images and labels that the defence inside gets of a batch of 40, and the state."""
    state = supplied.init(setup(runs))
    supplied.step(state, *batch(), progress=0.0, generator=generator())
    return state.data["x"], state.data["y"], state


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_a_share_of_the_batch_is_replaced_and_the_rest_stays(share: float, runs: Path) -> None:
    images, labels, _ = given(PixelMix(defence=Spy(), share=share, weights=(0.25,)), runs)
    x, y = batch()
    count = max(1, round(40 * share))
    assert images.shape == x.shape
    assert torch.equal(images[count:], x[count:])
    assert torch.equal(labels[count:], F.one_hot(y[count:], 10).float())
    assert not torch.equal(images[:count], x[:count]) or count == 1


def test_pixels_and_labels_are_mixed_in_the_same_proportion(runs: Path) -> None:
    images, labels, _ = given(PixelMix(defence=Spy(), share=1, weights=(0.25,)), runs)
    x, y = batch()
    one_hot = F.one_hot(y, 10).float()
    for place in range(40):
        partner = ((images[place] - 0.25 * x[place]) / 0.75 - x).abs().flatten(1).amax(1).argmin()
        assert torch.allclose(images[place], 0.25 * x[place] + 0.75 * x[partner], atol=1e-5)
        assert torch.allclose(labels[place], 0.25 * one_hot[place] + 0.75 * one_hot[partner])


@pytest.mark.parametrize("call", ["pixel_mix()", "latent_mix(model='plain', recovery=recovery(steps=0), least_psnr=0)"])
def test_each_image_has_a_proportion_of_its_own(call: str, runs: Path) -> None:
    mix = DEFENCES.parse(call)
    assert isinstance(mix, Supplied)
    state = mix.init(setup(runs))
    x, y = batch()
    images, shares = mix.supply(state, x, y, generator())
    assert torch.allclose(shares.sum(1), torch.ones(40))
    assert len(shares.amax(1).unique()) > 20
    assert 0 <= float(images.min()) <= float(images.max()) <= 1


def test_at_the_end_of_the_path_lies_a_recovered_image(runs: Path) -> None:
    mix = LatentMix(model="told", weights=(1.0,), recovery=Recovery(steps=5), least_psnr=8.0)
    whole = setup(runs)
    state = mix.init(whole)
    x, y = batch()
    images, shares = mix.supply(state, x, y, generator())
    codes, labels = state.data["codes"], state.data["labels"]
    network = load_generative(runs / "told")
    recovered = network.decode(codes, labels).detach()
    nearest = (images[:, None] - recovered[None]).flatten(2).abs().amax(2)
    assert float(nearest.amin(1).max()) < 1e-5
    assert torch.equal(shares.argmax(1), labels[nearest.argmin(1)])
    assert torch.equal(shares.amax(1), torch.ones(40))


@pytest.mark.parametrize("path", ["linear", "spherical"])
def test_between_the_codes_it_draws_what_the_model_draws_there(path: str, runs: Path) -> None:
    mix = DEFENCES.parse(f"latent_mix(model='told', weights=(0.3,), recovery=recovery(steps=0), path='{path}')")
    assert isinstance(mix, LatentMix)
    state = mix.init(setup(runs))
    images, shares = mix.supply(state, *batch(3), generator())
    one, other = torch.randint(len(state.data["codes"]), (2, 3), generator=generator())
    z, w = state.data["codes"][one], state.data["codes"][other]
    between = slerp(w, z, torch.full((3, 1), 0.3)) if path == "spherical" else 0.3 * z + 0.7 * w
    labels = F.one_hot(state.data["labels"], 10).float()
    expected = 0.3 * labels[one] + 0.7 * labels[other]
    assert torch.allclose(shares, expected)
    assert torch.allclose(images, load_generative(runs / "told").decode(between, expected).detach(), atol=1e-5)
    assert not images.requires_grad


def test_a_great_circle_keeps_the_length_and_has_no_holes() -> None:
    start, end = F.normalize(torch.randn(2, 5, 8, generator=generator()), dim=2) * 3
    way = torch.stack([slerp(start, end, torch.full((5, 1), share)) for share in (0.0, 0.25, 0.5, 1.0)])
    assert torch.allclose(way[0], start, atol=1e-5)
    assert torch.allclose(way[-1], end, atol=1e-5)
    assert torch.allclose(way.norm(dim=2), torch.full((4, 5), 3.0), atol=1e-5)
    angle = F.cosine_similarity(start, way[1]).acos() / F.cosine_similarity(start, end).acos()
    assert torch.allclose(angle, torch.full((5,), 0.25), atol=1e-4)
    for twin in (start, -start, torch.zeros_like(start), 2 * start):
        assert torch.allclose(slerp(start, twin, torch.full((5, 1), 0.5)), (start + twin) / 2, atol=1e-4)


def test_badly_recovered_images_are_left_out_and_counted(runs: Path, tmp_path: Path) -> None:
    found = codes_of("plain", load("digits()").train, Recovery(steps=3), runs=runs, device=torch.device("cpu"))
    middle = float(found.psnr.median())
    call = f"latent_mix(model='plain', recovery=recovery(steps=3), least_psnr={middle})"
    recipe = Recipe.of({"data": "digits()", "model": "mlp()", "defence": call, "epochs": 1})
    (runs / "here").mkdir(exist_ok=True)
    fitted = fit(recipe, runs=runs, quiet=True)
    assert fitted.run.read_metrics()[0].metrics["left_out"] == int((found.psnr < middle).sum())
    with pytest.raises(InputError, match="no image comes back with 99 dB from plain; the best has"):
        LatentMix(model="plain", recovery=Recovery(steps=3), least_psnr=99).init(setup(runs))


def test_drawn_images_are_of_the_classes_they_are_labelled_with(runs: Path) -> None:
    """A classifier of real digits agrees with most of them."""
    from sparring.models.saved import load as load_classifier

    mix = Generated(model="told", defence=Spy())
    images, labels, _ = given(mix, runs)
    assert torch.equal(labels.argmax(1), batch()[1])
    assert torch.equal(labels.sum(1), torch.ones(40))
    agrees = load_classifier(runs / "cnn")(images).argmax(1) == labels.argmax(1)
    assert float(agrees.float().mean()) > 0.6


def test_inside_adversarial_training_the_attack_is_on_the_larger_share_and_the_loss_on_both(runs: Path) -> None:
    net = setup(runs).classifier()
    x, _ = batch(6)
    shares = torch.zeros(6, 10)
    shares[:, 3], shares[:, 5] = 0.7, 0.3
    defence = Adversarial(attack=FGSM(), threat=Linf(0.1), mix=0.5)
    loss, metrics = defence.loss(net, x, shares, progress=0, generator=generator())
    x_adv = craft(FGSM(), net, x, torch.full((6,), 3), Linf(0.1), seed=0)
    entropies = [-(shares * net(images).log_softmax(1)).sum(1).mean() for images in (x, x_adv)]
    assert torch.allclose(loss, sum(entropies) / 2, atol=1e-5)
    assert float(metrics["accuracy"]) == float((net(x).argmax(1) == 3).float().mean())


@pytest.mark.parametrize("inside", ["standard()", "adversarial(attack=fgsm(), threat=linf(0.1))"])
@pytest.mark.parametrize("at", [3, 10])
def test_it_goes_on_to_the_same_bits(
    inside: str,
    at: int,
    runs: Path,
    recipe: Callable[..., Recipe],
    same_after_a_break: Callable[[Recipe, int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(runs)
    call = f"latent_mix(model='plain', recovery=recovery(steps=2), least_psnr=5, defence={inside})"
    same_after_a_break(recipe(defence=call), at)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("pixel_mix(share=0)", "share is the part of each batch"),
        ("pixel_mix(share=1.1)", "share is the part of each batch"),
        ("pixel_mix(alpha=0)", "alpha of the Beta"),
        ("pixel_mix(weights=(0.1, 1.2))", "weights are proportions"),
        ("latent_mix(model='r', weights=(-1,))", "weights are proportions"),
        ("pixel_mix(defence=mart(threat=linf(0.1)))", "takes shares of classes, not mart"),
        ("generated(model='r', defence=mixup())", "takes shares of classes, not mixup"),
        ("pixel_mix(defence=pixel_mix())", "takes shares of classes, not pixel_mix"),
        ("pixel_mix(defence=ema(defence=mart(threat=linf(0.1))))", "takes shares of classes, not ema"),
        ("manifold_mixup(layers=('1',), attack=fgsm())", "attack and threat go together"),
    ],
)
def test_bad_settings_end_in_one_clear_line(call: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        DEFENCES.parse(call)


def test_models_that_cannot_serve_are_refused(runs: Path) -> None:
    with pytest.raises(InputError, match="plain is not conditional"):
        Generated(model="plain").init(setup(runs))
    with pytest.raises(InputError, match=r"told is of 10 classes of images \(1, 8, 8\); .* has 10 of \(1, 9, 9\)"):
        Generated(model="told").init(setup(runs, (1, 9, 9)))
    with pytest.raises(InputError, match="no generative model"):
        LatentMix(model="cnn").init(setup(runs))
    with pytest.raises(InputError, match=r"^latent_mix: model: nowhere: there is no such file or folder$"):
        LatentMix(model="nowhere").init(setup(runs))


@pytest.mark.parametrize("defence", [Generated(model="told"), LatentMix(model="told", recovery=Recovery(steps=1))])
def test_a_conditional_model_of_the_classes_in_another_order_is_refused(defence: Supplied, runs: Path) -> None:
    """It once drew images of one class for another: the network was then wrong on every real one."""
    names = list(load("digits()").classes)
    other = replace(setup(runs), description={"classes": names[::-1]})
    with pytest.raises(InputError, match="told has its classes in this order: "):
        defence.init(other)
    assert defence.init(replace(setup(runs), description={"classes": names}))


def test_a_conditional_model_of_other_classes_is_refused(runs: Path) -> None:
    other = replace(setup(runs), classes=7)
    with pytest.raises(InputError, match=r"told is of 10 classes of images .*; the data has 7 of"):
        LatentMix(model="told", recovery=Recovery(steps=1), least_psnr=1).init(other)

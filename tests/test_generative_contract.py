"""Every generative model: finite steps, checkpoint round trip to the bit, images in [0, 1], and it learns."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sparring.core.errors import InputError, TrainingError
from sparring.core.randomness import seeded
from sparring.core.spec import Component
from sparring.core.trainable import Learner, Setup, State
from sparring.data import load
from sparring.generative import GAN, GENERATIVES, Generative, GenerativeNetwork, rivals
from sparring.generative.base import SPREAD, watch_spread
from sparring.generative.networks import halvings
from sparring.generative.rivals import Rivals
from sparring.generative.saved import load_generative
from sparring.models.saved import load as load_classifier
from sparring.recipe import Recipe, fit, open_run, run_of
from sparring.studies.judge import Judgement, judge
from sparring.training.optimisers import Adam
from sparring.training.schedules import Constant

CALLS = (
    "gan(latent=8, width=8)",
    "gan(latent=8, width=8, conditional=true, steadied='r1', discriminator_updates=2)",
    "gan(latent=8, width=8, steadied='none', average=0, discriminator_optimiser=adam(lr=0.002))",
    "wgan_gp(latent=8, width=8, discriminator_updates=2)",
    "wgan_gp(latent=8, width=8, discriminator_updates=1, conditional=true)",
    "vae(latent=8, width=8)",
    "vae(latent=8, width=8, conditional=true, beta=0.5)",
    "autoencoder(latent=8, hidden=(32, 16))",
    "autoencoder(latent=8, hidden=(), tied=true)",
    "conv_autoencoder(latent=8, width=8)",
    "conv_autoencoder(latent=8, width=8, tied=true)",
    "conv_autoencoder(latent=11760, width=8, spatial=true)",  # a multiple of each shape's places
    "conv_autoencoder(latent=11760, width=8, spatial=true, tied=true)",
)
TIED = (
    "autoencoder(hidden=(32,), tied=true)",
    "conv_autoencoder(width=8, tied=true)",
    "conv_autoencoder(width=8, tied=true, spatial=true)",
)
SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 5, 7), (3, 4, 4), (2, 12, 20))


def setup(shape: tuple[int, int, int] = (1, 8, 8), classes: int = 10) -> Setup:
    return Setup(shape, classes, nn.Identity, lambda net: Learner(net, Adam(lr=0.002).build(net), Constant()))


def batch(size: int = 32) -> tuple[Tensor, Tensor]:
    return load("digits()").train.batch(torch.arange(size))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(call: str, shape: tuple[int, int, int] = (1, 8, 8), classes: int = 10) -> GenerativeNetwork:
    with seeded(0):
        return GENERATIVES.parse(call).build(shape, classes).eval()


def test_every_generative_model_is_in_the_catalogue_and_under_this_contract() -> None:
    def concrete(kind: type[Component]) -> set[type[Component]]:
        below = {sub for child in kind.__subclasses__() for sub in concrete(child)}
        return below | ({kind} if not getattr(kind, "__abstractmethods__", None) else set())

    assert {kind for kind in concrete(Generative) if kind.__module__.startswith("sparring.")} == set(GENERATIVES)
    assert {GENERATIVES.parse(call).name for call in CALLS} == {kind.name for kind in GENERATIVES} - {"encoding"}


@pytest.mark.parametrize("call", CALLS)
def test_steps_are_finite_move_the_networks_and_round_trip_through_a_checkpoint(call: str) -> None:
    model = GENERATIVES.parse(call)
    x, y = batch()

    def steps(state: State, count: int, source: torch.Generator) -> None:
        for learner in state.learners.values():
            learner.network.train()
        for _ in range(count):
            metrics = model.step(state, x, y, progress=0.5, generator=source)
            assert all(bool(value.isfinite()) and not value.requires_grad for value in metrics.values())
            assert "loss" in metrics

    one, other, source = model.init(setup()), model.init(setup()), generator()
    before = {name: [p.clone() for p in learner.network.parameters()] for name, learner in one.learners.items()}
    steps(one, 2, source)
    for name, learner in one.learners.items():
        moved = [not torch.equal(a, b) for a, b in zip(before[name], learner.network.parameters(), strict=True)]
        assert moved.count(False) <= (model.name == "wgan_gp")  # whose discriminator's last bias cancels out
        assert all(p.requires_grad for p in learner.network.parameters())
    other.load_state_dict(one.state_dict())
    twin = generator()
    twin.set_state(source.get_state())
    for state, draws in ((one, source), (other, twin)):
        steps(state, 2, draws)
    a, b = model.deploy(one).state_dict(), model.deploy(other).state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_codes_become_images_of_any_shape(call: str, shape: tuple[int, int, int]) -> None:
    network = made(call, shape, classes=3)
    z, y = torch.randn(5, network.latent, generator=generator()), torch.tensor([0, 1, 2, 0, 1])
    x = network.decode(z, y).detach()
    assert x.shape == (5, *shape)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    alone = torch.cat([network.decode(z[i : i + 1], y[i : i + 1]) for i in range(5)])
    assert torch.allclose(alone, x, atol=1e-5)
    if network.encoder is not None:
        assert network.encode(x, y).shape == (5, network.latent)
    if network.about.conditional:
        shares = torch.eye(3)[y]
        assert torch.equal(network.decode(z, shares), x)
        assert not torch.allclose(network.decode(z, 1 - shares), x)
        with pytest.raises(InputError, match="is conditional; give the labels"):
            network.decode(z)
    else:
        assert torch.equal(network.decode(z), x)


@pytest.mark.parametrize("call", CALLS)
def test_it_trains_on_another_device(call: str, other_device: torch.device, tmp_path: Path) -> None:
    recipe = Recipe.of({"data": "digits()", "generative": call, "optimiser": "adam()", "epochs": 1, "limit": 200})
    network = fit(recipe, runs=tmp_path, device=other_device.type, quiet=True).model
    assert isinstance(network, GenerativeNetwork)
    assert {tensor.device for tensor in network.state_dict().values()} == {other_device}
    y = torch.arange(4, device=other_device) if network.about.conditional else None
    made = network.decode(torch.rand(4, network.latent, device=other_device), y)
    assert made.device == other_device
    assert bool(made.isfinite().all())


@pytest.mark.parametrize("call", CALLS)
def test_it_learns_and_its_run_opens_again(call: str, tmp_path: Path) -> None:
    rate = 0.003 if isinstance(GENERATIVES.parse(call), Rivals) else 0.01
    fields = {"data": "digits()", "generative": call, "optimiser": f"adam(lr={rate})", "epochs": 8, "batch_size": 64}
    recipe = Recipe.of(fields)
    assert Recipe.of({**fields, "seed": 1}) != recipe
    fitted = fit(recipe, runs=tmp_path, quiet=True)
    (tmp_path / "again.toml").write_text(fitted.run.read_recipe())
    assert Recipe.read(tmp_path / "again.toml") == recipe
    network = open_run(fitted.run.path).model
    assert isinstance(network, GenerativeNetwork)
    assert not network.training
    assert network.about == recipe.generative
    test = load("digits()").test
    x, y = test.batch(torch.arange(200))
    if network.about.draws:
        z = network.draw(200, generator())
        off = [(one.decode(z, y).mean(0) - x.mean(0)).abs().mean() for one in (network, made(call))]
        assert off[0] < 0.5 * off[1]
    if network.encoder is not None:
        again = network.decode(network.encode(x, y), y)
        assert (again - x).square().mean() < 0.9 * (x - x.mean(0)).square().mean()  # better than the mean image
    last = fitted.run.read_metrics()[-1].metrics
    assert last["spread" if network.about.draws else "psnr"] > 0.2


@pytest.mark.parametrize("at", [3, 9])
@pytest.mark.parametrize("call", [CALLS[1], CALLS[3], CALLS[6], CALLS[8]])
def test_it_goes_on_to_the_same_bits(call: str, at: int, same_after_a_break: Callable[[Recipe, int], None]) -> None:
    fields = {
        "data": "digits()",
        "generative": call,
        "optimiser": "adam()",
        "epochs": 2,
        "limit": 320,
        "batch_size": 64,
    }
    same_after_a_break(Recipe.of(fields), at)


def test_the_discriminator_learns_nothing_while_the_decoder_does() -> None:
    """However large the decoder's loss, the discriminator's gradients stay those of its own."""

    @dataclass(frozen=True, kw_only=True)
    class Loud(GAN):
        def decoder_loss(self, logits: Tensor) -> Tensor:
            return 1000 * super().decoder_loss(logits)

    gradients = []
    for model in (GAN(latent=8, width=8), Loud(latent=8, width=8)):
        with seeded(0):
            state = model.init(setup())
        model.step(state, *batch(), progress=0, generator=generator())
        gradients.append([p.grad for p in state.learners["discriminator"].network.parameters()])
    assert all(a is not None and torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_the_game_of_a_gan_is_that_of_its_formula() -> None:
    """Two discriminators' losses and the decoder's, read slowly: Goodfellow et al. 2014, section 3, non-saturating."""
    model = GENERATIVES.parse("gan(latent=8, width=8, steadied='r1', penalty=3)")
    assert isinstance(model, Rivals)
    discriminator = model.discriminator((1, 8, 8), 0)
    x, _ = batch(16)
    drawn = torch.rand(16, 1, 8, 8, generator=generator())
    none = torch.zeros(16, 0)
    leaf = x.clone().requires_grad_(True)
    chance = discriminator(leaf, none).sigmoid()
    (slope,) = torch.autograd.grad((chance / (1 - chance)).log().sum(), leaf)
    expected = -chance.log().mean() - (1 - discriminator(drawn, none).sigmoid()).log().mean()
    expected = expected + 3 / 2 * slope.pow(2).sum((1, 2, 3)).mean()
    assert torch.allclose(model.discriminator_loss(discriminator, x, drawn, none, generator()), expected, rtol=1e-4)
    logits = torch.linspace(-3, 3, 7)
    assert torch.allclose(model.decoder_loss(logits), -logits.sigmoid().log().mean())


def test_the_discriminator_of_a_wgan_pays_for_every_slope_but_one() -> None:
    """With a linear discriminator the penalty has a closed form, whatever the points between."""

    class Linear(nn.Module):
        def forward(self, x: Tensor, _shares: Tensor) -> Tensor:
            return 2 * x.flatten(1).sum(1)

    model = GENERATIVES.parse("wgan_gp(penalty=5)")
    assert isinstance(model, Rivals)
    x, _ = batch(16)
    drawn = torch.rand(16, 1, 8, 8, generator=generator())
    loss = model.discriminator_loss(Linear(), x, drawn, torch.zeros(16, 0), generator())
    difference = 2 * (drawn.flatten(1).sum(1).mean() - x.flatten(1).sum(1).mean())
    assert torch.allclose(loss, difference + 5 * (2 * 8 - 1) ** 2, rtol=1e-4)  # the slope's norm is 2 sqrt(64)


def test_spectral_norm_bounds_how_fast_the_discriminator_changes() -> None:
    model = GENERATIVES.parse("gan(latent=8, width=8)")
    assert isinstance(model, Rivals)
    discriminator = model.discriminator((1, 8, 8), 10)
    for _ in range(50):  # power iterations
        discriminator(torch.rand(4, 1, 8, 8), torch.eye(10)[:4])
    for layer in discriminator.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2) < 1.05


def test_the_loss_of_a_vae_is_its_bound() -> None:
    """Against torch.distributions, with the same draw of codes."""
    from torch.distributions import Bernoulli, Normal, kl_divergence

    model = GENERATIVES.parse("vae(latent=8, width=8, beta=0.5)")
    state = model.init(setup())
    network = state.learners["network"].network.eval()
    assert isinstance(network, GenerativeNetwork)
    assert network.encoder is not None
    x, y = batch()
    mean, log_variance = network.encoder(x, torch.zeros(32, 0)).chunk(2, 1)
    posterior = Normal(mean, log_variance.exp().sqrt())
    z = mean + posterior.scale * torch.randn(32, 8, generator=generator())
    pixels = Bernoulli(network.decode(z), validate_args=False).log_prob(x)
    expected = (-pixels.sum((1, 2, 3)) + 0.5 * kl_divergence(posterior, Normal(0.0, 1.0)).sum(1)).mean()
    loss = model.step(state, x, y, progress=0, generator=generator())["loss"]
    assert torch.allclose(loss, expected, rtol=1e-4)


@pytest.mark.parametrize("call", TIED)
def test_tied_weights_are_the_encoders_own(call: str) -> None:
    network = made(call)
    weights = [name for name in network.state_dict() if name.startswith("decoder") and "weight" in name]
    assert weights == []
    x = torch.rand(2, 1, 8, 8, generator=generator())
    before = network(x)
    assert network.encoder is not None
    for parameter in network.encoder.parameters():
        parameter.data *= 1.1
    z = torch.randn(2, 64, generator=generator())
    assert not torch.allclose(network(x), before)
    assert not torch.allclose(network.decode(z), made(call).decode(z))
    untied = made(call.replace("true", "false"))
    assert sum(p.numel() for p in untied.parameters()) > 1.8 * sum(p.numel() for p in network.parameters())


def test_a_spatial_code_sees_only_the_neighbourhood_of_its_place() -> None:
    network = made("conv_autoencoder(latent=64, width=8, spatial=true)", (3, 32, 32))
    x = torch.rand(1, 3, 32, 32, generator=generator())
    other = x.clone()
    other[..., 24:] = 0.5
    one, two = (network.encode(images).view(4, 4, 4) for images in (x, other))  # four maps of 4x4 places
    assert torch.equal(one[..., :2], two[..., :2])
    assert not torch.isclose(one[..., 3], two[..., 3]).any()


def test_a_spatial_code_has_whole_maps() -> None:
    with pytest.raises(InputError, match="multiple of the 7x7 places of the code's feature maps, such as 98, not 64"):
        made("conv_autoencoder(spatial=true)", (1, 28, 28))


def test_a_collapsed_model_is_told_and_the_last_good_checkpoint_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def third_collapses(network: GenerativeNetwork, state: State, metrics: dict[str, float]) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            heedless(network)
        watch_spread(network, state, metrics)

    monkeypatch.setattr(rivals, "watch_spread", third_collapses)
    recipe = Recipe.of({"data": "digits()", "generative": CALLS[0], "optimiser": "adam()", "epochs": 8})
    with pytest.raises(TrainingError, match=r"epoch 3: .*gan has collapsed.*alike; the last good state is kept in"):
        fit(recipe, runs=tmp_path, quiet=True)
    assert run_of(recipe, tmp_path).read_checkpoint()["position"]["epoch"] == 2


def heedless(network: GenerativeNetwork) -> None:
    """Let a decoder look at no code any more."""
    assert isinstance(network.decoder, nn.Sequential)
    with torch.no_grad():
        network.decoder[0].weight[:, : network.latent] = 0


@pytest.mark.parametrize("conditional", ["true", "false"])
def test_images_that_differ_by_class_alone_count_as_alike(conditional: str) -> None:
    network = made(f"vae(latent=8, width=8, conditional={conditional})")
    state = State({}, extra={"spread": torch.tensor(0.3)})
    heedless(network)
    with pytest.raises(TrainingError, match="collapsed"):
        watch_spread(network, state, {})


def test_sides_are_halved_while_they_are_even() -> None:
    assert [halvings((1, side, side)) for side in (4, 5, 8, 12, 28, 32, 64)] == [0, 0, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"generative": "gan(latent=0)"}, "gan: latent must be at least 1, not 0"),
        ({"generative": "gan(width=0)"}, "gan: width must be at least 1"),
        ({"generative": "gan(average=1)"}, "average is a share"),
        ({"generative": "gan(penalty=0)"}, "penalty must be more than 0"),
        ({"generative": "wgan_gp(penalty=-1)"}, "penalty must be more than 0"),
        ({"generative": "vae(beta=-1)"}, "beta must be at least 0"),
        ({"generative": "vae(width=0)"}, "width must be at least 1"),
        ({"generative": "autoencoder(hidden=(0,))"}, "hidden sizes must be at least 1"),
        ({"generative": "gann()"}, "did you mean 'gan'"),
        ({"generative": "gan()", "defence": "standard()"}, "defence is a classifier's"),
        ({"generative": "gan()", "model": "cnn()"}, "model is a classifier's"),
        ({}, "field 'model' is missing"),
    ],
)
def test_bad_recipes_end_in_one_clear_line(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Recipe.of({"data": "digits()", **fields})


def test_a_recipe_trains_one_thing() -> None:
    digits = Recipe.of({"data": "digits()", "model": "mlp()"}).data
    with pytest.raises(InputError, match="and not both"):
        Recipe(data=digits)


def test_images_that_are_too_small_are_refused() -> None:
    with pytest.raises(InputError, match="at least 4x4, not 3x9"):
        made("gan()", (1, 3, 9))


def test_an_autoencoder_draws_nothing_and_a_gan_encodes_nothing() -> None:
    with pytest.raises(InputError, match="has no prior"):
        made("autoencoder()").draw(3, generator())
    with pytest.raises(InputError, match=r"has no encoder; train one: generative = \"encoding\(model="):
        made("gan()").encode(torch.rand(2, 1, 8, 8))


def test_a_generative_run_is_no_classifier_and_the_other_way_round(tmp_path: Path) -> None:
    common = {"data": "digits()", "epochs": 1, "limit": 128}
    drawn = fit(Recipe.of({**common, "generative": "autoencoder()"}), runs=tmp_path, quiet=True)
    with pytest.raises(InputError, match="no classifier"):
        load_classifier(drawn.run.path)
    with pytest.raises(InputError, match="no classifier to attack"):
        judge(drawn, load("digits()"), Judgement("linf(0.1)"))
    told = fit(Recipe.of({**common, "model": "mlp()"}), runs=tmp_path, quiet=True)
    with pytest.raises(InputError, match="no generative model"):
        load_generative(told.run.path)
    description = (drawn.run.path / "model.json").read_text()
    (drawn.run.path / "model.json").write_text(description.replace("latent=64", "latent=65"))
    with pytest.raises(InputError, match="do not fit together"):
        load_generative(drawn.run.path)


@pytest.mark.parametrize("call", TIED)
def test_tied_weights_have_the_gradients_of_both_directions(call: str) -> None:
    """A code that does not come from the encoder: what gradient its weights have comes through the decoder."""
    with seeded(0):
        network = made(call)
    network.decode(torch.randn(4, network.latent, generator=generator())).sum().backward()
    assert network.encoder is not None
    weights = [p for name, p in network.encoder.named_parameters() if "weight" in name]
    assert all(p.grad is not None and bool(p.grad.any()) for p in weights)


def test_the_points_of_the_penalty_lie_between_real_and_drawn_images() -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, x: Tensor, _shares: Tensor) -> Tensor:
            seen.append(x.detach())
            return x.flatten(1).sum(1)

    x, drawn = torch.zeros(500, 1, 8, 8), torch.ones(500, 1, 8, 8)
    model = GENERATIVES.parse("wgan_gp()")
    assert isinstance(model, Rivals)
    model.discriminator_loss(Spy(), x, drawn, torch.zeros(500, 0), generator())  # type: ignore[arg-type]
    places = seen[-1].flatten(1)
    assert torch.equal(places.amin(1), places.amax(1))  # one place an image
    assert 0.25 < float(places.std()) < 0.33  # evenly all the way: 1 / sqrt(12)
    assert 0.45 < float(places.mean()) < 0.55


def test_in_a_conditional_network_one_class_alone_that_is_alike_is_no_collapse() -> None:
    network = made("gan(latent=4, width=8, conditional=true)")

    class Mute(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, inputs: Tensor) -> Tensor:
            given: Tensor = self.inner(inputs)
            return torch.where(inputs[:, 4, None, None, None] > 0.5, torch.zeros_like(given), given)

    network.decoder = Mute(network.decoder)
    state = State({}, {SPREAD: torch.tensor(0.01)})
    watch_spread(network, state, {})


@pytest.mark.parametrize("call", CALLS)
def test_it_trains_under_autocast_on_images_in_colour(call: str) -> None:
    model, shape = GENERATIVES.parse(call), (3, 8, 8)
    state = model.init(setup(shape))
    x, y = torch.rand(8, *shape), torch.arange(8) % 10
    with torch.autocast("cpu", torch.bfloat16):
        metrics = model.step(state, x, y, progress=0.5, generator=generator())
    assert all(bool(value.isfinite()) for value in metrics.values())

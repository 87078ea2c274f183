"""Latent recovery: codes that are known, noise that belongs to the image, and a cache that is never stale."""

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.data import Split, load
from sparring.defences.masks import BitDepth
from sparring.generative import GAN, GenerativeNetwork
from sparring.generative import codes as caching
from sparring.generative.codes import codes_of
from sparring.generative.recovery import RECOVERIES, Recovery, Search, recover
from sparring.models import CNN, assemble
from sparring.models.mask import Masked
from sparring.recipe import Recipe, fit

SHAPE = (1, 8, 8)


def network(*, conditional: bool = False, encoder: nn.Module | None = None) -> GenerativeNetwork:
    """Return a decoder with one hidden layer, in which every code gives another image."""
    with seeded(0):
        about = GAN(latent=6, conditional=conditional)
        first = nn.Linear(6 + about.told(10), 64)
        decoder = nn.Sequential(first, nn.Tanh(), nn.Linear(64, 64), nn.Unflatten(1, SHAPE))
        for parameter in decoder.parameters():
            parameter.data *= 3
        return GenerativeNetwork(about, SHAPE, 10, decoder, encoder).eval()


def drawn(count: int = 12, *, conditional: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return images of that network, their labels and their codes."""
    z = torch.randn(count, 6, generator=torch.Generator().manual_seed(1))
    y = torch.arange(count) % 10
    return network(conditional=conditional).decode(z, y).detach(), y, z


@pytest.mark.parametrize("conditional", [False, True])
def test_the_codes_of_drawn_images_are_found_again(conditional: bool) -> None:
    x, y, z = drawn(40, conditional=conditional)
    model = network(conditional=conditional)
    found, error = recover(model, x, y, Recovery(steps=300, lr=0.1, polish=40))
    again = (found - z).abs().amax(1) < 1e-3
    assert float(again.float().mean()) > 0.7  # the rest end in another valley
    assert float(error[again].max()) < 1e-8
    assert torch.allclose(error, (model.decode(found, y) - x).flatten(1).square().mean(1))


def test_polish_and_steps_only_make_it_better() -> None:
    x, y, _ = drawn()
    errors = [
        recover(network(), x, y, Recovery(steps=steps, polish=polish))[1] for steps, polish in ((10, 0), (10, 20))
    ]
    assert bool((errors[1] <= errors[0] + 1e-9).all())
    assert float(errors[1].mean()) < 0.3 * float(errors[0].mean())
    longer = recover(network(), x, y, Recovery(steps=200))[1]
    assert float(longer.mean()) < float(errors[0].mean())


def test_it_starts_from_the_encoder_and_keeps_the_best() -> None:
    """An encoder that knows the codes: no step makes it worse, and none at all leaves what it says."""
    x, y, z = drawn()

    class Knows(nn.Module):
        def forward(self, _x: Tensor, _shares: Tensor) -> Tensor:
            return z.clamp(-2, 2)

    known, _ = recover(network(encoder=Knows()), x, y, Recovery(steps=0))
    assert torch.equal(known, z.clamp(-2, 2))
    before = (network().decode(known) - x).detach().square().mean()
    wild, error = recover(network(encoder=Knows()), x, y, Recovery(steps=5, lr=100))
    assert float(error.mean()) <= float(before) + 1e-9
    assert wild.isfinite().all()


@pytest.mark.parametrize("clipping", ["stochastic", "hard", "none"])
def test_an_image_is_recovered_alike_whatever_its_mates(clipping: str) -> None:
    x, y, _ = drawn()
    recovery = RECOVERIES.parse(f"recovery(steps=30, lr=1.0, clipping='{clipping}')")
    ids = torch.arange(12) + 100
    together, _ = recover(network(), x, y, recovery, ids=ids)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    shuffled, _ = recover(network(), x[order], y[order], recovery, ids=ids[order])
    assert torch.allclose(shuffled, together[order], atol=1e-3)
    alone, _ = recover(network(), x[3:4], y[3:4], recovery, ids=ids[3:4])
    assert torch.allclose(alone, together[3:4], atol=1e-3)


def test_clipping_keeps_codes_where_the_prior_puts_them() -> None:
    """Images that no code gives draw codes outwards; only without clipping they go."""
    x = (drawn()[0] > 0.5).float()
    y = torch.zeros(12).long()
    far = recover(network(), x, y, Recovery(steps=100, lr=0.3, clipping="none"))[0]
    for clipping in ("stochastic", "hard"):
        near = recover(network(), x, y, RECOVERIES.parse(f"recovery(steps=100, lr=0.3, clipping='{clipping}')"))[0]
        assert float(near.abs().max()) <= 3
        assert float(near.norm(dim=1).max()) <= 4.75  # one in a thousand standard normal codes of 6 is longer
    assert float(far.norm(dim=1).max()) <= 4.75
    assert float(far.abs().max()) > 3


def test_another_seed_draws_other_noise() -> None:
    x = (drawn()[0] > 0.5).float()
    found = [recover(network(), x, torch.zeros(12).long(), Recovery(steps=20, lr=2.0), seed=s)[0] for s in (0, 0, 1)]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("target", ["features", "both"])
def test_features_may_be_the_target(target: str) -> None:
    x, y, _ = drawn()
    with seeded(2):
        classifier = assemble(nn.Identity(), CNN().build(SHAPE, 10)).eval()
    recovery = RECOVERIES.parse(f"recovery(steps=200, lr=0.1, target='{target}', classifier='run', layer='5')")
    found, error = recover(network(), x, y, recovery, classifier=classifier)

    def features(images: Tensor) -> Tensor:
        with torch.no_grad():
            return classifier[1][:6](images)  # type: ignore[index]  # a Sequential

    near = (features(network().decode(found)) - features(x)).square().mean()
    start = (features(network().decode(torch.zeros(12, 6))) - features(x)).square().mean()
    assert float(near) < 0.1 * float(start)
    assert error.isfinite().all()
    with pytest.raises(InputError, match="is not at hand"):
        recover(network(), x, y, recovery)
    with pytest.raises(InputError, match="no layer '77'"):
        recover(
            network(),
            x,
            y,
            RECOVERIES.parse("recovery(target='both', classifier='r', layer='77')"),
            classifier=classifier,
        )


def test_a_search_in_training_mode_is_that_in_use_and_leaves_every_mode_flag_and_buffer() -> None:
    with seeded(3):
        classifier = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 10))
    x, y, _ = drawn()
    recovery = RECOVERIES.parse("recovery(steps=3, target='both', classifier='run', layer='3')")
    wanted, _ = recover(network(), x, y, recovery, classifier=classifier.eval())
    model = network().train()
    model.decoder[1].eval()  # type: ignore[index, operator]  # a Sequential
    classifier.train()
    buffers = [buffer.clone() for buffer in classifier.buffers()]
    modules = [*model.modules(), *classifier.modules()]
    before = [module.training for module in modules]
    found, _ = recover(model, x, y, recovery, classifier=classifier)
    assert torch.equal(found, wanted)
    assert [module.training for module in modules] == before
    assert all(map(torch.equal, buffers, classifier.buffers()))
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_broken_images_harm_nobody_else() -> None:
    x, y, _ = drawn()
    whole, _ = recover(network(), x, y, Recovery(steps=20, polish=5))
    x[4, 0, 2, 2] = float("nan")
    found, error = recover(network(), x, y, Recovery(steps=20, polish=5))
    others = torch.arange(12) != 4
    assert torch.allclose(found[others], whole[others], atol=1e-4)
    assert found[4].isfinite().all()
    assert error[4].isnan()


def test_no_image_and_images_of_another_shape() -> None:
    none, error = recover(network(), torch.rand(0, *SHAPE), torch.zeros(0).long(), Recovery())
    assert none.shape == (0, 6)
    assert error.shape == (0,)
    with pytest.raises(InputError, match=r"draws images \(1, 8, 8\), and these are \(1, 9, 8\)"):
        recover(network(), torch.rand(2, 1, 9, 8), torch.zeros(2).long(), Recovery())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("recovery(steps=-1)", "steps and polish must be at least 0"),
        ("recovery(lr=0)", "lr must be more than 0"),
        ("recovery(target='features')", "need classifier="),
        ("recovery(layer='5')", "need classifier="),
        ("recovery(target='pixel')", "recovery"),
    ],
)
def test_bad_settings_end_in_one_clear_line(call: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        RECOVERIES.parse(call)


# -------------------------------------------------------------------------------------------------------- the cache


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Give a run of a small model, images, and how often recovery was at work on how many."""
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.of({"data": "digits()", "generative": "vae(latent=6, width=8)", "epochs": 1, "limit": 200})
    run = fit(recipe, runs=tmp_path, quiet=True).run
    made: list[int] = []

    def counted(*args: object, **kwargs: object) -> object:
        made.append(len(args[1]))  # type: ignore[arg-type]  # the images
        return recover(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(caching, "recover", counted)
    monkeypatch.setattr(caching, "PART", 40)
    split = load("digits()").test.take(torch.arange(100))
    return SimpleNamespace(run=run, split=split, made=made, runs=tmp_path)


def codes(kept: SimpleNamespace, split: Split | None = None, call: str = "recovery(steps=3)", seed: int = 0) -> Tensor:
    recovery = RECOVERIES.parse(call)
    found = codes_of(
        kept.run.path.name, split or kept.split, recovery, runs=kept.runs, device=torch.device("cpu"), seed=seed
    )
    assert len(found.z) == len(found.error) == len(split or kept.split)
    assert torch.allclose(found.psnr, -10 * found.error.log10())
    return found.z


def test_each_image_is_searched_for_once(kept: SimpleNamespace) -> None:
    first = codes(kept)
    assert kept.made == [40, 40, 20]
    assert torch.equal(codes(kept), first)
    assert kept.made == [40, 40, 20]


def test_what_decides_the_codes_decides_the_cache(kept: SimpleNamespace) -> None:
    codes(kept)
    x, y, ids = kept.split.x.clone(), kept.split.y, kept.split.ids
    x[7, 0, 0, 0] += 1
    for change in (
        {"split": Split(x, y, ids)},
        {"split": Split(kept.split.x, y.roll(1), ids)},
        {"split": Split(kept.split.x, y, ids + 1)},
        {"call": "recovery(steps=4)"},
        {"seed": 1},
    ):
        kept.made.clear()
        codes(kept, **change)  # type: ignore[arg-type]  # one argument each
        assert kept.made == [40, 40, 20], change


def test_a_changed_model_never_meets_stale_codes(kept: SimpleNamespace) -> None:
    codes(kept)
    recipe = Recipe.of({"data": "digits()", "generative": "vae(latent=6, width=8)", "epochs": 2, "limit": 200})
    other = fit(recipe, runs=kept.runs, quiet=True).run
    for name in ("model.safetensors", "model.json"):
        (kept.run.path / name).write_bytes((other.path / name).read_bytes())
    kept.made.clear()
    codes(kept)
    assert kept.made == [40, 40, 20]


@pytest.mark.parametrize("damage", ["cut", "empty", "swapped", "flipped"])
def test_a_damaged_part_is_made_again_and_said(
    damage: str, kept: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    first = codes(kept)
    parts = sorted(kept.run.path.glob("codes/*/*.safetensors"))
    content = parts[1].read_bytes()
    broken = {
        "cut": content[:-10],
        "empty": b"",
        "swapped": None,
        "flipped": content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
    }[damage]
    if broken is None:
        codes(kept, call="recovery(steps=4)")
        elsewhere = next(path for path in kept.run.path.glob("codes/*/00001.safetensors") if path != parts[1])
        broken = elsewhere.read_bytes()
    parts[1].write_bytes(broken)
    kept.made.clear()
    with caplog.at_level(logging.WARNING, "sparring"):
        assert torch.equal(codes(kept), first)
    assert kept.made == [40]
    assert "recovered again" in caplog.text
    assert str(parts[1]) in caplog.text


def test_a_killed_recovery_goes_on_where_it_was(kept: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    at_work = caching.recover

    def dies(*args: object, **kwargs: object) -> object:
        if len(kept.made) == 2:
            raise KeyboardInterrupt
        return at_work(*args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(caching, "recover", dies)
        with pytest.raises(KeyboardInterrupt):
            codes(kept)
    kept.made.clear()
    codes(kept)
    assert kept.made == [20]


def test_a_classifier_counts_too(kept: SimpleNamespace) -> None:
    recipe = Recipe.of({"data": "digits()", "model": "cnn()", "epochs": 1, "limit": 200})
    name = fit(recipe, runs=kept.runs, quiet=True).run.path.name
    call = f"recovery(steps=2, target='both', classifier='{name}', layer='5')"
    codes(kept, call=call)
    codes(kept, call=call)
    assert kept.made == [40, 40, 20]
    other = fit(
        Recipe.of({"data": "digits()", "model": "cnn()", "epochs": 2, "limit": 200}), runs=kept.runs, quiet=True
    )
    weights = (other.run.path / "model.safetensors").read_bytes()
    (kept.runs / name / "model.safetensors").write_bytes(weights)
    kept.made.clear()
    codes(kept, call=call)
    assert kept.made == [40, 40, 20]


def test_a_polished_code_lies_where_the_prior_puts_codes() -> None:
    x, y = (drawn()[0] > 0.5).float(), torch.zeros(12).long()
    found, _ = recover(network(), x, y, Recovery(steps=5, polish=60))
    assert float(found.norm(dim=1).max()) <= 4.75
    assert float(found.abs().max()) <= 3


def test_the_rate_falls_evenly_to_nothing() -> None:
    """One number, one way to go: Adam's steps are its rates, whose sum is lr * (steps + 1) / 2."""
    decoder = nn.Sequential(nn.Linear(1, 64, bias=False), nn.Unflatten(1, SHAPE))
    nn.init.constant_(decoder[0].weight, 0.01)  # type: ignore[arg-type]
    model = GenerativeNetwork(GAN(latent=1), SHAPE, 10, decoder).eval()
    found, _ = recover(model, torch.ones(2, *SHAPE), torch.zeros(2).long(), Recovery(steps=10, lr=0.1))
    assert torch.allclose(found, torch.full((2, 1), 0.1 * 11 / 2), atol=1e-3)


def test_each_step_draws_other_noise_for_what_left_the_range() -> None:
    x, y, _ = drawn(4)
    search = Search(network(), Recovery(), None, x, y, torch.arange(4), 0)
    one, other = (search._clipped(torch.full((4, 6), 9.0), step) for step in (0, 1))
    assert float(one.abs().max()) <= 3
    assert not torch.equal(one, other)
    assert len(one.unique()) == one.numel()  # each coordinate of each image on its own


def test_features_count_as_much_whatever_their_scale() -> None:
    x, y, _ = drawn()
    found = []
    for scale in (1.0, 1000.0):
        with seeded(2):
            classifier = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        for parameter in classifier.parameters():
            parameter.data *= scale
        recovery = RECOVERIES.parse("recovery(steps=30, target='both', classifier='run', layer='1')")
        found.append(recover(network(), x, y, recovery, classifier=classifier)[0])
    assert torch.allclose(*found, atol=1e-3)


def test_features_behind_a_mask_without_a_gradient_are_refused() -> None:
    x, y, _ = drawn(2)
    mask = BitDepth(bits=3)
    with seeded(2):
        classifier = Masked((mask,), [mask.blank(SHAPE, {})], nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    recovery = RECOVERIES.parse("recovery(target='both', classifier='run', layer='classifier.1')")
    with pytest.raises(InputError, match="run stands behind masks"):
        recover(network(), x, y, recovery, classifier=classifier)


def test_a_layer_that_is_used_twice_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.idle = nn.Linear(64, 64), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(self.layer(x.flatten(1)))  # type: ignore[no-any-return]

    x, y, _ = drawn(2)
    for name, times in (("layer", 2), ("idle", 0)):
        recovery = RECOVERIES.parse(f"recovery(target='both', classifier='run', layer='{name}')")
        with pytest.raises(InputError, match=f"uses its layer '{name}' {times} times"):
            recover(network(), x, y, recovery, classifier=Twice())


def test_kept_codes_depend_on_the_images_ids_and_not_on_their_places(kept: SimpleNamespace) -> None:
    split = load("digits()").test.take(torch.arange(60))
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    call = "recovery(steps=6, lr=2.0)"
    shuffled, plain = (codes(kept, of, call) for of in (split.take(order), split))
    assert torch.allclose(shuffled, plain[order], atol=1e-2)


def test_parts_that_were_exchanged_are_made_again(kept: SimpleNamespace, caplog: pytest.LogCaptureFixture) -> None:
    first = codes(kept)
    one, other = sorted((kept.run.path / "codes").glob("*/*.safetensors"))[:2]
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)
    with caplog.at_level(logging.WARNING, "sparring"):
        again = codes(kept)
    assert torch.equal(again, first)
    assert caplog.text.count("does not hold the codes") == 2


@pytest.mark.parametrize("steps", [0, 3])
def test_no_code_leaves_the_prior_wherever_the_search_begins(steps: int) -> None:
    class Far(nn.Module):
        def forward(self, x: Tensor, _: Tensor) -> Tensor:
            return torch.full((len(x), 6), 7.0)

    x, y, _ = drawn()
    search = Recovery(steps=steps, lr=1e-4)
    for start in (None, torch.full((12, 6), 7.0)):
        found, _ = recover(network(encoder=Far()), x, y, search, start=start)
        assert float(found.abs().max()) <= 3


def test_images_that_are_none_are_refused() -> None:
    x, y, _ = drawn()
    for wrong in ((255 * x).to(torch.uint8), x.double()):
        with pytest.raises(InputError, match="takes float32 images"):
            recover(network(), wrong, y, Recovery(steps=1))

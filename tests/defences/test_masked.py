"""Classifiers behind masks: what stands in front, what an attacker who knows it does, and what a run keeps of it."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sparring import evaluate
from sparring.attacks import Crafting, run
from sparring.attacks.freezing import frozen
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.data import load
from sparring.defences import DEFENCES, MASKS
from sparring.defences.masks.purifying import Purifier
from sparring.generative import GAN, GenerativeNetwork
from sparring.generative.recovery import Recovery, recover
from sparring.generative.saved import load_generative
from sparring.models.adaptive import adaptation
from sparring.models.batch_statistics import with_batch_statistics
from sparring.models.layers import named_layer
from sparring.models.mask import Masked
from sparring.models.saved import load as load_classifier
from sparring.recipe import Recipe, fit, open_run

COMMON = {"data": "digits()", "optimiser": "adam(lr=0.01)"}
NET = "mlp(hidden=(24,))"
GAME = "gan_game(threat=linf(0.1), defender='clean', defender_updates=0)"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the runs "vae", "told" (conditional), "gan", "autoencoder" and the classifier "clean"."""
    folder = tmp_path_factory.mktemp("runs")
    calls = {
        "vae": "vae(latent=12, width=16)",
        "told": "vae(latent=4, width=8, conditional=true)",
        "gan": "gan(latent=4, width=8)",
        "autoencoder": "autoencoder(latent=4)",
    }
    for name, call in calls.items():
        epochs = 12 if name == "vae" else 1
        recipe = Recipe.of({**COMMON, "generative": call, "epochs": epochs})
        fit(recipe, runs=folder, quiet=True).run.path.rename(folder / name)
    recipe = Recipe.of({**COMMON, "model": NET, "epochs": 8})
    fit(recipe, runs=folder, quiet=True).run.path.rename(folder / "clean")
    return folder


def masked(runs: Path, mask: str, *, model: str = "clean", **fields: object) -> tuple[Masked, Path]:
    call = f"masked(masks=({mask},), model='{model}')"
    fitted = fit(Recipe.of({**COMMON, "model": NET, "defence": call, **fields}), runs=runs, quiet=True)
    assert isinstance(fitted.model, Masked)
    return fitted.model, fitted.run.path


def some(count: int = 60) -> tuple[Tensor, Tensor]:
    return load("digits()").test.batch(torch.arange(count))


def test_in_front_of_a_trained_classifier_nothing_is_trained(runs: Path) -> None:
    model, path = masked(runs, "defense_vae(model='vae')")
    clean = load_classifier(runs / "clean")
    assert all(torch.equal(a, b) for a, b in zip(clean.parameters(), model.classifier.parameters(), strict=True))
    x, _ = some()
    vae = load_generative(runs / "vae")
    assert torch.allclose(model(x), clean(vae.decode(vae.encode(x))), atol=1e-5)
    assert not (path / "metrics.jsonl").exists()
    again = open_run(path).model
    assert isinstance(again, Masked)
    assert torch.equal(again(x), model(x))
    assert not any(p.requires_grad for p in again.before.parameters())


def test_the_classifier_may_be_trained_behind_the_mask(runs: Path) -> None:
    model, _ = masked(runs, "defense_vae(model='vae')", model="", epochs=4)
    vae = load_generative(runs / "vae")
    for name, value in vae.state_dict().items():
        assert torch.equal(model.before.state_dict()[f"0.network.{name}"], value)  # batch norm's statistics too
    x, y = some(300)
    assert float((model(x).argmax(1) == y).float().mean()) > 0.6
    model.train()
    assert not any(module.training for module in model.before.modules())
    assert model.classifier.training


def test_a_process_that_knows_of_no_masks_opens_them(runs: Path) -> None:
    masks = (
        "pca(components=8)",
        "defense_gan(model='gan', recovery=recovery(steps=1))",
        "reconstruct(model='autoencoder')",
    )
    for mask in masks:
        model, path = masked(runs, mask)
        x, _ = some(3)
        code = f"import sparring, torch; print(sparring.load({str(path)!r})(torch.ones(3, 1, 8, 8)).shape)"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert found.stdout.strip() == str(model(x).shape), found.stderr


def test_masks_stack_and_the_first_sees_the_image_first(runs: Path) -> None:
    fitted, path = masked(
        runs, "defense_vae(model='vae'), defense_gan(model='vae', recovery=recovery(steps=3), restarts=0)"
    )
    x, _ = some(10)
    vae = load_generative(runs / "vae")
    first = vae(x).detach()
    z, _ = recover(vae, first, torch.zeros(10).long(), Recovery(steps=3))
    assert torch.allclose(fitted(x), fitted.classifier(vae.decode(z)), atol=1e-4)
    opened = open_run(path).model
    assert torch.allclose(opened(x), fitted(x), atol=1e-6)
    assert adaptation(opened) == {"bpda"}


@pytest.mark.parametrize(("restarts", "declared"), [(0, {"bpda"}), (2, {"bpda", "eot"})])
def test_the_search_declares_what_it_is(restarts: int, declared: set[str], runs: Path) -> None:
    mask = f"defense_gan(model='vae', recovery=recovery(steps=3), restarts={restarts})"
    model, _ = masked(runs, mask)
    assert adaptation(model) == declared
    x, _ = some(20)
    with seeded(1):
        one = model(x)
    with seeded(2):
        other = model(x)
    assert torch.equal(one, other) == (restarts == 0)
    vae, _ = masked(runs, "defense_vae(model='vae')")
    assert adaptation(vae) == frozenset()


def test_more_restarts_come_nearer(runs: Path) -> None:
    vae = load_generative(runs / "vae")
    x, _ = some(20)
    errors = []
    for restarts in (1, 6):
        module = MASKS.parse(f"defense_gan(model='vae', recovery=recovery(steps=20), restarts={restarts})").around(vae)
        with seeded(0):
            errors.append(float((module(x) - x).square().mean()))
    assert errors[1] < errors[0]


def test_who_knows_the_mask_gets_through_it_and_who_does_not_sees_no_gradient(runs: Path) -> None:
    """The naive attack's gradient is all zero, and the verdict's attack, by BPDA, breaks most."""
    model, _ = masked(runs, "defense_gan(model='vae', recovery=recovery(steps=5), restarts=0)")
    x, y = some(40)
    leaf = x.clone().requires_grad_(True)
    assert not model(leaf).requires_grad or torch.autograd.grad(model(leaf).sum(), leaf, allow_unused=True)[0] is None
    right = model(x).argmax(1) == y
    outcome = run("pgd(steps=20, loss='margin')", model, x, y, "linf(0.3)")
    assert float(outcome.success[right].float().mean()) > 0.8
    record = evaluate(model, (x, y), "linf(0.3)", "pgd(steps=5)", curve=())
    assert record.adaptation == ("bpda",)


def test_through_a_search_gradients_say_what_small_changes_do(runs: Path) -> None:
    """The identity's, which were once taken there, explain little of it, and left many images standing."""
    model, _ = masked(runs, "defense_gan(model='vae', recovery=recovery(steps=5), restarts=0)")
    x, y = some(20)

    def right(logits: Tensor) -> Tensor:
        return logits.gather(1, y[:, None])[:, 0]

    with frozen(model):
        _, gradient, _ = Oracle(model, torch.arange(20)).value_and_gradient(x, right)
    move = 1e-3 * gradient.sign()
    done = (right(model(x + move)) - right(model(x - move))).detach() / 2
    said = (gradient * move).flatten(1).sum(1)
    assert float((said - done).abs().median()) < 0.1 * float(done.abs().median())


def test_a_random_mask_is_attacked_over_its_draws(runs: Path) -> None:
    model, _ = masked(runs, "defense_gan(model='vae', recovery=recovery(steps=2), restarts=1)")
    x, y = some(8)
    record = evaluate(model, (x, y), "linf(0.2)", "pgd(steps=2)", curve=(), crafting=Crafting(draws=3))
    assert record.adaptation == ("bpda", "eot")
    (attacked,) = record.attacked.values()
    assert attacked.backwards >= 3  # a draw each


def test_layers_are_named_as_without_the_mask(runs: Path) -> None:
    model, _ = masked(runs, "defense_vae(model='vae')")
    assert named_layer(model, "classifier.network.1") is named_layer(model, "1")
    assert named_layer(model, "1") is model.classifier.network[1]  # type: ignore[union-attr, index]
    with pytest.raises(InputError, match=r"no layer '9'; it has normalise, 0, 1, 2, 3$"):
        named_layer(model, "9")


def test_behind_a_masks_batch_norm_one_image_at_a_time_may_train(runs: Path) -> None:
    """Masks are always in evaluation mode."""
    fields = {"data": "digits()", "model": "mlp(hidden=(4,))", "limit": 3, "batch_size": 1, "epochs": 1}
    fit(Recipe.of({**fields, "defence": "masked(masks=(defense_vae(model='vae'),))"}), runs=runs, quiet=True)


def test_a_layer_of_a_network_within_a_network_needs_no_path(runs: Path) -> None:
    """A network that was adapted, say, and then put behind a mask; the list of layers names it so."""
    model, _ = masked(runs, "defense_vae(model='vae')")
    inner = nn.ModuleDict({"fc": nn.Linear(3, 3)})
    model.classifier = nn.ModuleDict({"network": nn.ModuleDict({"network": inner})})  # type: ignore[union-attr]
    assert named_layer(model, "fc") is inner["fc"]
    with pytest.raises(InputError, match=r"no layer '9'; it has fc$"):
        named_layer(model, "9")


def test_a_layer_is_of_the_classifier_whatever_the_mask_calls_its_own(runs: Path) -> None:
    """A purifier has an encoder, too, whose features were once matched in the classifier's place."""
    model, _ = masked(runs, "defense_vae(model='vae')")
    encoder = nn.Linear(3, 3)
    model.classifier = nn.ModuleDict({"network": nn.ModuleDict({"encoder": encoder})})  # type: ignore[union-attr]
    assert named_layer(model, "encoder") is encoder


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("masked(masks=())", "masks is empty"),
        ("masked(masks=(defense_gan(model='r', restarts=-1),))", "restarts must be at least 0"),
        ("masked(masks=(defense_vea(model='r'),))", "did you mean 'defense_vae'"),
        (
            "masked(masks=(defense_gan(model='r', recovery=recovery(target='both', classifier='c', layer='1')),))",
            "pixels",
        ),
    ],
)
def test_bad_settings_end_in_one_clear_line(call: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        DEFENCES.parse(call)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ("defense_vae(model='gan')", "gan has no encoder"),
        ("defense_vae(model='told')", "told is conditional"),
        ("defense_gan(model='autoencoder')", "autoencoder draws no images"),
        ("defense_vae(model='clean')", "no generative model"),
        ("defense_vae(model='nowhere')", "^defense_vae: model: nowhere: there is no such file or folder$"),
    ],
)
def test_models_that_cannot_serve_are_refused(mask: str, said: str, runs: Path) -> None:
    with pytest.raises(InputError, match=said):
        masked(runs, mask)
    with pytest.raises(InputError, match="is not the recipe's model"):
        fit(
            Recipe.of(
                {
                    **COMMON,
                    "model": "mlp(hidden=(9,))",
                    "defence": "masked(masks=(defense_vae(model='vae'),), model='clean')",
                }
            ),
            runs=runs,
            quiet=True,
        )


def test_a_purifier_leaves_the_network_as_it_found_it() -> None:
    network = GAN(latent=4, width=8).build((1, 8, 8), 1)
    module = MASKS.parse("defense_gan(model='r', recovery=recovery(steps=2), restarts=1)").around(network)
    assert isinstance(module, Purifier)
    assert isinstance(module.network, GenerativeNetwork)
    module(torch.rand(3, 1, 8, 8))
    assert not any(p.requires_grad for p in network.parameters())
    assert all(p.grad is None for p in network.parameters())
    assert isinstance(module, nn.Module)


@pytest.mark.parametrize("inner", ["standard()", "ema(defence=standard())"])
def test_whatever_deploys_the_runs_network_deploys_its_weights(inner: str, runs: Path) -> None:
    """An average that began with fresh weights was deployed in their place."""
    call = f"masked(masks=(bit_depth(),), model='clean', defence={inner})"
    held = fit(Recipe.of({**COMMON, "model": NET, "defence": call}), runs=runs, quiet=True).model.state_dict()
    own = load_classifier(runs / "clean").state_dict()
    assert all(torch.equal(held[f"classifier.{name}"], value) for name, value in own.items())


@pytest.mark.parametrize("call", ["masked(masks=(bit_depth(),), model='clean')", GAME])
def test_a_network_with_such_weights_but_of_another_make_is_not_the_runs(call: str, runs: Path) -> None:
    fields = {**COMMON, "model": "mlp(hidden=(24,), activation='tanh')", "defence": call}
    with pytest.raises(InputError, match="the run's classifier is not the recipe's model"):
        fit(Recipe.of(fields), runs=runs, quiet=True)


def test_batch_norm_of_a_mask_stays_as_it_is_while_images_are_crafted_as_in_training(runs: Path) -> None:
    model, _ = masked(runs, "defense_vae(model='vae')", model="")
    inside = [module for module in model.before.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert inside
    with frozen(model.train(), "train"):
        assert not any(module.training for module in inside)


@pytest.mark.parametrize("inner", ["masked(masks=(median(),))", "pixel_mix(defence=masked(masks=(median(),)))"])
def test_masks_around_masks_are_refused(inner: str) -> None:
    """Such a run trained to its end, and could not be opened."""
    with pytest.raises(InputError, match="put all masks into one"):
        DEFENCES.parse(f"masked(masks=(bit_depth(bits=1),), defence={inner})")


def test_the_batchs_statistics_do_not_reach_into_masks(runs: Path) -> None:
    masked = f"masked(masks=(defense_vae(model={str(runs / 'vae')!r}),), model={str(runs / 'clean')!r})"
    model = fit(Recipe.of({**COMMON, "model": NET, "defence": masked}), runs=runs, quiet=True).model
    x = load("digits()").test.images()[:6]
    assert torch.equal(with_batch_statistics(model)(x), model(x))

"""Every defence: finite steps, checkpoint round trip to the bit, better than chance, and its formula read slowly."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks import FGSM, PGD
from sparring.attacks.losses import divergence
from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.core.spec import Component
from sparring.core.threat import L2, Linf
from sparring.core.trainable import Learner, Setup, State
from sparring.data import load
from sparring.defences import ALP, DEFENCES, MART, TRADES, Adversarial, Defence, NoiseTraining, Standard
from sparring.defences.crafted import Crafted
from sparring.models import MLP
from sparring.recipe import Recipe, fit
from sparring.training.optimisers import Adam
from sparring.training.schedules import Constant

CALLS = (
    "standard()",
    "label_smoothing()",
    "mixup()",
    "manifold_mixup(layers=('input', '1'))",
    "awp(defence=trades(threat=linf(0.1), attack=pgd(steps=2, loss='kl')))",
    "awp(defence=adversarial(attack=fgsm(), threat=linf(0.1)), gamma=0.01, warmup=0.6)",
    "noise_training(threat=linf(0.1))",
    "noise_training(threat=l2(1), mix=1)",
    "adversarial(attack=fgsm(), threat=linf(0.1), mix=0.5)",
    "adversarial(attack=pgd(steps=2), threat=linf(0.1))",
    "trades(threat=linf(0.1), attack=pgd(steps=2, loss='kl'))",
    "trades(threat=l2(1), beta=1, attack=fgsm(), halves='joint')",
    "mart(threat=linf(0.1), attack=pgd(steps=2))",
    "alp(threat=linf(0.1), attack=pgd(steps=2))",
    "a3t(threat=linf(0.1), layer='1')",
    "a3t(threat=linf(0.1), layer='1', alpha=1, attack=pgd(steps=2), discriminator_steps=2)",
    "adversarial(attack=pgd(steps=2, restarts=2), threat=l1(2), mix=0.3, halves='separate', crafting='train')",
    "free(threat=linf(0.1), replays=2)",
    "free(threat=l2(1), replays=3, rel_step_size=0.5)",
    "fast(threat=linf(0.1))",
    "awp(defence=fast(threat=l2(1), rel_step_size=1, crafting='eval'))",
    "n_fgsm(threat=linf(0.1))",
    "n_fgsm(threat=l1(2), noise=1, crafting='eval')",
    "ensemble_adversarial(attack=fgsm(), threat=linf(0.1), surrogates=('surrogate',))",
    "ensemble_adversarial(attack=pgd(steps=2), threat=l2(1), surrogates=('surrogate',), mix=1, halves='separate')",
    "ema(defence=standard(), decay=0.9)",
    "ema(defence=a3t(threat=linf(0.1), layer='1'))",
    "multi_task(layer='1')",
    "multi_task(layer='1', tasks=('coarse', 'reconstruction'), groups=((0, 2, 4, 6, 8), (1, 3, 5, 7, 9)), weight=0.1)",
    "ema(defence=multi_task(layer='1', tasks=('rotation',), attack=pgd(steps=2), threat=linf(0.1)))",
    "best_epoch(defence=free(threat=linf(0.1), replays=2), threat=linf(0.1), attack=pgd(steps=2), patience=1)",
    "best_epoch(defence=ema(defence=awp(defence=trades(threat=linf(0.1), attack=pgd(steps=2, loss='kl')))), "
    "threat=linf(0.1), attack=pgd(steps=2), examples=100)",
    "gan_game(threat=linf(0.1), perturber=perturber(hidden=(24,)))",
    "gan_game(threat=l2(1), perturber=perturber(hidden=(24,), output='scaled', gives='image'), adversary_updates=2, "
    "defender_updates=2, adversary_optimiser=sgd(lr=0.1), halves='separate', crafting='eval')",
    "manifold_mixup(layers=('1',), attack=pgd(steps=2), threat=linf(0.1))",
    "pixel_mix(weights=(0.1, 0.9))",
    "pixel_mix(defence=adversarial(attack=fgsm(), threat=linf(0.1)), share=0.3, alpha=0.5)",
    "latent_mix(model='vae', recovery=recovery(steps=2), least_psnr=5)",
    "latent_mix(model='vae', recovery=recovery(steps=2), weights=(0.1,), path='spherical', least_psnr=5, "
    "defence=awp(defence=trades(threat=linf(0.1), attack=pgd(steps=2, loss='kl'))))",
    "generated(model='vae', share=0.5)",
    "generated(model='vae', share=0.5, defence=ema(defence=n_fgsm(threat=linf(0.1))))",
    "masked(masks=(defense_vae(model='plain'),))",
    "masked(masks=(defense_vae(model='plain'), defense_gan(model='plain', recovery=recovery(steps=2), restarts=0)), "
    "defence=adversarial(attack=fgsm(), threat=linf(0.1)))",
    "gat(threat=linf(0.1), perturber=perturber(hidden=(24,), sees='gradient'), power=0.1)",
)
MODELS = ('mlp(hidden=(32,), norm="batch")', "cnn()")


def network() -> nn.Module:
    with seeded(0):
        return MLP(hidden=(16,), norm="batch").build((1, 8, 8), 10)


@pytest.fixture(scope="module")
def surrogates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of the runs "surrogate", of a classifier, and "vae" and "plain" of generative models."""
    folder = tmp_path_factory.mktemp("runs")
    recipe = Recipe.of({"data": "digits()", "model": "mlp(hidden=(16,))", "optimiser": "adam(lr=0.01)", "epochs": 1})
    fit(recipe, runs=folder, quiet=True).run.path.rename(folder / "surrogate")
    vae = {"data": "digits()", "optimiser": "adam(lr=0.01)", "epochs": 30}
    conditional = {**vae, "generative": "vae(latent=8, width=8, conditional=true)"}
    fit(Recipe.of(conditional), runs=folder, quiet=True).run.path.rename(folder / "vae")
    plain = {**vae, "generative": "vae(latent=8, width=8)"}
    fit(Recipe.of(plain), runs=folder, quiet=True).run.path.rename(folder / "plain")
    return folder


@pytest.fixture(autouse=True)
def at_hand(surrogates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a recipe name that run, wherever its own runs go."""
    monkeypatch.chdir(surrogates)


def setup() -> Setup:
    train = load("digits()").train
    return Setup(
        (1, 8, 8),
        10,
        network,
        lambda net: Learner(net, Adam().build(net), Constant()),
        validation=lambda count: load("digits()").validation.batch(torch.arange(min(count, 100))),
        training=lambda: (train.x[:200], train.y[:200], train.ids[:200]),
    )


def batch(size: int = 32) -> tuple[Tensor, Tensor]:
    return load("digits()").train.batch(torch.arange(size))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_defence_is_in_the_catalogue_and_under_this_contract() -> None:
    def concrete(kind: type[Component]) -> set[type[Component]]:
        below = {sub for child in kind.__subclasses__() for sub in concrete(child)}
        return below | ({kind} if not getattr(kind, "__abstractmethods__", None) else set())

    ours = {kind for kind in concrete(Defence) if kind.__module__.startswith("sparring.")}
    assert ours == set(DEFENCES)
    assert {DEFENCES.parse(call).name for call in CALLS} == {kind.name for kind in DEFENCES}


@pytest.mark.parametrize("call", CALLS)
def test_steps_are_finite_move_the_network_and_round_trip_through_a_checkpoint(call: str) -> None:
    defence = DEFENCES.parse(call)
    x, y = batch()

    def steps(state: State, count: int, source: torch.Generator) -> None:
        for _ in range(count):
            metrics = defence.step(state, x, y, progress=0.5, generator=source)
            assert all(bool(value.isfinite()) and not value.requires_grad for value in metrics.values())
            assert "loss" in metrics
        means = {name: float(value) for name, value in metrics.items()}
        defence.epoch_end(state, means)
        assert set(metrics) <= set(means)
        assert all(math.isfinite(value) for value in means.values())

    one, other, source = defence.init(setup()), defence.init(setup()), generator()
    before = [p.clone() for p in defence.deploy(one).parameters()]
    steps(one, 2, source)
    assert any(not torch.equal(a, b) for a, b in zip(before, defence.deploy(one).parameters(), strict=True))
    other.load_state_dict(one.state_dict())
    twin = generator()
    twin.set_state(source.get_state())
    for state, draws in ((one, source), (other, twin)):
        with seeded(1):  # the loop keeps the global random state, which dropout draws from
            steps(state, 2, draws)
    a, b = defence.deploy(one).state_dict(), defence.deploy(other).state_dict()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert one.extra.keys() == other.extra.keys()
    assert all(torch.equal(one.extra[key], other.extra[key]) for key in one.extra)
    assert not any(tensor.requires_grad for tensor in one.extra.values())


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("model", MODELS)
def test_it_beats_chance(call: str, model: str, tmp_path: Path) -> None:
    recipe = Recipe.of({"data": "digits()", "model": model, "defence": call, "optimiser": "adam(lr=0.01)", "epochs": 4})
    fitted = fit(recipe, runs=tmp_path, quiet=True)
    test = load("digits()").test
    assert (fitted.model(test.images()).argmax(1) == test.y).float().mean() > 0.5


@pytest.mark.parametrize(
    "call", [*CALLS, "adversarial(attack=transfer(surrogate='surrogate', attack=fgsm()), threat=linf(0.1))"]
)
def test_it_trains_on_another_device(call: str, other_device: torch.device, tmp_path: Path) -> None:
    fields = {"data": "digits()", "model": MODELS[0], "defence": call, "optimiser": "adam(lr=0.01)", "epochs": 1}
    fitted = fit(Recipe.of({**fields, "limit": 200}), runs=tmp_path, device=other_device.type, quiet=True)
    assert {tensor.device for tensor in fitted.model.state_dict().values()} == {other_device}
    logits = fitted.model(load("digits()").test.images()[:50].to(other_device))
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize("call", CALLS)
def test_a_step_leaves_modes_and_gradient_flags_as_they_were(call: str) -> None:
    defence = DEFENCES.parse(call)
    state = defence.init(setup())
    net = defence.deploy(state).train()
    modes = [module.training for module in net.modules()]
    wanted = [parameter.requires_grad for parameter in net.parameters()]
    assert any(modes)
    assert any(wanted)
    defence.step(state, *batch(), progress=0.0, generator=generator())
    assert [module.training for module in net.modules()] == modes
    assert [parameter.requires_grad for parameter in net.parameters()] == wanted


@pytest.mark.parametrize("crafting", ["eval", "train"])
def test_crafting_moves_no_batch_norm_statistics(crafting: str) -> None:
    """After one step the running mean is what one forward of the training batch alone makes of it."""
    x, y = batch()
    defence = Adversarial(attack=PGD(steps=3), threat=Linf(0.1), crafting=crafting)
    net = network().train()
    norm = next(m for m in net.modules() if isinstance(m, nn.BatchNorm1d))
    seen: list[Tensor] = []
    norm.register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0].detach()))
    defence.loss(net, x, y, progress=0.0, generator=generator())
    expected = 0.1 * seen[-1].mean(0)
    assert torch.allclose(norm.running_mean, expected, atol=1e-6)
    assert int(norm.num_batches_tracked) == 1


def test_the_adversarial_loss_is_the_papers_formula_read_slowly() -> None:
    """Goodfellow's mixture: alpha J(x, y) + (1 - alpha) J(x + eps sign(grad J), y), example by example."""
    x, y = batch(6)
    net = network().eval()
    defence = Adversarial(attack=FGSM(), threat=Linf(0.1), mix=0.3)
    ours, _ = defence.loss(net, x, y, progress=0.0, generator=generator())
    slow = []
    for image, label in zip(x.split(1), y.split(1), strict=True):
        image = image.clone().requires_grad_(True)
        clean = F.cross_entropy(net(image), label)
        (grad,) = torch.autograd.grad(clean, image)
        moved = (image + 0.1 * grad.sign()).clamp(0, 1).detach()
        slow.append(0.7 * clean.detach() + 0.3 * F.cross_entropy(net(moved), label).detach())
    assert torch.allclose(ours.detach(), torch.stack(slow).mean(), rtol=1e-5)


def slow_parts(defence: Crafted) -> tuple[Tensor, list[tuple[Tensor, Tensor, int]]]:
    """Give the defence's loss, and for each example its probabilities, clean and adversarial, with its label."""
    x, y = batch(6)
    net = network().eval()
    ours, metrics = defence.loss(net, x, y, progress=0.0, generator=generator())
    x_adv = defence.images(net, x, y, generator=generator())
    assert ((x_adv - x).abs().amax() <= 0.1 + 1e-6).all()
    assert set(metrics) == {"accuracy", "adversarial_accuracy"}
    with torch.no_grad():
        parts = [(net(a[None])[0], net(b[None])[0], int(k)) for a, b, k in zip(x, x_adv, y, strict=True)]
    return ours.detach(), parts


def slow_kl(p: Tensor, q: Tensor) -> float:
    return sum(float(a) * math.log(float(a) / float(b)) for a, b in zip(p, q, strict=True))


def test_the_trades_loss_is_the_papers_formula_read_slowly() -> None:
    ours, parts = slow_parts(TRADES(threat=Linf(0.1), beta=2.5))
    slow = [-math.log(float(a.softmax(0)[k])) + 2.5 * slow_kl(a.softmax(0), b.softmax(0)) for a, b, k in parts]
    assert float(ours) == pytest.approx(sum(slow) / len(slow), rel=1e-4)


def test_trades_climbs_the_divergence_whatever_the_labels() -> None:
    """A popular library's TRADES attacks the labels' loss instead."""
    x, y = batch()
    net = network().eval()
    one, other = (TRADES(threat=Linf(0.1)).images(net, x, label, generator=generator()) for label in (y, (y + 1) % 10))
    assert torch.equal(one, other)
    by_label = Adversarial(attack=PGD(steps=10, rel_step_size=0.225), threat=Linf(0.1))
    with torch.no_grad():
        clean = net(x)
        far, near = (
            divergence(net(x_adv), clean).mean() for x_adv in (one, by_label.images(net, x, y, generator=generator()))
        )
    assert far > near


def test_trades_asks_for_the_clean_logits_once() -> None:
    x, y = batch()
    net, calls = network().eval(), []
    net.register_forward_pre_hook(lambda _m, inputs: calls.append(len(inputs[0])))
    TRADES(threat=Linf(0.1), attack=PGD(steps=10, loss="kl")).loss(net, x, y, progress=0.0, generator=generator())
    assert calls == [len(x)] * (1 + 10 + 2)  # once for the attack, ten steps, and both images of the loss itself


def test_the_mart_loss_is_the_papers_formula_read_slowly() -> None:
    ours, parts = slow_parts(MART(threat=Linf(0.1), beta=2.5))
    slow = []
    for a, b, k in parts:
        p, q = a.softmax(0), b.softmax(0)
        rival = max(float(q[j]) for j in range(10) if j != k)
        boosted = -math.log(float(q[k])) - math.log(1.0001 - rival)
        slow.append(boosted + 2.5 * slow_kl(p, q) * (1 - float(p[k])))
    assert float(ours) == pytest.approx(sum(slow) / len(slow), rel=1e-4)


def test_the_logit_pairing_loss_is_the_papers_formula_read_slowly() -> None:
    ours, parts = slow_parts(ALP(threat=Linf(0.1), weight=2.5, mix=0.3))
    slow = []
    for a, b, k in parts:
        mixed = -0.7 * math.log(float(a.softmax(0)[k])) - 0.3 * math.log(float(b.softmax(0)[k]))
        slow.append(mixed + 2.5 * sum((float(u) - float(v)) ** 2 for u, v in zip(a, b, strict=True)) / 10)
    assert float(ours) == pytest.approx(sum(slow) / len(slow), rel=1e-4)


@pytest.mark.parametrize(
    "call", ["trades(beta=-1, ", "mart(beta=-1, ", "alp(weight=-1, ", "alp(mix=1.5, ", "trades(beta=nan, "]
)
def test_weights_that_are_none_are_refused(call: str) -> None:
    with pytest.raises(InputError):
        DEFENCES.parse(call + "threat=linf(0.1))")


def test_halves_differ_only_where_batch_norm_sees_them() -> None:
    x, y = batch()
    joint, separate = (Adversarial(attack=FGSM(), threat=Linf(0.2), mix=0.5, halves=h) for h in ("joint", "separate"))
    of = {}
    for name, defence in (("joint", joint), ("separate", separate)):
        for mode in (True, False):
            net = network().train(mode)
            of[name, mode] = defence.loss(net, x, y, progress=0.0, generator=generator())[0].detach()
    assert torch.allclose(of["joint", False], of["separate", False], rtol=1e-5)
    assert not torch.allclose(of["joint", True], of["separate", True], rtol=1e-5)


def test_noise_is_drawn_anew_each_step_and_by_the_generator_alone() -> None:
    x, y = batch()
    defence, net = NoiseTraining(threat=L2(2.0), mix=1.0), network().eval()
    first, second = (defence.loss(net, x, y, progress=0.0, generator=g)[0] for g in [generator()] * 2)
    again = defence.loss(net, x, y, progress=0.0, generator=generator())[0]
    assert first != second
    assert first == again


def test_standard_training_is_cross_entropy() -> None:
    x, y = batch()
    net = network().eval()
    assert torch.equal(Standard().loss(net, x, y, progress=0.0, generator=generator())[0], F.cross_entropy(net(x), y))


@pytest.mark.parametrize("mix", [0.0, -0.1, 1.1])
def test_a_mix_that_is_no_weight_is_refused(mix: float) -> None:
    with pytest.raises(InputError, match="mix"):
        Adversarial(attack=FGSM(), threat=Linf(0.1), mix=mix)
    with pytest.raises(InputError, match="mix"):
        NoiseTraining(threat=Linf(0.1), mix=mix)

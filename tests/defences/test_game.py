"""The games of an adversary's network and a defender: their losses, their bounds, where they begin and how they end."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring import InputError, TrainingError, evaluate
from sparring.attacks import Learned, run
from sparring.attacks.freezing import frozen
from sparring.cli import main
from sparring.core.randomness import seeded
from sparring.core.threat import L2, Linf
from sparring.core.trainable import Learner, Setup
from sparring.data import load
from sparring.defences import GAT, GanGame
from sparring.defences.game import Game
from sparring.models import MLP
from sparring.models.perturber import Perturber, moved
from sparring.models.saved import load as load_classifier
from sparring.models.saved import load_perturber
from sparring.recipe import Fitted, Recipe, fit
from sparring.training.optimisers import SGD
from sparring.training.schedules import Constant

SMALL = Perturber(hidden=(24,))
EVERY = [
    Perturber(hidden=(24,), output=output, gives=gives)
    for output in ("tanh", "scaled")
    for gives in ("perturbation", "image")
]
DIGITS = {"data": "digits()", "model": 'mlp(hidden=(32,), norm="batch")', "optimiser": "adam(lr=0.01)", "epochs": 2}


def network() -> nn.Module:
    with seeded(0):
        return MLP(hidden=(16,), norm="batch").build((1, 8, 8), 10)


def setup() -> Setup:
    return Setup((1, 8, 8), 10, network, lambda net: Learner(net, SGD(lr=0.1).build(net), Constant()))


def batch(size: int = 32) -> tuple[Tensor, Tensor]:
    return load("digits()").train.batch(torch.arange(size))


def play(game: Game, runs: Path, **changes: object) -> Fitted:
    return fit(Recipe.of({**DIGITS, "defence": repr(game), **changes}), runs=runs, quiet=True)


@pytest.mark.parametrize("perturber", EVERY, ids=repr)
@pytest.mark.parametrize("threat", [Linf(0.1), L2(0.7)], ids=repr)
def test_what_a_perturber_moves_stays_within_the_threat(perturber: Perturber, threat: Linf | L2) -> None:
    x, _ = batch()
    direction = perturber.build((1, 8, 8))(x)
    assert direction.abs().max() <= 1
    x_adv = moved(x, direction, threat)
    assert (threat.distance(x_adv, x) <= threat.eps * 1.00001).all()
    assert x_adv.min() >= 0
    assert x_adv.max() <= 1


def test_scaled_is_centred_and_reaches_one_in_every_image() -> None:
    x, _ = batch()
    direction = Perturber(hidden=(24,), output="scaled").build((1, 8, 8))(x).flatten(1)
    assert torch.allclose(direction.abs().amax(1), torch.ones(len(x)))
    layers = Perturber(hidden=(24,), output="scaled").build((1, 8, 8))
    values = layers.layers(x)
    centred = values - values.mean(1, keepdim=True)
    assert torch.allclose(layers(x).flatten(1), centred / centred.abs().amax(1, keepdim=True))


def test_an_image_is_moved_towards_the_one_that_is_given_and_at_eps_1_there() -> None:
    x, _ = batch()
    network = Perturber(hidden=(24,), gives="image").build((1, 8, 8)).eval()
    given = (torch.tanh(network.layers(x)).view_as(x) + 1) / 2
    assert torch.allclose(moved(x, network(x), Linf(1.0)), given, atol=1e-6)
    assert torch.allclose(moved(x, network(x), Linf(0.1)), x + 0.1 * (given - x), atol=1e-6)


@pytest.mark.parametrize("mix", [0.5, 1.0])
@pytest.mark.parametrize("game", ["gan_game", "gat"])
def test_one_step_is_the_papers_two_updates_read_slowly(game: str, mix: float) -> None:
    """The adversary up the defender's loss (or down p_y and its power), then the defender down its own."""
    x, y = batch(12)
    ours: Game = (
        GanGame(threat=Linf(0.1), perturber=SMALL, mix=mix, crafting="eval", halves="separate")
        if game == "gan_game"
        else GAT(
            threat=Linf(0.1),
            perturber=replace(SMALL, sees="gradient"),
            power=0.3,
            mix=mix,
            crafting="eval",
            halves="separate",
        )
    )
    state = ours.init(setup())
    defender, adversary = network(), ours.perturber.build((1, 8, 8))
    adversary.load_state_dict(state.learners["perturber"].network.state_dict())
    for learner in state.learners.values():
        learner.network.train()
    metrics = ours.step(state, x, y, progress=0, generator=torch.Generator())

    defender.eval()
    image = x.clone().requires_grad_(True)
    (grad,) = torch.autograd.grad(F.cross_entropy(defender(image), y, reduction="sum"), image)
    seen = x if game == "gan_game" else grad
    x_adv = (x + 0.1 * adversary.train()(seen)).clamp(0, 1)
    logits = defender(x_adv)
    if game == "gan_game":
        loss = -F.cross_entropy(logits, y)
    else:
        loss = (logits.softmax(1)[torch.arange(12), y] + 0.3 * (x_adv - x).flatten(1).square().sum(1)).mean()
    torch.optim.SGD(adversary.parameters(), 0.1, 0.9).zero_grad()
    steps = torch.autograd.grad(loss, list(adversary.parameters()))
    expected = [p - 0.1 * g for p, g in zip(adversary.parameters(), steps, strict=True)]
    for a, b in zip(expected, state.learners["perturber"].network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    defender.train()
    total = (1 - mix) * F.cross_entropy(defender(x), y) + mix * F.cross_entropy(defender(x_adv.detach()), y)
    steps = torch.autograd.grad(total, list(defender.parameters()))
    expected = [p - 0.1 * g for p, g in zip(defender.parameters(), steps, strict=True)]
    for a, b in zip(expected, state.learners["classifier"].network.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6)
    assert torch.allclose(metrics["loss"], total.detach(), atol=1e-6)
    assert torch.allclose(metrics["adversary_loss"], loss.detach(), atol=1e-6)


def test_each_side_has_its_own_learning_rate_and_number_of_updates() -> None:
    x, y = batch()
    one = GanGame(threat=Linf(0.1), perturber=SMALL, adversary_optimiser=SGD(lr=1e-3, momentum=0))
    many = replace(one, adversary_updates=3, defender_updates=2)
    assert one.init(setup()).learners["perturber"].optimiser.param_groups[0]["lr"] == 1e-3
    assert one.init(setup()).learners["classifier"].optimiser.param_groups[0]["lr"] == 0.1
    for game, updates in ((one, (1, 1)), (many, (3, 2))):
        state, counts = game.init(setup()), {"perturber": 0, "classifier": 0}
        for name, learner in state.learners.items():

            def counted(*_: object, name: str = name, counts: dict[str, int] = counts) -> None:
                counts[name] += 1

            learner.optimiser.register_step_post_hook(counted)
        game.step(state, x, y, progress=0, generator=torch.Generator())
        assert (counts["perturber"], counts["classifier"]) == updates


def test_alone_the_adversary_learns_and_the_defender_stays_bit_for_bit(tmp_path: Path) -> None:
    trained = play_standard(tmp_path)
    alone = GanGame(threat=Linf(0.3), perturber=SMALL, defender=trained.run.path.name, defender_updates=0)
    fitted = play(alone, tmp_path, epochs=6)
    before, after = trained.model.state_dict(), fitted.model.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    losses = [epoch.metrics["loss"] for epoch in fitted.run.read_metrics()]
    assert losses[-1] < losses[0] - 0.5
    attack = f"learned(run='{fitted.run.path.name}')"
    verdict = evaluate(
        trained.model, "digits()", "linf(0.3)", attack, curve=(), load_perturber=lambda name: of(tmp_path / name)
    )
    noise = evaluate(trained.model, "digits()", "linf(0.3)", "uniform_noise()", curve=())
    assert verdict.robust.high < noise.robust.low


def test_a_classifier_trains_on_the_images_of_a_perturber_that_is_trained_already(tmp_path: Path) -> None:
    """The attacks that a recipe names by their runs are opened before training, however deep inside the defence."""
    trained = play_standard(tmp_path)
    first = play(
        GanGame(threat=Linf(0.3), perturber=SMALL, defender=trained.run.path.name, defender_updates=0), tmp_path
    )
    attack = f"learned(run='{first.run.path.name}')"
    for defence in (
        f"adversarial(attack={attack}, threat=linf(0.3))",
        f"ema(adversarial(attack={attack}, threat=linf(0.3)))",
    ):
        fitted = fit(Recipe.of({**DIGITS, "defence": defence, "epochs": 5}), runs=tmp_path, quiet=True)
        left = [
            evaluate(model, "digits()", "linf(0.3)", attack, curve=(), load_perturber=lambda name: of(tmp_path / name))
            for model in (trained.model, fitted.model)
        ]
        assert left[1].robust.low > left[0].robust.high
    missing = Recipe.of(
        {**DIGITS, "defence": "adversarial(attack=learned(run='nowhere'), threat=linf(0.3))", "epochs": 1}
    )
    with pytest.raises(InputError, match="nowhere"):
        fit(missing, runs=tmp_path, quiet=True)


def test_a_classifier_trains_on_images_made_on_another(tmp_path: Path) -> None:
    other = play_standard(tmp_path).run.path.name
    defence = f"adversarial(attack=transfer(surrogate='{other}', attack=fgsm()), threat=linf(0.2))"
    fitted = fit(Recipe.of({**DIGITS, "defence": defence, "epochs": 2}), runs=tmp_path, quiet=True)
    assert fitted.run.read_metrics()[-1].metrics["adversarial_accuracy"] > 0.5


def play_standard(runs: Path) -> Fitted:
    return fit(Recipe.of({**DIGITS, "defence": "standard()", "epochs": 5}), runs=runs, quiet=True)


def of(path: Path) -> nn.Module:
    return load_perturber(path)


def test_a_game_begins_from_the_players_it_names(tmp_path: Path) -> None:
    trained = play_standard(tmp_path)
    first = play(GanGame(threat=Linf(0.2), perturber=SMALL), tmp_path)
    later = GanGame(
        threat=Linf(0.2), perturber=SMALL, adversary=first.run.path.name, defender=str(trained.run.path)
    ).init(replace(setup(), classifier=lambda: load_classifier(first.run.path), runs=tmp_path))
    saved = load_perturber(first.run.path).state_dict()
    assert all(torch.equal(v, saved[k]) for k, v in later.learners["perturber"].network.state_dict().items())
    weights = trained.model.state_dict()
    assert all(torch.equal(v, weights[k]) for k, v in later.learners["classifier"].network.state_dict().items())


def test_a_perturber_perturbs_as_it_was_trained_whatever_its_batch_mates(tmp_path: Path) -> None:
    fitted = play(GanGame(threat=Linf(0.2), perturber=SMALL), tmp_path)
    network = load_perturber(fitted.run.path)
    assert not network.training
    assert network.about == SMALL
    x, y = batch()
    attack = Learned(run="game").with_network(network)
    together = run(attack, fitted.model, x, y, "linf(0.1)")
    apart = run(attack, fitted.model, x, y, "linf(0.1)", batch_size=3)
    assert torch.allclose(together.x, apart.x, atol=1e-6)
    rows = ~together.skipped
    with frozen(network), torch.no_grad():
        assert torch.allclose(together.x[rows], moved(x, network(x), Linf(0.1))[rows], atol=1e-6)


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"threat": Linf(0.0)}, "eps above 0"),
        ({"threat": L2(float("inf"))}, "below inf"),
        ({"mix": 0.0}, "mix"),
        ({"adversary_updates": 0}, "adversary_updates"),
        ({"defender_updates": 0}, "against which run|name its run"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        GanGame(**{"threat": Linf(0.1), **settings})


def test_a_perturber_for_other_images_or_of_another_make_is_refused_in_one_line(tmp_path: Path) -> None:
    fitted = play(GanGame(threat=Linf(0.2), perturber=SMALL), tmp_path)
    attack = Learned(run="game").with_network(load_perturber(fitted.run.path))
    with pytest.raises(InputError, match=r"learned: trained on images \(1, 8, 8\), not \(1, 4, 4\)"):
        run(attack, nn.Flatten(), torch.tensor([1.0, 0, 0, 0]).repeat(2, 1, 4, 1), torch.zeros(2).long(), "linf(0.1)")
    other = GanGame(threat=Linf(0.2), perturber=Perturber(hidden=(8,)), adversary=fitted.run.path.name)
    with pytest.raises(InputError, match=r"the adversary of .* is perturber"):
        other.init(replace(setup(), runs=tmp_path))
    wrong = GanGame(threat=Linf(0.2), perturber=SMALL, defender=fitted.run.path.name)
    with pytest.raises(InputError, match="not the recipe's model"):
        wrong.init(replace(setup(), runs=tmp_path))
    with pytest.raises(InputError, match="no perturber was trained"):
        load_perturber(play_standard(tmp_path).run.path)
    with pytest.raises(InputError, match=r"^learned: run: no perturber is at hand for 'elsewhere'"):
        evaluate(fitted.model, "digits()", "linf(0.1)", "learned(run='elsewhere')", curve=())
    (fitted.run.path / "perturber.safetensors").write_bytes(b"cut short")
    with pytest.raises(InputError, match=r"perturber\.safetensors"):
        load_perturber(fitted.run.path)
    with pytest.raises(InputError, match="must see the image"):
        Perturber(gives="image", sees="gradient")


def test_a_collapsed_adversary_ends_in_one_line_and_the_last_good_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second epoch on, the network gives every image the same."""
    spread = Game._spread
    seen = []

    def constant(self: Game, direction: Tensor, x: Tensor) -> Tensor:
        seen.append(len(x))
        return spread(self, direction[:1].expand_as(direction) if len(seen) > 20 else direction, x)

    monkeypatch.setattr(Game, "_spread", constant)
    with pytest.raises(TrainingError, match=r"epoch 3: the adversary has collapsed: .* last good state is kept in"):
        play(GanGame(threat=Linf(0.2), perturber=SMALL), tmp_path, batch_size=128, epochs=6)
    (folder,) = tmp_path.iterdir()
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["position"]["epoch"] == 2


def test_a_game_that_diverges_ends_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="training diverged"):
        play(GanGame(threat=Linf(0.2), perturber=SMALL), tmp_path, optimiser="sgd(lr=1e30)")


def test_batch_norm_and_a_batch_of_one_end_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch norm"):
        play(GanGame(threat=Linf(0.2), perturber=SMALL), tmp_path, batch_size=1)


def test_two_classes_are_enough(tmp_path: Path) -> None:
    x, y = batch(40)
    two = (y % 2).long()
    classifier = MLP(hidden=(8,)).build((1, 8, 8), 2)
    state = GanGame(threat=Linf(0.2), perturber=SMALL).init(replace(setup(), classes=2, classifier=lambda: classifier))
    metrics = GanGame(threat=Linf(0.2), perturber=SMALL).step(state, x, two, progress=0, generator=torch.Generator())
    assert all(bool(value.isfinite()) for value in metrics.values())


def test_a_perturber_is_found_by_the_name_of_its_run_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the run that is evaluated, or by its path."""
    game = play(GanGame(threat=Linf(0.2), perturber=SMALL), tmp_path)
    victim = play_standard(tmp_path)
    for name in (game.run.path.name, str(game.run.path)):
        arguments = ["evaluate", str(victim.run.path), "--threat", "linf(0.2)", "--attack", f"learned(run='{name}')"]
        monkeypatch.setattr("sys.argv", ["sparring", *arguments, "--examples", "40"])
        with pytest.raises(SystemExit) as done:
            main()
        assert done.value.code == 0
        assert "worst case" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["sparring", *arguments[:-1], "learned(run='nowhere')", "--examples", "40"])
    with pytest.raises(SystemExit) as failed:
        main()
    assert failed.value.code == 2
    assert "nowhere" in capsys.readouterr().err


def test_what_a_perturber_sees_of_a_gradient_does_not_depend_on_its_length() -> None:
    """Of a classifier that is sure, gradients are so small that their squares vanish."""
    gradient = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network = Perturber(hidden=(24,), sees="gradient").build((1, 8, 8)).eval()
    expected = network(gradient)
    for length in (1e-30, 1e-24, 1.0, 1e15):
        assert torch.allclose(network(gradient * length), expected, atol=1e-5)
    assert network(torch.zeros(2, 1, 8, 8)).isfinite().all()

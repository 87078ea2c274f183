"""The rows of the table: which attack of ours, which of the peers' with which settings, within what, and the targets.

The peers' settings are the best that a search on 100 images found (`docs/benchmarks.md`); their batch size is tried out
at the start of each row, with the `short` settings.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from contest import Found, Problem
from peers import ART, AdvLib, ARTUniversal, Eps, Foolbox, Original, Peer, Torchattacks

FASTEST = "the fastest"  # of the peers whose result is no worse than ours
MODELS = ("lenet", "robust_cnn")


@dataclass(frozen=True)
class Contestant:
    """A peer in a row. `own`: settings that are best on one model; `short`: those with which batch sizes are tried out.

    `images`: timed on so many and scaled up, where all would take too long.
    """

    peer: Peer
    short: Mapping[str, Any] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    images: int | None = None
    batches: tuple[int, ...] = (50, 100, 250)

    @property
    def name(self) -> str:
        """The library's name."""
        return self.peer.library


@dataclass(frozen=True)
class Row:
    """One attack of ours beside the peers'. `threats` and `targets` are by model; a target is ours / the peer's.

    `apart`: measured only when asked for by name.
    """

    ours: str
    kind: Literal["budget", "minimal", "universal"]
    threats: Mapping[str, tuple[str, ...]]
    peers: tuple[Contestant, ...]
    targets: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    precisions: tuple[str, ...] = ("32-true",)
    limits: Mapping[str, float] = field(default_factory=dict)  # seconds for a peer, by model
    memory: bool = False  # whether the peak memory is measured, too, within the first threat
    apart: bool = False


@dataclass(frozen=True)
class Ours:
    """Sparring's attack through `run`, as its users call it; the batch size is its own choice."""

    attack: str
    precision: Any = "32-true"

    def __call__(self, problem: Problem, _batch: int) -> Found:
        """Attack the problem's images; what must learn first does so within its time."""
        from sparring.attacks import ATTACKS, Crafting, run  # here, for the peers' memory is measured without it
        from sparring.attacks.universal import Universal

        attack, means = ATTACKS.parse(self.attack), Crafting(precision=self.precision)
        if isinstance(attack, Universal):
            delta = attack.fit(problem.model, problem.fit_x, problem.fit_y, problem.threat).delta
            return Found(problem.threat.project(problem.x + delta, problem.x))
        done = run(attack, problem.model, problem.x, problem.y, problem.threat, crafting=means)
        return Found(done.x, int(done.forwards.sum()), int(done.backwards.sum()))


def both(lenet: str, robust_cnn: str, *, cifar_resnet: str = "") -> dict[str, tuple[str, ...]]:
    """Return the threats of a row on both models, and on the third if it is given one."""
    found = {"lenet": (lenet,), "robust_cnn": (robust_cnn,)}
    return found | ({"cifar_resnet": (cifar_resnet,)} if cifar_resnet else {})


def on_both(**targets: float) -> dict[str, dict[str, float]]:
    """Return the same targets for both models, by the peer's name."""
    return dict.fromkeys(MODELS, targets)


ROWS: dict[str, Row] = {
    "pgd": Row(
        "pgd(steps=40, rel_step_size=0.1)",
        "budget",
        {
            "lenet": ("linf(0.3)", "linf(0.2)", "linf(0.1)"),
            "robust_cnn": ("linf(0.3)",),
            "cifar_resnet": ("linf(8/255)",),
        },
        (
            Contestant(Foolbox("LinfPGD", {"steps": 40, "rel_stepsize": 0.1}), {"steps": 8}),
            Contestant(Torchattacks("PGD", {"steps": 40, "eps": Eps(1), "alpha": Eps(0.1)}), {"steps": 8}),
            Contestant(
                ART(
                    "ProjectedGradientDescentPyTorch",
                    {"max_iter": 40, "eps": Eps(1), "eps_step": Eps(0.1), "num_random_init": 1},
                ),
                {"max_iter": 8},
            ),
            Contestant(AdvLib("pgd_linf", {"steps": 40, "ε": Eps(1), "relative_step_size": 0.1}), {"steps": 8}),
        ),
        {"lenet": {FASTEST: 0.5}, "robust_cnn": {FASTEST: 0.7}},
        ("32-true", "bf16-mixed"),
        memory=True,
    ),
    "deepfool": Row(
        "deepfool()",
        "minimal",
        both("l2(inf)", "l2(inf)", cifar_resnet="l2(inf)"),
        (
            Contestant(Foolbox("L2DeepFoolAttack", {"steps": 50})),
            Contestant(ART("DeepFool", {"max_iter": 50, "epsilon": 0.02, "nb_grads": 10}), images=100),
            Contestant(Torchattacks("DeepFool", {"steps": 50}), {"steps": 2}, images=100, batches=(100,)),
            Contestant(AdvLib("df", {"steps": 50})),
        ),
        on_both(Foolbox=0.15, ART=0.08, torchattacks=0.025),
        memory=True,
    ),
    "deepfool linf": Row(
        "deepfool()",
        "minimal",
        both("linf(inf)", "linf(inf)", cifar_resnet="linf(inf)"),
        (
            Contestant(Foolbox("LinfDeepFoolAttack", {"steps": 50})),
            Contestant(AdvLib("df", {"steps": 50, "norm": math.inf})),
        ),
    ),
    "cw": Row(
        "cw()",
        "minimal",
        both("l2(inf)", "l2(inf)", cifar_resnet="l2(inf)"),
        (
            Contestant(
                Foolbox(
                    "L2CarliniWagnerAttack",
                    {"binary_search_steps": 9, "steps": 100, "stepsize": 0.3, "initial_const": 1.0},
                ),
                {"binary_search_steps": 1, "steps": 10},
                {"robust_cnn": {"stepsize": 0.1, "initial_const": 10.0}},
            ),
            Contestant(
                AdvLib(
                    "carlini_wagner_l2",
                    {"binary_search_steps": 9, "max_iterations": 100, "learning_rate": 0.3, "initial_const": 1.0},
                ),
                {"binary_search_steps": 1, "max_iterations": 10},
                {"robust_cnn": {"learning_rate": 0.1, "initial_const": 10.0}},
                images=100,
            ),
            Contestant(Torchattacks("CW", {"c": 10, "steps": 200, "lr": 0.1}), {"steps": 10}, images=100),
        ),
        on_both(Foolbox=0.3),
        memory=True,
    ),
    "ddn": Row(
        "ddn(steps=100, init_norm=3)",
        "minimal",
        both("l2(inf)", "l2(inf)", cifar_resnet="l2(inf)"),
        (
            Contestant(Foolbox("DDNAttack", {"steps": 100, "init_epsilon": 3.0}), {"steps": 10}),
            Contestant(AdvLib("ddn", {"steps": 100, "init_norm": 3.0, "levels": None}), {"steps": 10}),
        ),
    ),
    "fmn": Row(
        "fmn(steps=100, gamma=0.2)",
        "minimal",
        both("l2(inf)", "l2(inf)", cifar_resnet="l2(inf)"),
        (
            Contestant(
                Foolbox("L2FMNAttack", {"steps": 100, "gamma": 0.2}),
                {"steps": 10},
                {"lenet": {"max_stepsize": 0.1}, "robust_cnn": {"max_stepsize": 10.0}},
            ),
            Contestant(
                AdvLib("fmn", {"norm": 2, "steps": 100, "γ_init": 0.2}),  # noqa: RUF001  # its own name
                {"steps": 10},
                {"lenet": {"α_init": 0.1}, "robust_cnn": {"α_init": 1.0}},  # noqa: RUF001  # its own name
            ),
        ),
    ),
    "fmn linf": Row(
        "fmn(steps=100, step_size=100, gamma=0.2)",
        "minimal",
        both("linf(inf)", "linf(inf)", cifar_resnet="linf(inf)"),
        (
            Contestant(Foolbox("LInfFMNAttack", {"steps": 100, "max_stepsize": 100.0, "gamma": 0.2}), {"steps": 10}),
            Contestant(
                AdvLib("fmn", {"norm": math.inf, "steps": 100, "α_init": 100.0, "γ_init": 0.2}),  # noqa: RUF001  # its own names
                {"steps": 10},
            ),
        ),
    ),
    "fab": Row(
        "fab()",
        "minimal",
        {"robust_cnn": ("linf(inf)",)},
        (
            Contestant(AdvLib("fab", {"norm": math.inf, "n_iter": 100}), {"n_iter": 5}, images=250),
            Contestant(Original("fab_pt.FABAttack_PT", {"n_iter": 100, "eps": 1.0}), {"n_iter": 5}, images=250),
        ),
    ),
    "square": Row(
        "square(queries=1000, horizon=10000)",
        "budget",
        {"robust_cnn": ("linf(0.3)",)},
        (
            Contestant(
                Original("square.SquareAttack", {"n_queries": 1000, "p_init": 0.8, "resc_schedule": False}),
                {"n_queries": 50},
            ),
        ),
    ),
    "universal": Row(
        "universal()",
        "universal",
        both("linf(0.2)", "linf(0.3)"),
        (
            Contestant(
                ARTUniversal("fgsm", {"eps": Eps(1), "delta": 0.0, "max_iter": 20, "attacker_params": {"eps": 0.05}}),
                own={"robust_cnn": {"attacker_params": {"eps": 0.3}}},
                batches=(250,),
            ),
        ),
        on_both(ART=0.05),
        limits={"lenet": 600, "robust_cnn": 120},
    ),
    "autoattack": Row(
        "autoattack()",
        "budget",
        both("linf(0.2)", "linf(0.3)"),
        (Contestant(Original("autoattack.AutoAttack"), batches=(250,)),),
        on_both(AutoAttack=0.75),
        memory=True,
    ),
    "autoattack hard": Row(
        "autoattack()",
        "budget",
        {"lenet": ("linf(0.1)",), "cifar_resnet": ("linf(8/255)",)},
        (Contestant(Original("autoattack.AutoAttack"), batches=(250,)),),
        {"lenet": {"AutoAttack": 0.75}, "cifar_resnet": {"AutoAttack": 0.75}},
        apart=True,
    ),
}

"""Checks of the model itself: randomness, batch-mates, what it gives out, and whether its gradients lead anywhere."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sparring.attacks.base import adapted
from sparring.attacks.crafting import Crafting
from sparring.attacks.freezing import frozen
from sparring.attacks.losses import cross_entropy, margin
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError
from sparring.core.randomness import seeded
from sparring.core.statistics import clopper_pearson
from sparring.evaluation.audit.base import Finding, Subject
from sparring.evaluation.curve import predictions
from sparring.evaluation.detection import (
    CUT,
    ESTIMATED,
    EXPLAINED,
    OPAQUE,
    PROBABILITIES,
    RANDOM,
    SMALL,
    STEPS,
    USEFUL,
    agreement,
    differ,
    usefulness,
)
from sparring.models.adaptive import adaptation

FEW, SOME = 8, 32
ZERO = 0.01  # of the examples: more without a gradient are no accident
RADIUS, NOISY = 0.01, 0.1  # of eps; of the mean margin
MOVES = 20  # random ones an example


def randomness(subject: Subject) -> Finding:
    """Look whether the same images get the same logits twice."""
    draws = f"judged and attacked over {subject.conditions.draws(subject.model)} draws"
    if RANDOM in subject.detected:
        return Finding("note", f"predictions are random though no module says so; {draws}")
    if "eot" in adaptation(subject.bare):
        return Finding("note", f"predictions are random, as declared; {draws}")
    return Finding("passed", "the same images get the same logits")


def batch_mates(subject: Subject) -> Finding:
    """Look whether an image alone, and among others, gets the logits that it gets in its batch."""
    if subject.statistics == "batch":
        text = "batch norm used each batch's statistics, so predictions depend on batch-mates: for comparison only"
        return Finding("fail", text)
    if "eot" in adaptation(subject.model):
        return Finding("not run", "the model is random")
    x = subject.bout.x[:SOME]
    together = predictions(subject.bare, x, len(x))
    order = torch.arange(len(x)).flip(0)
    try:
        others = predictions(subject.bare, x[order], max(len(x) // 2, 1))[order]
        alone = predictions(subject.bare, x[:FEW], 1)
    except (InputError, ValueError) as error:
        return Finding("fail", f"the model cannot classify an image alone: {error}")
    if differ(together, others) or differ(together[:FEW], alone):
        apart = max(float((together - others).abs().max()), float((together[:FEW] - alone).abs().max()))
        return Finding("fail", f"an image's logits change by up to {apart:.2g} with the images beside it")
    return Finding("passed", "an image gets the same logits alone, among others and in another order")


def probabilities(subject: Subject) -> Finding:
    """Look whether the model gives out probabilities, whose gradients vanish where it is sure."""
    if PROBABILITIES in subject.detected:
        return Finding("note", "the model gives probabilities; their logarithms were attacked")
    return Finding("passed", "the outputs are no probabilities")


def broken_graph(subject: Subject) -> Finding:
    """Look whether a gradient comes back to the image at all."""
    if OPAQUE in subject.detected:
        text = "no gradient reaches the image, and none can be estimated: gradient attacks had nothing to climb"
        return Finding("fail", text, attack="hopskipjump()")
    if ESTIMATED in subject.detected:
        text = "the model's gradients lead nowhere; attacks climbed gradients estimated from values, which is weaker"
        return Finding("fail", f"{text}: wrap what breaks them in sparring.attacks.bpda(...)", attack="square()")
    if CUT in subject.detected:
        return Finding("warn", "gradients were cut off (detach, no_grad) and are passed on by the attacks")
    return Finding("passed", "gradients reach the image")


def zero_gradients(subject: Subject) -> Finding:
    """Look at how many examples the gradient of the margin, or of the cross-entropy, is 0 in every pixel."""
    places = subject.some(subject.right)
    if not len(places):
        return Finding("not run", "no example is classified right")
    without = {name: _without_gradient(subject, places, loss) for name, loss in _LOSSES.items()}
    counted = [f"{int(flags.sum())} of {len(places)} ({name})" for name, flags in without.items()]
    evidence = f"zero gradients: {' and '.join(counted)}"
    none, surely = without["margin"], clopper_pearson(int(without["margin"].sum()), len(places)).low
    if surely > ZERO and subject.moves(places[none]):
        return Finding("fail", f"{evidence}: attacks had nothing to climb", subject.named(places[none]), "square()")
    if bool(none.any()):
        return Finding("warn" if surely > ZERO else "note", evidence, subject.named(places[none]))
    saturated = without["cross-entropy"]
    if bool(saturated.any()):
        text = f"{evidence}: the cross-entropy is saturated, only attacks on differences of logits count"
        blind = not any(_climbs_differences(repr(attack)) for attack in subject.attacks)
        return Finding("warn" if blind else "note", text, subject.named(places[saturated]), 'apgd(loss="dlr")')
    return Finding("passed", evidence)


_LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"margin": margin, "cross-entropy": cross_entropy}


def _climbs_differences(call: str) -> bool:
    return any(word in call for word in ("autoattack", "margin", "dlr", "deepfool", "fab", "cw", "square", "fmn"))


def _without_gradient(subject: Subject, places: Tensor, loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return which examples have no gradient, (n,)."""
    crafting, found = adapted(Crafting(), subject.model), []
    for rows in torch.split(places, SOME):
        x, y = subject.on_device(rows)
        with frozen(subject.model), seeded(0):
            oracle = Oracle(subject.model, subject.ids[rows].to(x.device), crafting=crafting)
            _, grad, _ = oracle.value_and_gradient(x, partial(_of, loss, y))
        found.append((grad == 0).flatten(1).all(1).cpu())
    return torch.cat(found)


def _of(loss: Callable[[Tensor, Tensor], Tensor], y: Tensor, logits: Tensor) -> Tensor:
    return loss(logits, y)


def optimises_itself(subject: Subject) -> Finding:
    """Look whether the model runs a backward pass of its own when it predicts."""
    x = subject.bout.x[:FEW]
    with _Spy() as spy:
        predictions(subject.bare, x)
    if not spy.seen:
        return Finding("passed", "no backward pass inside a prediction")
    if adaptation(subject.bare):
        return Finding("note", "the model optimises when it predicts, and declares how to be attacked")
    text = "the model optimises when it predicts: plain gradients do not see through that"
    return Finding("fail", f"{text}; declare an approximation (adaptive, bpda)", attack="square()")


class _Spy(TorchFunctionMode):
    """Notes whether gradients are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # whatever torch returns
        self.seen |= func in (torch.autograd.grad, Tensor.backward, torch.autograd.backward)
        return func(*args, **(kwargs or {}))


def noisy_landscape(subject: Subject) -> Finding:
    """Look how much tiny random changes move the margin, and whether gradients beat random steps."""
    if subject.threat.eps == 0:
        return Finding("not run", "eps is 0")
    places = subject.some(subject.right, SOME if subject.bout.x[0].numel() <= SMALL else FEW)
    if not len(places):
        return Finding("not run", "no example is classified right")
    x, y = subject.on_device(places)
    noise, draws = _noise(subject, x, y, places), subject.conditions.draws(subject.model)
    useful = usefulness(subject.model, x, y, subject.threat, draws=min(draws, FEW))
    led = "" if useful is None else f"; steps along gradients beat random ones in {useful:.0%}"
    evidence = f"changes of {RADIUS:.0%} of eps move the margin by {noise:.1%} on average{led}"
    if useful is not None and useful < USEFUL and subject.moves(places):
        return Finding("fail", f"{evidence}: gradients lead nowhere", attack="square()")
    return Finding("warn" if noise > NOISY else "passed", evidence)


def gradients_agree(subject: Subject) -> Finding:
    """Look whether the gradient says how the model changes nearby: a part of it may be cut off, or bent."""
    if adaptation(subject.model) or {STEPS, ESTIMATED, OPAQUE} & {*subject.detected}:
        return Finding("not run", "the model is random, or attacked by gradients that are not its own")
    places = subject.some(subject.right, SOME)
    found = agreement(subject.model, *subject.on_device(places)) if len(places) else None
    if found is None:
        return Finding("not run", "no example is classified right, or has a gradient")
    shares = f"{max(found.gradient, 0):.0%} of what small changes do, straight lines {found.line:.0%}"
    evidence = f"gradients explain {shares}"
    if found.partial and subject.moves(places):
        text = f"{evidence}: the model is smooth, but its gradients are not its own, or a part of them is cut off"
        return Finding("fail", text, attack="square()")
    if found.cornered and subject.moves(places):
        text = f"{evidence}: the images lie at corners of the model (ties of a maximum, or a median?)"
        return Finding("warn", f"{text}; attacks that follow a gradient are weaker there", attack="square()")
    if found.infinite:
        text = f"of {found.infinite} of {found.examples} examples the gradient is not finite (a root or a norm at 0?)"
        return Finding("warn", f"{text}; attacks took 0 or the steepest there", attack="square()")
    return Finding("passed" if found.gradient >= EXPLAINED else "note", evidence)


def _noise(subject: Subject, x: Tensor, y: Tensor, places: Tensor) -> float:
    """Return the mean change of the margin under tiny random changes, as a share of its mean size."""
    draws = min(subject.conditions.draws(subject.model), FEW)
    with frozen(subject.model), seeded(0):
        oracle = Oracle(subject.model, subject.ids[places].to(x.device), crafting=Crafting(draws=draws))
        before = margin(oracle.logits(x), y)
        apart = []
        for _ in range(MOVES):
            tiny = subject.threat.noise(x, oracle.uniform(x[0].numel() + 1), RADIUS * subject.threat.reach(x))
            apart.append((margin(oracle.logits((x + tiny).clamp(0, 1)), y) - before).abs())
    return float(torch.stack(apart).mean() / before.abs().mean().clamp(min=torch.finfo(torch.float32).tiny))

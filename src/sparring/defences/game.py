"""What the games between an adversary's network and a defender share: whose turn it is, and where they begin."""

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks.freezing import Statistics, frozen
from sparring.attacks.losses import cross_entropy
from sparring.attacks.oracle import Oracle
from sparring.core.errors import InputError, TrainingError, naming
from sparring.core.threat import ThreatModel
from sparring.core.trainable import Learner, Setup, State
from sparring.defences.base import Defence, accuracy
from sparring.defences.crafted import Halves, accuracies, both
from sparring.models.perturber import Perturber, PerturberNetwork, moved
from sparring.models.saved import load_perturber, take_over
from sparring.training.optimisers import Optimiser
from sparring.training.runs import Run

COLLAPSED = 1e-4  # spread of what the adversary gives over a batch of images, of at most 1


@dataclass(frozen=True, kw_only=True)
class Game(Defence):
    """An adversary's network and a defender in turn, on the same images.

    First `adversary_updates` steps of the adversary, which moves images within `threat`; then `defender_updates` steps
    of the defender down (1 - mix) * CE(f(x), y) + mix * CE(f(x_adv), y), with the images that the adversary gave last.
    With none of these the defender stays as it is, and the adversary trains alone against it.

    The adversary has the recipe's optimiser or its own. `adversary` and `defender` name runs from which a player
    begins. `crafting`: the statistics of the defender's batch norm while the adversary learns; `halves`: those while
    the defender does. The trained adversary stays in the run, and attacks any model as `learned(run=...)`.
    """

    threat: ThreatModel
    perturber: Perturber = Perturber()
    mix: float = 0.5
    adversary_updates: int = 1
    defender_updates: int = 1
    adversary_optimiser: Optimiser | None = None
    adversary: str = ""
    defender: str = ""
    halves: Halves = "joint"
    crafting: Statistics = "train"

    def __post_init__(self) -> None:
        if not 0 < self.threat.eps < math.inf:
            raise InputError(f"{self.name}: the adversary needs an eps above 0 and below inf, not {self.threat.eps}")
        if not 0 < self.mix <= 1:
            raise InputError(f"{self.name}: mix is the weight of perturbed images, above 0 and up to 1, not {self.mix}")
        if self.adversary_updates < 1 or self.defender_updates < 0:
            raise InputError(f"{self.name}: adversary_updates must be at least 1, defender_updates at least 0")
        if not self.defender_updates and not self.defender:
            raise InputError(
                f"{self.name}: with defender_updates=0 the adversary trains alone; name its run: defender='...'"
            )

    @abstractmethod
    def adversary_loss(self, logits: Tensor, y: Tensor, delta: Tensor) -> Tensor:
        """Return what the adversary descends, a scalar: from the defender's logits on perturbed images (B, K)."""

    def init(self, setup: Setup) -> State:
        classifier = setup.classifier()
        if self.defender:
            take_over(classifier, Run.find(self.defender, setup.runs), setup, f"{self.name}: defender")
        perturber = self.perturber.build(setup.shape).to(next(classifier.parameters()).device)
        if self.adversary:
            with naming(f"{self.name}: adversary"):
                begin = load_perturber(Run.find(self.adversary, setup.runs).path)
            if (begin.about, begin.shape) != (self.perturber, setup.shape):
                raise InputError(
                    f"{self.name}: the adversary of {self.adversary} is {begin.about!r} for images {begin.shape}, not "
                    f"{self.perturber!r} for {setup.shape}"
                )
            perturber.load_state_dict(begin.state_dict())
        adversary = setup.learner(perturber)
        if self.adversary_optimiser is not None:
            adversary = Learner(perturber, self.adversary_optimiser.build(perturber), adversary.schedule)
        return State({"classifier": setup.learner(classifier), "perturber": adversary})

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        net, perturber = state.learners["classifier"].network, state.learners["perturber"].network
        with frozen(net, self.crafting):
            seen = self._seen(net, x, y)
            for _ in range(self.adversary_updates):
                direction = perturber(seen)
                x_adv = moved(x, direction, self.threat)
                logits = net(x_adv)
                loss = self.adversary_loss(logits, y, x_adv - x)
                state.learners["perturber"].update(loss)
        metrics = {
            "loss": loss.detach(),
            "adversarial_accuracy": accuracy(logits, y),
            "adversary_loss": loss.detach(),
            "perturbation_spread": self._spread(direction.detach(), x),
        }
        for _ in range(self.defender_updates):
            clean, adversarial = both(net, x, x_adv.detach(), self.halves)
            loss = (1 - self.mix) * F.cross_entropy(clean, y) + self.mix * F.cross_entropy(adversarial, y)
            state.learners["classifier"].update(loss)
            metrics |= {"loss": loss.detach(), **accuracies(clean, adversarial, y)}
        return metrics

    def _seen(self, net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """Return what the perturber sees of each image."""
        if self.perturber.sees == "image":
            return x
        oracle = Oracle(net, torch.arange(len(x), device=x.device))
        return oracle.value_and_gradient(x, lambda logits: cross_entropy(logits, y))[1]

    def _spread(self, direction: Tensor, x: Tensor) -> Tensor:
        """Return how much what the perturber gives differs between images: 0 if it gives the same to all."""
        given = direction if self.perturber.gives == "perturbation" else direction + x
        return given.std(0, correction=0).mean() if len(x) > 1 else torch.ones((), device=x.device)

    def epoch_end(self, state: State, metrics: dict[str, float]) -> None:
        if metrics["perturbation_spread"] < COLLAPSED:
            raise TrainingError("the adversary has collapsed: it gives all images the same")

    def deploy(self, state: State) -> nn.Module:
        return state.learners["classifier"].network

    def companions(self, state: State) -> dict[str, tuple[str, nn.Module]]:
        network = state.learners["perturber"].network
        assert isinstance(network, PerturberNetwork)
        return {"perturber": (repr(network.about), network)}

"""Multi-task learning: one trunk for several tasks (Liang et al. 2017; Hendrycks et al. 2019, arXiv:1906.12340)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks import Attack
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.core.trainable import Setup, State
from sparring.defences.base import accuracy
from sparring.defences.crafted import CraftedOnDemand
from sparring.generative.networks import conv_decoder
from sparring.models.layers import feature_size, named_layer, tapped

Task = Literal["rotation", "reconstruction", "coarse"]
TURNS = 4  # quarter turns


@dataclass(frozen=True, kw_only=True)
class MultiTask(CraftedOnDemand):
    """Trains the layers up to `layer` for further `tasks` beside the classification, each with a head of its own.

    "rotation": by how many quarter turns an image was turned, as well of turned images that the classification does not
    see. "reconstruction": the image itself, as a cross-entropy of its pixels. "coarse": which of `groups` of classes it
    belongs to, such as ((0, 1, 8, 9), (2, 3, 4, 5, 6, 7)) for CIFAR-10's vehicles and animals. The loss is the
    classification's cross-entropy and `weight` times the sum of the tasks'. With an `attack` the images that are
    classified, reconstructed and grouped are those it makes within `threat` (Mao et al. 2020, arXiv:2007.07236); `mix`
    is their weight in the classification's loss, the rest being the clean images'. The heads are not kept: the
    classifier alone is deployed.
    """

    name = "multi_task"
    source = "Liang, Hayes & Althoff 2017"
    layer: str
    tasks: tuple[Task, ...] = ("rotation", "reconstruction")
    weight: float = 0.5
    groups: tuple[tuple[int, ...], ...] = ()
    width: int = 16
    attack: Attack | None = None
    threat: ThreatModel | None = None
    mix: float = 1.0

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise InputError("multi_task: tasks names one or more, each once: rotation, reconstruction, coarse")
        if not 0 <= self.weight < math.inf:
            raise InputError(f"multi_task: weight must be at least 0, not {self.weight}")
        if ("coarse" in self.tasks) != bool(self.groups):
            raise InputError('multi_task: the task "coarse" and groups go together; give both or neither')
        self.check_attack()
        if not 0 < self.mix <= 1:
            raise InputError(
                f"multi_task: mix is the weight of adversarial images, above 0 and up to 1, not {self.mix}"
            )
        if self.width < 1:
            raise InputError(f"multi_task: width must be at least 1, not {self.width}")

    def init(self, setup: Setup) -> State:
        _, height, breadth = setup.shape
        if "rotation" in self.tasks and height != breadth:
            raise InputError(f"multi_task: images of {height}x{breadth} cannot be turned; leave out rotation")
        if self.groups and sorted(label for group in self.groups for label in group) != list(range(setup.classes)):
            raise InputError(f"multi_task: groups must hold each class from 0 to {setup.classes - 1} once")
        classifier = setup.classifier()
        size = feature_size(classifier, self.layer, setup.shape)
        makers: dict[str, Callable[[], nn.Module]] = {
            "rotation": lambda: nn.Linear(size, TURNS),
            "reconstruction": lambda: conv_decoder(size, setup.shape, self.width),
            "coarse": lambda: nn.Linear(size, len(self.groups)),
        }
        heads = nn.ModuleDict({task: makers[task]() for task in self.tasks}).to(setup.device)
        state = State({"classifier": setup.learner(classifier), "heads": setup.learner(heads)})
        if self.groups:
            group_of = {label: place for place, group in enumerate(self.groups) for label in group}
            state.data["groups"] = torch.tensor([group_of[label] for label in range(setup.classes)]).to(setup.device)
        return state

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        self.keep(state, x, y)
        classifier, heads = state.learners["classifier"], state.learners["heads"]
        net, seen = classifier.network, [self.images(classifier.network, x, y, generator=generator)]
        if self.attack is not None and self.mix < 1:
            seen.append(x)
        classified = len(seen)
        turns = torch.randint(TURNS, (len(x),), generator=generator, device=generator.device)
        if "rotation" in self.tasks:
            seen.append(turned(x, turns))
        with tapped(named_layer(net, self.layer)) as outputs:
            logits = torch.split(net(torch.cat(seen)), len(x))[:classified]
        features = torch.split(outputs[0].flatten(1), len(x))
        wanted = {"rotation": turns, "reconstruction": x, "coarse": state.data["groups"][y] if self.groups else y}
        losses, metrics = [], {}
        for task in self.tasks:
            said = heads.network[task](features[-1 if task == "rotation" else 0])  # type: ignore[index]  # a ModuleDict
            losses.append(_loss(said, wanted[task]))
            metrics[f"{task}_loss"] = losses[-1].detach()
            if task != "reconstruction":
                metrics[f"{task}_accuracy"] = accuracy(said, wanted[task])
        loss = self._classification(logits, y) + self.weight * torch.stack(losses).sum()
        heads.optimiser.zero_grad(set_to_none=True)
        classifier.update(loss)  # its backward pass goes through the heads as well
        heads.optimiser.step()
        return {"loss": loss.detach(), "accuracy": accuracy(logits[-1], y), **metrics}

    def _classification(self, logits: tuple[Tensor, ...], y: Tensor) -> Tensor:
        """Return the loss of adversarial images' logits (B, K), and where they are, of the clean ones' beside them."""
        losses = [F.cross_entropy(each, y) for each in logits]
        return losses[0] if len(losses) == 1 else self.mix * losses[0] + (1 - self.mix) * losses[1]

    def deploy(self, state: State) -> nn.Module:
        return state.learners["classifier"].network


def turned(x: Tensor, turns: Tensor) -> Tensor:
    """Return square images (B, C, H, H), each turned counterclockwise by its number of quarter `turns` (B,)."""
    ways = torch.stack([torch.rot90(x, count, (2, 3)) for count in range(TURNS)])
    return ways[turns, torch.arange(len(x), device=x.device)]


def _loss(said: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean cross-entropy: of labels (B,), or of pixels in [0, 1] as if each were a share of white."""
    if wanted.ndim == 1:
        return F.cross_entropy(said, wanted)
    return F.binary_cross_entropy_with_logits(said, wanted)

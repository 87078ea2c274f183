"""Adversarially augmented adversarial training, A3T (Erraqabi, Baratin, Bengio & Lacoste-Julien 2018)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparring.attacks import FGSM, Attack, craft
from sparring.attacks.freezing import Statistics
from sparring.core.errors import InputError
from sparring.core.threat import ThreatModel
from sparring.core.trainable import Learner, Setup, State
from sparring.defences.base import draw_seed
from sparring.defences.crafted import Watched, accuracies
from sparring.defences.overfitting import takes_one_step
from sparring.models.discriminator import Discriminator
from sparring.models.layers import feature_size, named_layer, tapped
from sparring.models.modes import held


@dataclass(frozen=True, kw_only=True)
class A3T(Watched):
    """A discriminator tells a layer's clean features from adversarial ones; the layers below learn to fool it.

    Classifier: alpha * CE(f(x), y) + (1 - alpha) * CE(f(x_adv), y) - beta * log D(E(x_adv)), with E the layers up to
    `layer`. Discriminator: binary cross-entropy, clean 1 and adversarial 0, `discriminator_steps` updates before each
    of the classifier. The paper's four: alpha 1, beta 0 is simple training; 0.5, 0 adversarial training; 1, 1 A2T;
    0.5, 1 A3T. Clean and adversarial images go through as one batch.
    """

    name = "a3t"
    source = "Erraqabi et al. 2018 (A3T)"
    threat: ThreatModel
    layer: str
    alpha: float = 0.5
    beta: float = 1.0
    attack: Attack = FGSM()
    discriminator_steps: int = 1
    hidden: int = 128
    dropout: float = 0.5
    crafting: Statistics = "eval"

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise InputError(f"a3t: alpha is the weight of clean images, 0 to 1, not {self.alpha}")
        if not self.beta >= 0:
            raise InputError(f"a3t: beta must be at least 0, not {self.beta}")
        if self.discriminator_steps < 1 or self.hidden < 1:
            raise InputError("a3t: discriminator_steps and hidden must be at least 1")
        if not 0 <= self.dropout < 1:
            raise InputError(f"a3t: dropout is a probability below 1, not {self.dropout}")

    def init(self, setup: Setup) -> State:
        classifier = setup.classifier()
        size = feature_size(classifier, self.layer, setup.shape)
        discriminator = Discriminator(size, hidden=self.hidden, dropout=self.dropout).to(setup.device)
        return State({"classifier": setup.learner(classifier), "discriminator": setup.learner(discriminator)})

    @property
    def one_step(self) -> bool:
        return takes_one_step(self.attack)

    def images(self, net: nn.Module, x: Tensor, y: Tensor, *, generator: torch.Generator) -> Tensor:
        return craft(self.attack, net, x, y, self.threat, seed=draw_seed(generator), statistics=self.crafting)

    def step(
        self, state: State, x: Tensor, y: Tensor, *, progress: float, generator: torch.Generator
    ) -> dict[str, Tensor]:
        self.keep(state, x, y)
        classifier, discriminator = state.learners["classifier"], state.learners["discriminator"]
        net = classifier.network
        x_adv = self.images(net, x, y, generator=generator)
        with tapped(named_layer(net, self.layer)) as features:
            clean, adversarial = net(torch.cat([x, x_adv])).chunk(2)
        metrics = self._tell_apart(discriminator, features[0].detach())
        fooling = self._fooling(discriminator.network, features[0].chunk(2)[1])
        classified = self.alpha * F.cross_entropy(clean, y) + (1 - self.alpha) * F.cross_entropy(adversarial, y)
        loss = classified + self.beta * fooling
        classifier.update(loss)
        return {"loss": loss.detach(), **accuracies(clean, adversarial, y), **metrics}

    def _tell_apart(self, discriminator: Learner, features: Tensor) -> dict[str, Tensor]:
        """Train the discriminator on the features (2 B, ...) of clean and of adversarial images; return its metrics."""
        real = torch.ones(len(features), device=features.device)
        real[len(features) // 2 :] = 0
        for _ in range(self.discriminator_steps):
            logits = discriminator.network(features)
            loss = F.binary_cross_entropy_with_logits(logits, real)
            discriminator.update(loss)
        told = ((logits.detach() > 0).float() == real).float().chunk(2)
        return {
            "discriminator_loss": loss.detach(),
            "discriminator_clean_accuracy": told[0].mean(),
            "discriminator_adversarial_accuracy": told[1].mean(),
        }

    def _fooling(self, discriminator: nn.Module, features: Tensor) -> Tensor:
        """Return -log D of adversarial features, whose gradient reaches the layers below and not the discriminator."""
        if not self.beta:
            return torch.zeros((), device=features.device)
        with held(discriminator):
            logits = discriminator(features)
        return F.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))

    def deploy(self, state: State) -> nn.Module:
        return state.learners["classifier"].network

"""Training on images that a conditional generative model draws (Ravuri & Vinyals 2019, arXiv:1905.10887)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.core.errors import InputError, naming
from sparring.core.trainable import Setup, State
from sparring.defences.supplied import ONE_HOT, Supplied
from sparring.generative import GenerativeNetwork
from sparring.generative.saved import load_generative
from sparring.training.runs import Run


@dataclass(frozen=True, kw_only=True)
class Generated(Supplied):
    """Puts images drawn by the conditional model of the run `model` in place of a `share` of each batch, or of all.

    They are of the same classes as the images that they replace. With drawn images alone, the accuracy on real ones is
    the model's classification accuracy score; within adversarial training, drawn images are what made robust networks
    better (Gowal et al. 2021, arXiv:2110.09468).
    """

    name = "generated"
    source = "arXiv:1905.10887"
    model: str
    share: float = 1.0

    def init(self, setup: Setup) -> State:
        state = super().init(setup)
        run = Run.find(self.model, setup.runs)
        with naming(f"{self.name}: model"):
            network = load_generative(run.path).to(setup.device)
        if not network.about.conditional:
            raise InputError(f"generated: {self.model} is not conditional: nobody could label what it draws")
        setup.check_alike(run.read_description(), f"generated: {self.model}")
        state.networks["generative"] = network
        return state

    def supply(self, state: State, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        network = state.networks["generative"]
        assert isinstance(network, GenerativeNetwork)
        shares = state.data[ONE_HOT][y]
        with torch.no_grad():
            return network.decode(network.draw(len(x), generator), shares), shares

"""Training on what a generative model draws between two images' codes ("Latent interpolation"; arXiv:1806.05236)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sparring.core.errors import InputError, naming
from sparring.core.threat import TINY
from sparring.core.trainable import Setup, State
from sparring.data import Split
from sparring.defences.proportions import check_proportions, draw_shares
from sparring.defences.supplied import ONE_HOT, Supplied
from sparring.generative import GenerativeNetwork
from sparring.generative.codes import codes_of
from sparring.generative.recovery import Recovery
from sparring.generative.saved import load_generative
from sparring.training.runs import Run


@dataclass(frozen=True, kw_only=True)
class LatentMix(Supplied):
    """Puts images drawn from between two training images' codes in place of a `share` of each batch.

    The codes are those that `recovery` finds in the generative model of the run `model`, once, before training; images
    whose reconstruction has a peak signal-to-noise ratio below `least_psnr` dB are left out. The first code's
    proportion is drawn for each image, evenly from `weights`, or if there are none from Beta(alpha, alpha); the image
    is labelled in the same proportion. `path` from one code to the other: "linear", or "spherical" (arXiv:1609.04468).
    """

    name = "latent_mix"
    source = "'Latent interpolation', a proposal"
    model: str
    weights: tuple[float, ...] = ()
    alpha: float = 1.0
    path: Literal["linear", "spherical"] = "linear"
    recovery: Recovery = Recovery()
    least_psnr: float = 15.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_proportions(self.name, self.weights, self.alpha)

    def init(self, setup: Setup) -> State:
        state = super().init(setup)
        run = Run.find(self.model, setup.runs)
        with naming(f"{self.name}: model"):
            network = load_generative(run.path).to(setup.device)
        if network.about.conditional:
            setup.check_alike(run.read_description(), f"latent_mix: {self.model}")
        split = Split(*(part.cpu() for part in setup.training()))
        codes = codes_of(self.model, split, self.recovery, runs=setup.runs, device=setup.device)
        kept = codes.psnr >= self.least_psnr
        if not bool(kept.any()):
            raise InputError(
                f"latent_mix: no image comes back with {self.least_psnr:g} dB from {self.model}; the best has "
                f"{float(codes.psnr.max()):.1f} dB"
            )
        state.data["codes"], state.data["labels"] = codes.z[kept].to(setup.device), split.y[kept].to(setup.device)
        state.data["left_out"] = (~kept).sum()
        state.networks["generative"] = network
        return state

    def supply(self, state: State, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        codes, labels = state.data["codes"], state.data[ONE_HOT][state.data["labels"]]
        one, other = torch.randint(len(codes), (2, len(x)), generator=generator, device=generator.device)
        share = draw_shares((len(x), 1), self.alpha, generator, self.weights)
        between = slerp if self.path == "spherical" else torch.lerp
        shares = torch.lerp(labels[other], labels[one], share)
        network = state.networks["generative"]
        assert isinstance(network, GenerativeNetwork)
        with torch.no_grad():
            return network.decode(between(codes[other], codes[one], share), shares), shares

    def epoch_end(self, state: State, metrics: dict[str, float]) -> None:
        super().epoch_end(state, metrics)
        metrics["left_out"] = float(state.data["left_out"])


def slerp(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Return codes (B, D) on the way from `start` to `end` (B, D) along a great circle; `share` (B, 1) of it is done.

    Where the two point the same way or opposite ways, or one is 0, the path is straight.
    """
    lengths = [torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp(min=TINY) for z in (start, end)]
    angle = ((start / lengths[0]) * (end / lengths[1])).sum(1, keepdim=True).clamp(-1, 1).acos()
    sine = angle.sin()
    straight = (sine < 1e-3) | (torch.minimum(*lengths) == TINY)
    sine = torch.where(straight, 1.0, sine)
    curved = ((1 - share) * angle).sin() / sine * start + (share * angle).sin() / sine * end
    return torch.where(straight, torch.lerp(start, end, share), curved)

"""Defense-GAN (Samangouei, Kabkab & Chellappa 2018, arXiv:1805.06605)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparring.core.errors import InputError
from sparring.defences.masks.purifying import Purifier, Purifying
from sparring.generative import GenerativeNetwork
from sparring.generative.recovery import Recovery, recover
from sparring.generative.unrolled import unrolled


@dataclass(frozen=True, kw_only=True)
class DefenseGAN(Purifying):
    """Puts in each image's place the nearest one that a generative model draws, as `recovery` finds it.

    It searches from `restarts` random codes and takes the best, as the authors do (10, with 200 steps each); with 0 it
    searches once, from what the model's encoder says, and nothing is random. What leaves the prior's range is set to
    its end, never drawn anew, so that an image's answer does not depend on its batch-mates.

    Run as it is, the search has no gradient. An honest attacker takes that of each of its steps, from the last back to
    the first (as BPDA does), and where it is random the mean over draws (EOT). The identity's, with which Athalye et
    al. (2018, arXiv:1802.00420) attacked it, can leave many times as many images standing.
    """

    name = "defense_gan"
    source = "arXiv:1805.06605"
    recovery: Recovery = Recovery(steps=200)
    restarts: int = 10

    def __post_init__(self) -> None:
        if self.restarts < 0:
            raise InputError(f"defense_gan: restarts must be at least 0, not {self.restarts}")
        if self.recovery.target != "pixels":
            raise InputError("defense_gan: recovers pixels; leave the recovery's target as it is")

    def around(self, network: GenerativeNetwork) -> Purifier:
        if not network.about.draws:
            raise InputError(f"defense_gan: {self.model} draws no images; use a gan or a vae")
        return Searching(network, self)


class Searching(Purifier):
    """Images to the nearest that the network draws; see `DefenseGAN`."""

    def __init__(self, network: GenerativeNetwork, mask: DefenseGAN) -> None:
        super().__init__(network)
        self._mask = mask
        self._recovery = mask.recovery
        if self._recovery.clipping == "stochastic":
            self._recovery = replace(self._recovery, clipping="hard")
        self.adaptive = frozenset({"bpda", "eot"} if mask.restarts else {"bpda"})

    def forward(self, x: Tensor) -> Tensor:
        """Return the nearest images found."""
        with torch.inference_mode(mode=False), torch.no_grad():  # the search climbs, whatever the caller does
            z, _ = self._nearest(x.clone())  # of a tensor of inference mode, one that gradients may be taken beside
            return self.network.decode(z)

    def approximation(self, x: Tensor) -> Tensor:
        """Return the same, from draws of its own, with the gradient of the search."""
        _, start = self._nearest(x.detach()) if self._mask.restarts else (None, None)
        return self.network.decode(unrolled(self.network, x, self._recovery, start=start))

    def _nearest(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the best codes found, and from where each was (None: from what the encoder says)."""
        starts = [torch.randn(len(x), self.network.latent, device=x.device) for _ in range(self._mask.restarts)]
        if not starts:
            return self._search(x, None)[0], None
        codes, errors = zip(*(self._search(x, start) for start in starts), strict=True)
        of_each = torch.stack(errors).argmin(0), torch.arange(len(x), device=x.device)
        return torch.stack(codes)[of_each], torch.stack(starts)[of_each]

    def _search(self, x: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
        nobody_asks = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        return recover(self.network, x, nobody_asks, self._recovery, start=start)

"""Images that are two images laid over each other: the control for mixing in a latent space."""

from dataclasses import dataclass

import torch
from torch import Tensor

from sparring.core.trainable import State
from sparring.defences.proportions import check_proportions, draw_shares
from sparring.defences.supplied import ONE_HOT, Supplied


@dataclass(frozen=True, kw_only=True)
class PixelMix(Supplied):
    """Puts pixelwise means of two images in place of a `share` of each batch, labelled in the same proportion.

    The first one's proportion is drawn for each image, evenly from `weights`, or if there are none from
    Beta(alpha, alpha). Unlike `mixup` it leaves the rest of the batch as it is; what is left of each batch and its
    labels is trained on as `defence` does.
    """

    name = "pixel_mix"
    source = "'Latent interpolation', a proposal"
    weights: tuple[float, ...] = ()
    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_proportions(self.name, self.weights, self.alpha)

    def supply(self, state: State, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        share = draw_shares((len(x),), self.alpha, generator, self.weights)
        order = torch.randperm(len(x), generator=generator, device=generator.device)
        labels = state.data[ONE_HOT]
        mixed = torch.lerp(x[order], x, share.view(-1, 1, 1, 1))
        return mixed, torch.lerp(labels[y[order]], labels[y], share[:, None])

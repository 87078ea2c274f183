"""A search for latent codes that has a gradient: of each step, from the last back to the first."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparring.core.adam import Standing
from sparring.generative.base import GenerativeNetwork
from sparring.generative.recovery import BATCH, Recovery, Search, check_drawn
from sparring.models.modes import held, in_use


def unrolled(network: GenerativeNetwork, x: Tensor, recovery: Recovery, *, start: Tensor | None = None) -> Tensor:
    """Return the codes (N, latent) that `recover` finds of images `x` (N, C, H, W), with their gradient by `x`.

    That goes through every step of Adam, and through the encoder where the search begins at what it says; not through
    what polishing adds. A step is done anew on its way back, so that each costs memory for three codes an image.
    Raises InputError for images of another shape than the model draws.
    """
    check_drawn(network, x)
    found = []
    with in_use(network), held(network):
        for rows in torch.split(torch.arange(len(x), device=x.device), BATCH):
            search = _search(network, recovery, x[rows])
            begin = search.within(search.start() if start is None else start[rows])
            codes: Tensor = _Descent.apply(x[rows], begin, network, recovery)  # type: ignore[no-untyped-call]  # torch's
            found.append(codes)
    return torch.cat(found) if found else x.new_zeros(0, network.latent)


class _Descent(torch.autograd.Function):
    """Images and first codes to the best codes on the way down from them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, begin: Tensor, network: GenerativeNetwork, recovery: Recovery) -> Tensor:
        ctx.network, ctx.recovery = network, recovery
        ctx.trail, distances = zip(*_search(network, recovery, x).way(begin), strict=True)
        ctx.save_for_backward(x)
        ctx.best = torch.stack(distances).nan_to_num(nan=torch.inf).argmin(0)[:, None]
        return torch.stack([at.z for at in ctx.trail]).gather(0, ctx.best.expand_as(begin)[None])[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, wanted: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (x,) = ctx.saved_tensors
        by_x, by = torch.zeros_like(x), Standing(*(torch.zeros_like(wanted) for _ in Standing._fields))
        with in_use(ctx.network), held(ctx.network):
            for step in reversed(range(len(ctx.trail))):
                by = by._replace(z=by.z + torch.where(ctx.best == step, wanted, 0))
                if step:
                    leaves = [part.detach().requires_grad_(True) for part in (x, *ctx.trail[step - 1])]
                    with torch.enable_grad():
                        search = _search(ctx.network, ctx.recovery, leaves[0])
                        onward, _ = search.onward(Standing(*leaves[1:]), step - 1, again=True)
                    moved, *rest = torch.autograd.grad(onward, leaves, by, materialize_grads=True)
                    by_x, by = by_x + moved, Standing(*rest)
        return by_x, by.z, None, None


def _search(network: GenerativeNetwork, recovery: Recovery, x: Tensor) -> Search:
    places = torch.arange(len(x), device=x.device)
    return Search(network, recovery, None, x, torch.zeros_like(places), places, 0)

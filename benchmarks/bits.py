"""What one bit leaves of MNIST: every pixel that eps can flip is tried, beside the attacks through the mask, by hand.

`python benchmarks/bits.py RUN`, where RUN is the first control of the study `masks-mnist`: 20 minutes. Behind a mask
that rounds to black and white an attack comes down to which pixels flip, and only those within eps of grey can: with
at most 13 of them all combinations are tried; with more, from 32 starts, one flip after another while the margin grows.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from sparring import load
from sparring.attacks import run
from sparring.attacks.losses import margin
from sparring.core.statistics import share
from sparring.data import load as load_data
from sparring.defences import MASKS
from sparring.models.modes import held, in_use

RESULTS = Path(__file__).parent / "results" / "masks-mnist-bits.json"
EPS, EXAMPLES = 0.2, 200
ALL_OF, STARTS, TRIED = 13, 32, 3  # pixels whose combinations are all tried; starts; flips looked at each step
ATTACKS = (
    "pgd(steps=40, loss='margin')",
    "pgd(steps=400, loss='margin', restarts=5)",
    "apgd(loss='dlr')",
    "square(queries=500)",
)


def every(places: Tensor) -> Tensor:
    """Return which of the places (P,) flip (2**P, P): each combination once."""
    return (torch.arange(2 ** len(places))[:, None] >> torch.arange(len(places))) & 1 == 1


def exhausted(net: nn.Module, bits: Tensor, places: Tensor, y: Tensor) -> bool:
    """Return whether any combination of flips of one image's bits (1, H, W) fools."""
    images = flipped(bits, places, every(places))
    return any(bool((net(part).argmax(1) != y).any()) for part in torch.split(images, 2048))


def flipped(bits: Tensor, places: Tensor, which: Tensor) -> Tensor:
    """Return images (N, 1, H, W): the bits, of whose places those flipped that `which` (N, P) says."""
    images = bits.flatten().repeat(len(which), 1)
    images[:, places] = torch.where(which, 1 - images[:, places], images[:, places])
    return images.view(len(which), *bits.shape)


def climbed(net: nn.Module, bits: Tensor, places: Tensor, y: Tensor, noise: torch.Generator) -> bool:
    """Return whether one flip after another, from none and from random ones, fools."""
    shares = torch.linspace(0, 0.95, STARTS)[:, None]
    which = torch.rand(STARTS, len(places), generator=noise) < shares
    while True:
        images = flipped(bits, places, which).requires_grad_(True)
        reached = margin(net(images), y.expand(STARTS))
        if bool((reached > 0).any()):
            return True
        (slope,) = torch.autograd.grad(reached.sum(), images)
        gain = (slope * (1 - 2 * images.detach())).flatten(1)[:, places]
        tried = which[:, None] ^ nn.functional.one_hot(gain.topk(TRIED).indices, len(places)).bool()
        with torch.no_grad():
            after = margin(net(flipped(bits, places, tried.flatten(0, 1))), y.expand(STARTS * TRIED))
        best, chosen = after.view(STARTS, TRIED).max(1)
        better = best > reached.detach() + 1e-6
        if not bool(better.any()):
            return False
        which = torch.where(better[:, None], tried[torch.arange(STARTS), chosen], which)


def main() -> None:
    """Search, attack, and write down what both leave."""
    net = load(sys.argv[1])
    given = load_data("mnist()").test
    x, y = given.x[:EXAMPLES].float() / 255, given.y[:EXAMPLES]
    mask = MASKS.parse("bit_depth(bits=1)").blank((1, 28, 28), {})
    masked, noise = nn.Sequential(mask, net), torch.Generator().manual_seed(0)
    can = (x - 0.5).abs() < EPS
    with in_use(masked), held(masked):
        with torch.no_grad():
            bits = mask(x)
            right = net(bits).argmax(1) == y
        stands = torch.zeros(EXAMPLES, dtype=torch.bool)
        for place in right.nonzero().flatten().tolist():
            pixels = can[place].flatten().nonzero().flatten()
            search = exhausted if len(pixels) <= ALL_OF else climbed
            more = () if search is exhausted else (noise,)
            stands[place] = not search(net, bits[place], pixels, y[place : place + 1], *more)
        left = {call: ~run(call, masked, x, y, f"linf({EPS})").success & right for call in ATTACKS}
    known = can.flatten(1).sum(1) <= ALL_OF
    found = {
        "examples": EXAMPLES,
        "eps": EPS,
        "pixels_that_flip": {
            "mean": float(can.flatten(1).sum(1).float().mean()),
            "most": int(can.flatten(1).sum(1).max()),
        },
        "right": int(right.sum()),
        "left_by_the_search": int(stands.sum()),
        "share": asdict(share(int(stands.sum()), EXAMPLES)),
        "all_combinations_tried": int(known.sum()),
        "left_by": {call: int(flags.sum()) for call, flags in left.items()},
        "fooled_by_the_search_alone": int((left[ATTACKS[0]] & ~stands).sum()),
        "fooled_by_pgd_alone": int((stands & ~left[ATTACKS[0]]).sum()),
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()

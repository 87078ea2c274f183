"""The images of an evaluation that a report shows: clean, at their worst, and at every eps of the curve."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from sparring.attacks import Attack
from sparring.attacks.base import device_of
from sparring.attacks.freezing import frozen
from sparring.core.randomness import seeded
from sparring.core.results import Arrays
from sparring.core.threat import ThreatModel
from sparring.evaluation.bout import Bout
from sparring.evaluation.conditions import Conditions
from sparring.evaluation.curve import predictions, pushed
from sparring.models.mask import Masked

EXAMPLES = 10  # kept for the report, of as many classes as can be
LEVELS = 255


def gallery(bout: Bout, ids: Tensor) -> Arrays:
    """Return examples with their worst images, and what the model says of both; see `Evaluation.arrays`."""
    rows = shown(bout.y)
    parts = {
        "ids": ids,
        "y": bout.y,
        "x": bout.x,
        "x_adv": bout.worst_x,
        "p_clean": bout.clean.softmax(1),
        "p_adv": bout.worst.softmax(1),
    }
    return {f"gallery/{name}": part[rows].numpy() for name, part in parts.items()}


def shown(y: Tensor) -> Tensor:
    """Return the places of the first example of each class, the same whatever a model says of them."""
    return torch.tensor([int((y == k).nonzero()[0]) for k in sorted(set(y.tolist()))[:EXAMPLES]])


def at_every_eps(
    attack: Attack,
    model: nn.Module,
    bout: Bout,
    ids: Tensor,
    threat: ThreatModel,
    eps: Sequence[float],
    conditions: Conditions,
) -> Arrays:
    """Return the same examples attacked at each eps, each from where the one before ended; nothing without an eps."""
    rows, grid = shown(bout.y), sorted(set(eps) - {0.0})
    if not grid:
        return {}
    x, y, images, said = bout.x[rows], bout.y[rows], [], []
    start, before = None, 0.0
    for value in grid:
        start = None if start is None else pushed(start, x, value / before)
        within = replace(threat, eps=value)
        found, _ = replace(conditions, folder=None).run(attack, model, x, y, within, ids=ids[rows], start=start)
        start, before = found.x, value
        images.append((found.x * LEVELS).round().to(torch.uint8))
        said.append(predictions(model, found.x, draws=conditions.draws(model)).softmax(1))
    arrays = {"eps": np.array(grid), "at": torch.stack(images).numpy(), "p_at": torch.stack(said).numpy()}
    return {f"gallery/{name}": part for name, part in arrays.items()}


def behind_masks(model: nn.Module, found: Arrays) -> Arrays:
    """Return what comes of a gallery's images through the model's masks; nothing where it has none."""
    if not isinstance(model, Masked):
        return {}
    where = device_of(model, torch.empty(0))
    with frozen(model), torch.no_grad(), seeded(0):
        return {
            f"gallery/{name}": model.before(torch.from_numpy(found[f"gallery/{of}"]).to(where)).cpu().numpy()
            for name, of in (("seen", "x"), ("seen_adv", "x_adv"))
        }

"""Recovered codes, kept in the folder of the generative model's run: each image is searched for once."""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sparring.core.errors import naming
from sparring.core.files import alone
from sparring.core.fingerprint import fingerprint
from sparring.core.progress import track
from sparring.core.tensors import save_tensors
from sparring.data.dataset import Split
from sparring.generative.base import GenerativeNetwork
from sparring.generative.recovery import Recovery, recover
from sparring.generative.saved import load_generative
from sparring.models.saved import load
from sparring.training.runs import Run

PART = 2000  # images a file: what is lost at most when a recovery is killed
MISSING = "not made yet"
VERSION = 1  # of the search; another one finds other codes
log = logging.getLogger("sparring")


@dataclass(frozen=True)
class Codes:
    """Codes `z` (N, latent) of a split's images, and the mean squared errors of the pixels drawn from them (N,)."""

    z: Tensor
    error: Tensor

    @property
    def psnr(self) -> Tensor:
        """The peak signal-to-noise ratios in dB (N,)."""
        return -10 * self.error.clamp(min=1e-12).log10()


def codes_of(model: str, split: Split, recovery: Recovery, *, runs: Path, device: torch.device, seed: int = 0) -> Codes:
    """Return the codes of a split's images in the generative model of the run `model`: those kept there, or new ones.

    They are kept in parts, under a hash of all that decides them, so that a search that was killed goes on where it
    was, and no other model, data or settings ever meets them. A damaged part is made again, and the log says so.
    Raises InputError for images of another shape than the model draws, or runs that cannot be opened.
    """
    run = Run.find(model, runs)
    network = load_generative(run.path).to(device)
    classifier = None
    seen = [Run.find(recovery.classifier, runs)] if recovery.classifier else []
    for of in seen:
        with naming("recovery: classifier"):
            classifier = load(of.path).to(device)
    key = _key([run, *seen], split, f"{VERSION} {PART} {recovery!r} {seed}")
    folder = run.path / "codes" / key[:16]
    parts = torch.split(torch.arange(len(split)), PART)
    found: list[tuple[Tensor, Tensor]] = []
    for place, rows in enumerate(track(parts, "recovering codes", len(parts))):
        path = folder / f"{place:05d}.safetensors"
        about = f"{key} {place}"
        kept = _read(path, about)
        if isinstance(kept, str):
            with alone(folder):
                kept = _read(path, about)  # another process may have made it meanwhile
                if isinstance(kept, str):
                    if kept != MISSING:
                        log.warning("%s: %s; these codes are recovered again", path, kept)
                    kept = _made(path, about, network, split.take(rows), recovery, classifier, seed)
        found.append(kept)
    z, error = zip(*found, strict=True)
    return Codes(torch.cat(z), torch.cat(error))


def _made(
    path: Path,
    key: str,
    network: GenerativeNetwork,
    part: Split,
    recovery: Recovery,
    classifier: nn.Module | None,
    seed: int,
) -> tuple[Tensor, Tensor]:
    where = next(network.parameters()).device
    x, y, ids = part.images().to(where), part.y.to(where), part.ids.to(where)
    z, error = (found.cpu() for found in recover(network, x, y, recovery, classifier=classifier, ids=ids, seed=seed))
    save_tensors(path, {"z": z, "error": error}, {"key": key, "checksum": _checksum(z, error)})
    return z, error


def _read(path: Path, key: str) -> tuple[Tensor, Tensor] | str:
    """Return the codes in a file, or why they are not to be had from it."""
    if not path.exists():
        return MISSING
    try:
        with safe_open(path, framework="pt") as file:
            about, z, error = file.metadata() or {}, file.get_tensor("z"), file.get_tensor("error")
    except (OSError, SafetensorError) as problem:
        return f"not readable ({problem})"
    if about != {"key": key, "checksum": _checksum(z, error)}:
        return "does not hold the codes of this model and these images"
    return z, error


def _key(runs: list[Run], split: Split, settings: str) -> str:
    of_runs = {f"{place} {run.read_description()}": run.read_weights() for place, run in enumerate(runs)}
    values = [(f"{run} {name}", value) for run, weights in of_runs.items() for name, value in sorted(weights.items())]
    return fingerprint(settings, [*values, ("x", split.x), ("y", split.y), ("ids", split.ids)])


def _checksum(z: Tensor, error: Tensor) -> str:
    return fingerprint("", (("z", z), ("error", error)))

"""Run folders: `<name>-<hash of recipe>/` with the recipe, the metrics, the checkpoint and, when done, the model.

Every file is written by rename, so a kill at any moment loses at most the steps since the last checkpoint.
"""

import hashlib
import io
import json
import pickle
import shlex
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sparring.core.errors import InputError, missing
from sparring.core.files import replacing
from sparring.core.study_results import EpochMetrics
from sparring.core.tensors import save_tensors

MADE = "made"  # in model.json, beside what rebuilds the model
WEIGHTS = (
    "a file, no run folder; to judge weights of your own, write a function that loads them into their network, and "
    """name it: sparring evaluate 'external("my_code:net")' --data ..."""
)
LARGEST = 1 << 16  # channels, rows or columns of an image


@dataclass(frozen=True)
class Run:
    """A run folder. It is finished once `model.json` stands in it."""

    path: Path

    @staticmethod
    def place(root: Path, name: str, recipe: str) -> "Run":
        """Return the run of this recipe (its TOML text) under `root`, whatever it was named; it need not exist yet."""
        digest = hashlib.sha256(recipe.encode()).hexdigest()[:10]
        known = sorted(root.glob(f"*-{digest}"))
        return Run(known[0] if known else root / f"{name}-{digest}")

    @staticmethod
    def find(name: str, among: Path) -> "Run":
        """Return the run that `name` means: a folder's path, or the name of a folder in `among`; it need not exist."""
        return Run(among / name if (among / name).is_dir() else Path(name))

    @property
    def finished(self) -> bool:
        """Whether training came to its end here."""
        return (self.path / "model.json").is_file()

    @property
    def begun(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return (self.path / "checkpoint.pt").is_file()

    def check(self) -> None:
        """Raise InputError unless this is a run folder, whose training may not have finished."""
        if not self.path.exists():
            raise missing(self.path)
        if not (self.finished or self.begun or (self.path / "recipe.toml").is_file()):
            told = WEIGHTS if self.path.is_file() else "no run folder; it has neither a recipe nor a model"
            raise InputError(f"{self.path}: {told}")

    def check_finished(self) -> None:
        """Raise InputError, in words that are the same everywhere, unless training came to its end here."""
        self.check()
        if not self.finished:
            recipe, runs = str(self.path / "recipe.toml"), str(self.path.parent)
            command = shlex.join(["sparring", "train", recipe, "--resume", "--runs", runs])
            raise InputError(f"{self.path}: its training has not finished; go on with: {command}")

    def write_recipe(self, text: str) -> None:
        """Write the recipe; raises InputError if the folder holds another one."""
        path = self.path / "recipe.toml"
        if path.exists() and path.read_bytes() != text.encode():
            raise InputError(f"{self.path}: this folder is the run of another recipe; choose another name or folder")
        with replacing(path) as part:
            part.write_text(text, encoding="utf-8")

    def note_images(self, fingerprint: str) -> None:
        """Write which images the run is trained on; raises InputError if it was begun, or finished, on others.

        An empty `fingerprint` says that they are always the same: nothing is written or compared.
        """
        if not fingerprint:
            return
        path = self.path / "images.sha256"
        if not (self.begun or self.finished):
            with replacing(path) as part:
                part.write_text(fingerprint + "\n", encoding="utf-8")
        elif path.is_file() and path.read_bytes().strip() != fingerprint.encode():
            raise InputError(
                f"{self.path}: trained on other images than the recipe's data has now; delete the folder to train anew"
            )

    def read_recipe(self) -> str:
        """Return the recipe's TOML text; raises InputError if this is no run folder."""
        self.check()
        path = self.path / "recipe.toml"
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: damaged, not readable as a recipe ({error})") from None

    def write_checkpoint(self, content: dict[str, Any]) -> None:
        """Write what training needs to go on to the same bits."""
        made = io.BytesIO()
        torch.save(content, made)  # not into the file: of a full disk it tells by a RuntimeError
        with replacing(self.path / "checkpoint.pt") as part:
            part.write_bytes(made.getbuffer())

    def read_checkpoint(self) -> dict[str, Any]:
        """Read what `write_checkpoint` wrote; nothing in it can run code."""
        path = self.path / "checkpoint.pt"
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            told = f"{path}: damaged, not readable as a checkpoint ({reason}); delete it to start again"
            raise InputError(told) from None
        if not isinstance(content, dict):
            raise InputError(f"{path}: damaged, no checkpoint of a training; delete it to start again")
        return content

    def write_metrics(self, epochs: list[EpochMetrics]) -> None:
        """Write one line of JSON an epoch."""
        with replacing(self.path / "metrics.jsonl") as part:
            part.write_text("".join(json.dumps(asdict(epoch)) + "\n" for epoch in epochs), encoding="utf-8")

    def read_metrics(self) -> tuple[EpochMetrics, ...]:
        """Read the epochs written so far."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return ()
        try:
            return tuple(EpochMetrics(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())
        except (ValueError, TypeError) as error:
            raise InputError(f"{path}: damaged, not readable as metrics ({error})") from None

    def finish(self, networks: dict[str, nn.Module], description: dict[str, Any], device: str) -> None:
        """Write the networks by name, the deployed "model" and others; the description marks the run as finished.

        It says with what, when and on which `device` training ended, too, which `read_description` leaves out: that
        decides nothing.
        """
        for name, network in networks.items():
            # each a copy: weights that layers share may not be stored as one
            values = {key: value.cpu().contiguous().clone() for key, value in network.state_dict().items()}
            save_tensors(self.path / f"{name}.safetensors", values)
        with replacing(self.path / "model.json") as part:
            part.write_text(json.dumps(description | {MADE: _made(device)}, indent=1) + "\n", encoding="utf-8")

    def read_description(self) -> dict[str, Any]:
        """Read what the deployed model is; raises InputError if the run is not finished."""
        self.check_finished()
        path = self.path / "model.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: damaged, not readable as a description ({error})") from None
        if not (isinstance(content, dict) and _sound(content)):
            raise InputError(f"{path}: damaged, not a description of a model")
        return {name: value for name, value in content.items() if name != MADE}

    def read_weights(self, name: str = "model") -> dict[str, Tensor]:
        """Read the parameters of the deployed model, or of another network that `finish` was given."""
        path = self.path / f"{name}.safetensors"
        try:
            return load_file(path)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path}: damaged, not readable as safetensors ({error})") from None


def _made(device: str) -> dict[str, str]:
    ended = datetime.now(UTC).isoformat(timespec="seconds")
    return {"sparring": version("sparring"), "torch": torch.__version__, "device": device, "ended": ended}


def _sound(about: dict[str, Any]) -> bool:
    """Return whether shape and classes are such as images have: absurd ones would take all memory."""
    shape, classes = about.get("shape"), about.get("classes")
    sides = isinstance(shape, list) and len(shape) == 3 and all(type(n) is int and 0 < n <= LARGEST for n in shape)
    return sides and isinstance(classes, list) and all(isinstance(name, str) for name in classes)

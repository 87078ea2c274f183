"""What an attack found, batch by batch: kept in a folder as it comes, so that a stopped evaluation goes on."""

import hashlib
import time
from collections.abc import Iterator, MutableMapping
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch

from sparring.attacks import Adversarial
from sparring.core.files import replacing
from sparring.core.records import DAMAGED

FIELDS = tuple(field.name for field in fields(Adversarial))


class Parts(MutableMapping[int, Adversarial]):
    """The finished batches of one attack by the place of their first example; `seconds` they took, earlier runs too.

    With a `folder`, each is a file there from the moment it is set; `label` tells this attack's from another's. A file
    that cannot be read counts as missing, and its batch is done again.
    """

    def __init__(self, folder: Path | None, label: str) -> None:
        self._folder, self._digest = folder, hashlib.sha256(label.encode()).hexdigest()[:10]
        self._held: dict[int, Adversarial] = {}
        self._since, self.seconds = time.monotonic(), 0.0

    def __contains__(self, first: object) -> bool:
        if first not in self._held and isinstance(first, int):
            self._read(first)
        return first in self._held

    def __getitem__(self, first: int) -> Adversarial:
        return self._held[first]

    def __setitem__(self, first: int, part: Adversarial) -> None:
        now = time.monotonic()
        took, self._since = now - self._since, now
        self.seconds += took
        self._held[first] = part
        if self._folder is not None:
            arrays = {name: getattr(part, name).cpu().numpy() for name in FIELDS}
            with replacing(self._file(self._folder, first)) as temporary, temporary.open("wb") as file:
                np.savez(file, seconds=took, **arrays)

    def __delitem__(self, first: int) -> None:
        del self._held[first]

    def __iter__(self) -> Iterator[int]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def _file(self, folder: Path, first: int) -> Path:
        return folder / f"{self._digest}-{first}.npz"

    def _read(self, first: int) -> None:
        file = None if self._folder is None else self._file(self._folder, first)
        if file is None or not file.exists():
            return
        try:
            with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
                self._held[first] = Adversarial(**{name: torch.from_numpy(stored[name]) for name in FIELDS})
                self.seconds += float(stored["seconds"])
        except (*DAMAGED, KeyError):
            return
        self._since = time.monotonic()

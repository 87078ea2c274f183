"""Under which conditions the attacks of one evaluation are run, the same for all of them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from sparring.attacks import Adversarial, Attack, Crafting, run
from sparring.attacks.base import adapted
from sparring.core.fingerprint import fingerprint
from sparring.core.threat import ThreatModel
from sparring.evaluation.parts import Parts


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """`seed` of all randomness, examples at once, the means, and a folder in which a stopped evaluation goes on."""

    seed: int = 0
    batch_size: int | None = None
    crafting: Crafting | None = None
    folder: Path | None = None

    def crafting_for(self, model: nn.Module) -> Crafting:
        """Return the means, with as many draws as the model calls for."""
        return adapted(self.crafting or Crafting(), model)

    def draws(self, model: nn.Module) -> int:
        """Return over how many draws a random model is judged, the same under attack and without."""
        return self.crafting_for(model).draws or 1

    @property
    def means(self) -> dict[str, str]:
        """What attacks are limited to, where it is not what they are by default."""
        own, usual = asdict(self.crafting or Crafting()), asdict(Crafting())
        return {name: str(value) for name, value in own.items() if value != usual[name]}

    def naive(self) -> "Conditions":
        """Return the same for an attack that does not know how the model must be attacked."""
        return replace(self, crafting=replace(self.crafting or Crafting(), adaptive=False))

    def run(
        self,
        attack: Attack,
        model: nn.Module,
        x: Tensor,
        y: Tensor,
        threat: ThreatModel,
        *,
        ids: Tensor,
        start: Tensor | None = None,
    ) -> tuple[Adversarial, float]:
        """Return what the attack achieves, and the seconds it took, those before a stop included."""
        values = {"x": x, "y": y, "ids": ids} | ({} if start is None else {"start": start})
        parts = Parts(self.folder, "" if self.folder is None else self._told_by(attack, threat, model, values))
        found = run(
            attack,
            model,
            x,
            y,
            threat,
            seed=self.seed,
            batch_size=self.batch_size,
            ids=ids,
            start=start,
            crafting=self.crafting,
            parts=parts,
        )
        return found, round(parts.seconds, 3)

    def _told_by(self, attack: Attack, threat: ThreatModel, model: nn.Module, values: Mapping[str, Tensor]) -> str:
        """Return what tells one attack from all others: everything that decides its result, but not its batches."""
        text = f"{attack!r} {threat!r} {self.seed} {self.crafting!r}"
        return fingerprint(text, (*sorted(model.state_dict().items()), *values.items()))

"""Under which conditions the attacks of one evaluation are run, the same for all of them."""

from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from sparring.attacks import Adversarial, Attack, Crafting, run
from sparring.attacks.base import adapted
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
        parts = Parts(self.folder, f"{attack!r} {threat!r} {len(x)} {start is None}")
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

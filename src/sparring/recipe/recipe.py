"""What to train and how, as data."""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import tomli_w

from sparring.core.call import literal
from sparring.core.errors import InputError, missing
from sparring.core.randomness import check_seed
from sparring.core.spec import Component, convert_fields, suggest
from sparring.data import Source
from sparring.data.augment import Augmentation, NoAugmentation
from sparring.data.dataset import TrainOn
from sparring.defences import Defence, Standard
from sparring.generative import Generative
from sparring.models import Model
from sparring.models.wrappers import Normalisation
from sparring.training.optimisers import SGD, Optimiser
from sparring.training.precision import Precision
from sparring.training.schedules import Constant, Schedule

OF_CLASSIFIERS = ("model", "defence", "normalise")  # fields with no meaning where a generative model is trained


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides what a training gives; the same recipe and seed give the same bits on one machine's CPU.

    It trains the classifier `model` by `defence`, or where there is no model the `generative` one. Components may be
    given as call strings.
    """

    data: Source
    model: Model | None = None
    defence: Defence = Standard()
    optimiser: Optimiser = SGD()
    schedule: Schedule = Constant()
    augmentation: Augmentation = NoAugmentation()
    normalise: Normalisation = "none"
    train_on: TrainOn = "train"
    limit: int = 0  # train on so many images, drawn by the seed; 0: on all
    epochs: int = 10  # 0: the weights that the model brings along stay as they are
    batch_size: int = 128
    precision: Precision = "32-true"
    seed: int = 0
    generative: Generative | None = None

    def __post_init__(self) -> None:
        convert_fields(self, "recipe")
        if (self.model is None) == (self.generative is None):
            raise InputError("recipe: set model, to train a classifier, or generative, and not both")
        for name, least in (("epochs", 0), ("batch_size", 1)):
            if getattr(self, name) < least:
                raise InputError(f"recipe: {name} must be at least {least}, not {getattr(self, name)}")
        if self.limit < 0:
            raise InputError(f"recipe: limit is a number of images, or 0 for all, not {self.limit}")
        check_seed(self.seed, "recipe: seed")

    @staticmethod
    def of(fields: Mapping[str, object]) -> "Recipe":
        """Make a recipe from plain values, components as call strings; raises InputError naming a bad field."""
        hints = get_type_hints(Recipe)
        for name in fields:
            if name not in hints:
                raise InputError(f"recipe: unknown field {name!r}{suggest(name, hints)}")
        for name in ("data",) if "generative" in fields else ("data", "model"):
            if name not in fields:
                raise InputError(f"recipe: field {name!r} is missing")
        for name in OF_CLASSIFIERS if "generative" in fields else ():
            if name in fields:
                raise InputError(f"recipe: {name} is a classifier's, and generative trains none; take one of them out")
        return Recipe(**fields)  # type: ignore[arg-type]  # which makes components of call strings

    @staticmethod
    def read(path: str | Path, changes: Mapping[str, object] | None = None) -> "Recipe":
        """Read a recipe's TOML file, with `changes` to some of its fields."""
        return Recipe.of({**read_toml(Path(path)), **(changes or {})})

    def to_toml(self) -> str:
        """Return the recipe as TOML, every field and every argument written out."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("generative",) if self.generative is None else OF_CLASSIFIERS:
            del values[name]
        return tomli_w.dumps({name: repr(v) if isinstance(v, Component) else v for name, v in values.items()})

    @property
    def trainable(self) -> Defence | Generative:
        """What is trained."""
        return self.defence if self.generative is None else self.generative

    @property
    def title(self) -> str:
        """A short name for folders and progress lines; of a network as it comes, no defence's."""
        trained = None if self.as_it_comes else self.trainable
        return "-".join(part.name for part in (self.data, self.model, trained) if part is not None)

    @property
    def as_it_comes(self) -> bool:
        """Whether nothing is trained or put in front: a network with the weights that it brings along."""
        return not self.epochs and self.trainable == Standard()


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raises InputError naming it."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise missing(path) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable TOML file ({error})") from None


def parse_changes(settings: list[str]) -> dict[str, object]:
    """Turn `name=value` texts, as `--set` takes them, into fields of a recipe."""
    changes: dict[str, object] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(
                f'--set {setting}: expected name=value, such as --set epochs=3 or --set defence="standard()"'
            )
        changes[name.strip()] = literal(value)
    return changes

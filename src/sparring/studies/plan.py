"""What a study's TOML file says: rows, evaluation, search and claims."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

from sparring.core.results import NormStatistics
from sparring.data.augment import Augmentation
from sparring.generative.recovery import Recovery

Settings = dict[str, float | int | str]
FIGURES = ("accuracy", "confidence", "confidence correct", "confidence error", "ece")
CURVE = "curve"  # a tolerance by this name is that of the published sweep
DISTANCE = "distance"  # over the images that a row has right
OVER_ALL = "distance over all images"  # those that it has wrong at 0
DISTANCES = (DISTANCE, OVER_ALL)
Norm = Literal["linf", "l2", "l1"]
UNDER = "accuracy under "  # and the name of a row with a learned adversary, or of images that are shown
FOOLED = "fooling rate of "  # and the name of images that are shown


@dataclass(frozen=True, kw_only=True)
class ShownPlan:
    """Images that `attack` makes on the models of the rows `on`, and that are shown to every row's model.

    So a paper tests a model by images made on another. Honestly they are made on each row's own model, as someone makes
    them who knows it: for all rows, or for `adaptive` alone. `threat`: if it is not the evaluation's. `examples`: how
    many, if not as many as the evaluation's. `until`: the attack's end, or for each image its success.
    """

    attack: str
    on: tuple[str, ...]
    threat: str = ""
    examples: int | None = None
    until: Literal["end", "success"] = "end"
    adaptive: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class GeometryPlan:
    """Where images that `attacks` make on the models of the rows `on` lie among clean ones; see `evaluation.geometry`.

    `layer`: in whose features it is looked at. `examples` are attacked, within `threat` if it is not the evaluation's,
    and set among `reference` training images at most.
    """

    on: tuple[str, ...]
    attacks: tuple[str, ...]
    layer: str
    threat: str = ""
    examples: int = 200
    reference: int = 1000


@dataclass(frozen=True, kw_only=True)
class RowPlan:
    """One defence: how it is named and trained, and what the paper prints for it.

    A row in the `role` of an adversary is trained for its learned adversary alone, and not judged. One with
    `generative` trains a generative model and no classifier. `seeds`: its own, if it is not trained with all of the
    study's. `published_sweep`: the paper's accuracy by eps. `published_on`: its figures on other data than the study
    file's, by that data's name; where there are none, nothing is set against ours. `evaluation`: how it is judged, if
    not in all as the others are.
    """

    name: str
    recipe: dict[str, object]
    each: dict[str, tuple[float | str, ...]]
    published: dict[str, float]
    tolerance: dict[str, float]
    defence: str = ""
    generative: str = ""
    role: Literal["defence", "adversary"] = "defence"
    seeds: tuple[int, ...] = ()
    published_sweep: dict[str, float] = field(default_factory=dict)
    published_on: dict[str, dict[str, float]] = field(default_factory=dict)
    series: str = ""
    at: float | None = None
    evaluation: "EvaluationPlan | None" = field(default=None, repr=False)  # what is kept is named after it by itself

    @property
    def judged(self) -> bool:
        """Whether it is a defence, which is attacked."""
        return self.role == "defence" and not self.generative


@dataclass(frozen=True, kw_only=True)
class EvaluationPlan:
    """How every row is judged; `protocol` is the paper's own attack and `sweep` the eps at which it is printed.

    `curve`: the eps of the honest curve, by default a grid about the threat's; empty: none.
    `further_sweep`: eps for a curve of their own, on another scale. `statistics`: those of batch norm in the paper's
    protocol; with "batch", in batches as large as in training, the same attack is also made without that fault.
    `views`: changes of the clean images under which accuracy is measured too, by the names of those figures.
    `distances`: minimal attacks in `distance_norm`; the figure "distance" is the mean at which the first of them fools,
    and honestly the mean of the least, over the images first classified right; "distance over all images" counts the
    others, too, as 0, so that rows of unequal accuracy are compared on the same images. `features`: the row and the
    layer in whose features generative models are compared; `recoveries`: by generative row, how its codes are
    recovered. `shown`: by name, images made on some rows' models and shown to all; the figures are "accuracy under
    NAME" and "fooling rate of NAME", with " of ROW" where they are made on several. `draws`: of random models at each
    step of an attack. `geometry`: where adversarial images lie. `adversaries`: rows whose learned
    adversaries attack every row. `faultless`: figures that the paper measured without that fault all the same.
    `examples` limits all, `attacked` the honest attacks alone. `audited`: how many of a row's trainings are audited, if
    not all of them.
    """

    threat: str
    attacks: tuple[str, ...]
    curve: tuple[float, ...] | None = None
    protocol: str = ""
    sweep: tuple[float, ...] = ()
    further_sweep: tuple[float, ...] = ()
    examples: int | None = None
    attacked: int | None = None
    audited: int | None = None
    split: str = "test"
    statistics: NormStatistics = "running"
    adversaries: tuple[str, ...] = ()
    faultless: tuple[str, ...] = ()
    views: dict[str, Augmentation] = field(default_factory=dict)
    distances: tuple[str, ...] = ()
    distance_norm: Norm = "l2"
    features: tuple[str, str] = ("", "")
    recoveries: dict[str, Recovery] = field(default_factory=dict)
    shown: dict[str, ShownPlan] = field(default_factory=dict)
    draws: int | None = None
    geometry: GeometryPlan | None = None


@dataclass(frozen=True, kw_only=True)
class SearchPlan:
    """What the paper leaves open: tried on the validation split of the file's data, with the first seed.

    Chosen by the least distance to the paper's figures of a row, or where they are to be as high as may be, by the sum.
    """

    row: str
    figures: tuple[str, ...]
    grid: dict[str, tuple[int | float, ...]]
    aim: Literal["published", "highest"] = "published"
    train_on: str = "train"
    split: str = "validation"

    def points(self) -> Iterator[Settings]:
        """Yield every combination of the grid."""
        for values in product(*self.grid.values()):
            yield dict(zip(self.grid, values, strict=True))

    def score(self, figures: dict[str, float], published: dict[str, float]) -> float:
        """Return how good a trial is; less is better."""
        if self.aim == "highest":
            return -sum(figures.values())
        return sum(abs(value - published[name]) for name, value in figures.items())

    @property
    def rule(self) -> str:
        """How one is chosen, in words."""
        of = f"{', '.join(self.figures)} of the row '{self.row}'"
        return f"highest sum of {of}" if self.aim == "highest" else f"least summed distance to the paper's {of}"


@dataclass(frozen=True, kw_only=True)
class ClaimPlan:
    """A claim, and the figure of a row that decides it: against a bound, or `above` or `below` another row's figure.

    `than` is that other figure, if it is not the same one. In the column "mended" a claim is decided by the paper's
    attack both with and without the faults of its protocol.
    """

    claim: str
    row: str
    figure: str
    column: Literal["compatibility", "mended", "honest"]
    at_least: float | None = None
    at_most: float | None = None
    above: str = ""
    below: str = ""
    than: str = ""


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """A whole study."""

    name: str
    title: str
    paper: str
    summary: str
    recipe: dict[str, object]
    evaluation: EvaluationPlan
    rows: tuple[RowPlan, ...]
    search: SearchPlan | None
    claims: tuple[ClaimPlan, ...]
    seeds: tuple[int, ...]
    search_seed: int
    search_data: str
    search_published: dict[str, float]

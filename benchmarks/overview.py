"""What is left of the papers' defences, in one table for the README, from the studies' committed results."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sparring.core.records import load
from sparring.core.results import Estimate
from sparring.core.study_results import Row, StudyResult


@dataclass(frozen=True)
class Entry:
    """A row of a study, as the table names it; `figure`: the one that the paper shows it by."""

    study: str
    row: str
    defence: str
    tested: str
    figure: str = "adversarial accuracy"


UNIVERSAL = "accuracy under universal"
PHOTOGRAPHS = "ImageNet, a universal perturbation of 10/255; in earnest, eps 1/255"
PGD_IMAGES = "accuracy under PGD images"
DIGITS = "MNIST, PGD images of the bare network, eps 0.2"
ENTRIES = (
    Entry("lenet-fgsm", "FGSM training", "FGSM training of a LeNet", "MNIST, eps 0.3"),
    Entry("gan-game", "GAN tanh", "training against a network that learns to perturb", "MNIST, eps 0.1"),
    Entry("gan-game", "adversarial training", "FGSM training of the same MLP", "MNIST, eps 0.1"),
    Entry("a3t", "A3T", "a discriminator on a hidden layer, as published", "MNIST, eps 0.1"),
    Entry("a3t", "A3T at 0.1", "the same, trained at the eps of the test", "MNIST, eps 0.1"),
    Entry("a3t", "AT at 0.1, PGD", "PGD training of the same MLP", "MNIST, eps 0.1"),
    Entry("latent-mixing", "latent mix, GAN", "images interpolated by a GAN", "MNIST, eps 0.1"),
    Entry("latent-mixing", "PGD training", "PGD training of the same CNN", "MNIST, eps 0.1"),
    Entry("masks", "additive noise", "noise before the network", PHOTOGRAPHS, UNIVERSAL),
    Entry("masks", "downsampling to 50 %", "halved resolution", PHOTOGRAPHS, UNIVERSAL),
    Entry("masks-mnist", "Defense-GAN", "the nearest image that a GAN draws", DIGITS, PGD_IMAGES),
    Entry("masks-mnist", "autoencoder", "an autoencoder before the network", DIGITS, PGD_IMAGES),
    Entry("masks-mnist", "1 bit", "rounding to black and white", DIGITS, PGD_IMAGES),
    Entry("masks-mnist", "multi-task", "further tasks in training", DIGITS, PGD_IMAGES),
)


def overview(results: Path) -> str:
    """Return the table: published, the same by the paper's own protocol, and what whoever attacks in earnest leaves."""
    heads = ("defence", "tested on", "clean", "published", "by its protocol, here", "attacked in earnest, here")
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for entry in ENTRIES:
        row = _row(results, entry)
        figure = next(each for each in row.figures if each.name == entry.figure)
        published = "-" if figure.published is None else f"{100 * figure.published:.1f}"
        page = f"[{entry.defence}](docs/studies/{entry.study}.md)"
        clean = next(each for each in row.figures if each.name == "clean accuracy").compatibility
        ours = f"**{_percent(row.evaluation.robust)}**"
        cells = (page, entry.tested, f"{100 * clean.value:.1f}", published, _percent(figure.compatibility), ours)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _row(results: Path, entry: Entry) -> Row:
    return next(row for row in _study(results / f"{entry.study}.json").rows if row.name == entry.row)


@cache
def _study(path: Path) -> StudyResult:
    return load(StudyResult, path)


def _percent(value: Estimate) -> str:
    return f"{100 * value.value:.1f} ({100 * value.low:.1f} to {100 * value.high:.1f})"

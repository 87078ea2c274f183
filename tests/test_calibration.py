"""Calibration: beside an independent library, by hand, and at its edges."""

import pytest
import torch
import torchmetrics.functional.classification as torchmetrics
from torch import Tensor

from sparring.evaluation.calibration import calibration


def some(n: int = 500, k: int = 10, scale: float = 2.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(k, (n,), generator=generator)
    logits = scale * torch.randn(n, k, generator=generator)
    logits[torch.arange(n), y] += 2
    return logits, y


@pytest.mark.parametrize("bins", [10, 15])
@pytest.mark.parametrize(("k", "scale"), [(2, 0.5), (10, 2.0), (10, 50.0), (100, 1.0)])
def test_the_error_is_torchmetrics(k: int, scale: float, bins: int) -> None:
    logits, y = some(k=k, scale=scale)
    theirs = torchmetrics.multiclass_calibration_error(logits.double().softmax(1), y, k, n_bins=bins)
    found = calibration(logits, y, bins)
    assert found.ece.value == pytest.approx(float(theirs), abs=1e-6)
    assert sum(part.count for part in found.bins) == 500
    weighed = sum(b.count * abs(b.accuracy - b.confidence) for b in found.bins if b.count) / 500
    assert found.ece.value == pytest.approx(weighed, abs=1e-12)


def test_by_hand() -> None:
    """Two images at 0.8, one of them right; two at 0.6, both right: 1/2 * 0.3 + 1/2 * 0.4."""
    p = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.6, 0.4]])
    found = calibration(p.log(), torch.tensor([0, 1, 0, 0]), bins=4)  # 0.6 in (0.5, 0.75], 0.8 above
    assert found.ece.value == pytest.approx(0.35, abs=1e-6)
    assert [b.count for b in found.bins] == [0, 0, 2, 2]
    assert found.bins[3].accuracy == 0.5


def test_the_interval_covers_the_truth_of_a_calibrated_model_and_of_one_too_sure() -> None:
    """Labels drawn from the model's own probabilities: the true error is 0; tripling the logits makes it large."""
    covered = 0
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        logits = 1.5 * torch.randn(1000, 3, generator=generator)
        y = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
        sound, sure = calibration(logits, y).ece, calibration(3 * logits, y).ece
        covered += sound.low == 0
        assert sure.low > sound.high
    assert covered >= 36


def test_no_image_one_image_and_a_broken_model() -> None:
    empty = calibration(torch.zeros(0, 3), torch.zeros(0).long())
    assert empty.ece.n == 0
    one = calibration(torch.tensor([[2.0, 1.0]]), torch.tensor([0]))
    assert one.ece.value == pytest.approx(1 - torch.tensor([2.0, 1.0]).softmax(0)[0].item(), abs=1e-6)
    broken = calibration(torch.full((4, 3), float("nan")), torch.zeros(4).long())
    assert broken.ece.value == 1  # sure and wrong: who gives no prediction is not right


def test_a_bin_holds_its_upper_end() -> None:
    """Two classes at equal logits are at 0.5 exactly, which belongs to (0.25, 0.5]."""
    found = calibration(torch.zeros(3, 2), torch.tensor([0, 0, 1]), bins=4)
    assert [b.count for b in found.bins] == [0, 3, 0, 0]

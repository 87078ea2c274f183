"""Batch norm left in training mode: as PyTorch has it, named in the record, and never the default."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import sparring
from sparring import evaluate
from sparring.models import CNN, MLP, ResNet18
from sparring.models.batch_statistics import with_batch_statistics


@pytest.mark.parametrize("model", [MLP(hidden=(16,), norm="batch"), ResNet18(width=8)], ids=lambda m: m.name)
def test_it_predicts_as_the_model_does_in_training_mode_and_leaves_it_alone(model: MLP | CNN) -> None:
    net = model.build((1, 8, 8), 10)
    x = torch.rand(12, 1, 8, 8)
    net.train()(x)  # so that the running statistics are not those of the beginning
    net.eval()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    changed = with_batch_statistics(net)
    found = changed.eval()(x)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert not torch.allclose(found, net(x), atol=1e-3)
    assert torch.allclose(found, net.train()(x), atol=1e-5)
    assert torch.allclose(changed.train()(x), found)


def test_a_lone_image_and_layers_without_weights_pass() -> None:
    lone = with_batch_statistics(nn.BatchNorm1d(3, affine=False))(torch.rand(1, 3))
    assert torch.equal(lone, torch.zeros(1, 3))
    x = torch.rand(4, 3, 2, 2)
    norm = nn.Sequential(nn.BatchNorm2d(3))
    with torch.no_grad():
        norm[0].weight.copy_(torch.tensor([1.0, 2, 3]))
        norm[0].bias.copy_(torch.tensor([4.0, 5, 6]))
    assert torch.allclose(with_batch_statistics(norm)(x), norm.train()(x), atol=1e-5)


def test_the_record_names_it_and_a_check_fails(make_data: Callable, tmp_path: Path) -> None:
    net = MLP(hidden=(16,), norm="batch").build((1, 4, 4), 3).eval()
    data: SimpleNamespace = make_data(net, 20, shape=(1, 4, 4), seed=1)
    usual = evaluate(net, (data.x, data.y), "linf(0.01)", "fgsm()", curve=())
    assert usual.statistics == "running"
    assert not [flag for flag in usual.flags if flag.severity == "fail"]
    marked = evaluate(net, (data.x, data.y), "linf(0.01)", "fgsm()", curve=(), statistics="batch")
    assert marked.statistics == "batch"
    assert "batch-mates" in [flag.check for flag in marked.flags if flag.severity == "fail"]
    marked.save(tmp_path / "record.json")
    assert sparring.Evaluation.load(tmp_path / "record.json").statistics == "batch"
    assert marked.model == "Sequential"
    right = (with_batch_statistics(net)(data.x).argmax(1) == data.y).float().mean()
    assert marked.clean.value == pytest.approx(float(right))
    assert marked.clean.value < usual.clean.value == 1


def test_every_layer_keeps_its_own_mode() -> None:
    """A layer that is set to stay as it is, is not as it is in training."""
    net = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(), nn.BatchNorm2d(2)).train()
    net[1].eval()
    changed = with_batch_statistics(net)
    assert [module.training for module in net] == [True, False, True]
    assert not changed[1].training

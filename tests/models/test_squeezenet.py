"""SqueezeNet: its parameters by name, the released weights, and weights of something else."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from sparring.core.errors import InputError
from sparring.models import CNN, SqueezeNet
from sparring.models.weights import fill
from sparring.recipe import Recipe, fit

SAMPLE = Path(os.environ.get("SPARRING_DATA") or Path(__file__).parents[3] / "shared" / "data") / "imagenet-sample"


def test_it_has_the_parameters_of_the_paper() -> None:
    """1.25 million of them (table 1 of the paper: 1,248,424), named as released."""
    network = SqueezeNet().build((3, 32, 32), 1000)
    assert sum(p.numel() for p in network.parameters()) == 1_248_424
    names = set(network.state_dict())
    assert {"features.0.weight", "features.12.expand3x3.bias", "classifier.1.weight"} <= names
    assert len(names) == 52
    assert network(torch.rand(2, 3, 33, 21)).shape == (2, 1000)


def test_images_that_do_not_fit_are_refused() -> None:
    for shape in ((1, 32, 32), (3, 20, 32)):
        with pytest.raises(InputError, match="colour images of at least 21x21"):
            SqueezeNet().build(shape, 10)


def test_weights_are_loaded_and_nothing_is_trained_in_no_epoch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = SqueezeNet().build((3, 32, 32), 2)
    save_file(given.state_dict(), tmp_path / "weights.safetensors")
    for name, level in (("dark", 60), ("light", 190)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for place in range(20):
            pixels = np.full((32, 32, 3), level + place, np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{place}.png")
    recipe = Recipe.of(
        {
            "data": f'folder("{tmp_path / "images"}")',
            "model": f"squeezenet(weights='{tmp_path / 'weights.safetensors'}')",
            "epochs": 0,
        }
    )
    fitted = fit(recipe, runs=tmp_path / "runs", quiet=True)
    x = torch.rand(3, 3, 32, 32)
    assert torch.allclose(fitted.model(x), given.eval()(x), atol=1e-5)
    (tmp_path / "weights.safetensors").unlink()
    again = fit(recipe, runs=tmp_path / "runs", quiet=True)  # the run keeps them
    assert torch.allclose(again.model(x), given(x), atol=1e-5)


def test_weights_of_another_network_are_named(tmp_path: Path) -> None:
    network = SqueezeNet().build((3, 32, 32), 10)
    with pytest.raises(
        InputError, match=r"of another network: classifier.1.weight is \(1000, 512, 1, 1\), not \(10, 512, 1, 1\)"
    ):
        fill(network, SqueezeNet().build((3, 32, 32), 1000).state_dict(), "here")
    with pytest.raises(InputError, match=r"here: .* missing classifier.1.bias, .* and \d+ more; unknown 0.bias"):
        fill(network, CNN().build((3, 32, 32), 10).state_dict(), "here")
    with pytest.raises(InputError, match=r"nowhere.safetensors is not to be found; looked at"):
        SqueezeNet(weights="nowhere.safetensors").fill(network)
    (tmp_path / "cut.safetensors").write_bytes(b"1234567890")
    with pytest.raises(InputError, match="not readable as safetensors"):
        SqueezeNet(weights=str(tmp_path / "cut.safetensors")).fill(network)
    assert isinstance(network, nn.Module)


@pytest.mark.skipif(not (SAMPLE / "images.zip").exists(), reason="needs imagenet-sample")
def test_the_released_weights_know_imagenet() -> None:
    """On the first 50 of the 1,000 images; on all of them 62.0 % are right, as measured by hand."""
    model = SqueezeNet(weights=str(SAMPLE / "squeezenet1_0.safetensors"))
    network = model.build((3, 224, 224), 1000).eval()
    model.fill(network)
    with zipfile.ZipFile(SAMPLE / "images.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))[:50]
        images = [np.array(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names]
    x = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        right = network(x).argmax(1) == torch.arange(50)  # one image a class, sorted
    assert float(right.float().mean()) > 0.5

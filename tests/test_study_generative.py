"""Studies with generative models, views of the clean images, and distances."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from sparring import report
from sparring.attacks import run
from sparring.core.errors import InputError
from sparring.core.records import load
from sparring.core.results import Estimate
from sparring.core.study_results import Figure, Row, StudyResult
from sparring.core.threat import L2
from sparring.data import load as load_data
from sparring.data.augment import Blur
from sparring.generative.codes import codes_of
from sparring.generative.quality import drawn, features, frechet_distance, precision_and_recall
from sparring.generative.recovery import RECOVERIES, recover
from sparring.generative.saved import load_generative
from sparring.models.saved import load as load_model
from sparring.recipe import Recipe, fit
from sparring.studies import read_plan, run_study
from sparring.studies.claims import decide
from sparring.studies.drawing import Drawing
from sparring.studies.expansion import expand
from sparring.studies.plan import ClaimPlan
from sparring.studies.pooling import pooled_row

TOML = """
name = "drawn"
title = "Small models that draw"
paper = "none"
summary = "What do they draw?"
seeds = [3, 5]

[recipe]
data = "digits()"
model = "cnn()"
optimiser = "adam(lr=0.005)"
epochs = 2
batch_size = 64

[evaluation]
threat = "linf(0.1)"
attacks = ["fgsm()"]
examples = 150
attacked = 30
curve = [0.1]
protocol = "fgsm()"
views = { "blurred accuracy" = "blur(size=3, sigma=1)" }
distances = ["deepfool()", "ddn(steps=20)"]
features = ["standard", "6"]
recoveries = { encoded = "recovery(steps=3)", VAE = "recovery(steps=2)" }

[[rows]]
name = "standard"
defence = "standard()"
published = { distance = 1.4, "blurred accuracy" = 0.9 }
tolerance = { distance = 0.2 }

[[rows]]
name = "GAN"
generative = "gan(latent=6, width=8)"
seeds = [0]
recipe = { optimiser = "adam(lr=0.002)", epochs = 4 }

[[rows]]
name = "encoded"
generative = "encoding(model='{run:GAN}', width=8)"
seeds = [0]

[[rows]]
name = "VAE"
generative = "vae(latent=6, width=8, conditional=true)"
recipe = { epochs = 5 }

[[rows]]
name = "mixed"
defence = "latent_mix(model='{run:encoded}', recovery=recovery(steps=3), least_psnr=1)"

[[rows]]
name = "drawn alone"
defence = "generated(model='{run:VAE}')"

[[claims]]
claim = "mixing moves the boundary away"
row = "mixed"
figure = "distance"
above = "standard"
column = "honest"
"""


def written(folder: Path, change: tuple[str, str] = ("", "")) -> str:
    path = folder / "drawn.toml"
    path.write_text(TOML.replace(*change) if change[0] else TOML)
    return str(path)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[StudyResult, Path]:
    folder = tmp_path_factory.mktemp("study")
    found, _ = run_study(written(folder), runs=folder / "runs", out=folder / "report", quiet=True)
    return found, folder


def row(result: tuple[StudyResult, Path], name: str) -> Row:
    return next(row for row in result[0].rows if row.name == name)


def figure(of: Row, name: str) -> Figure:
    return next(figure for figure in of.figures if figure.name == name)


def test_generative_models_are_trained_with_their_own_seeds_and_serve_all(result: tuple[StudyResult, Path]) -> None:
    found, folder = result
    assert [model.name for model in found.generatives] == ["GAN", "encoded", "VAE"]
    assert [row.name for row in found.rows] == ["standard", "mixed", "drawn alone"]
    runs = sorted(path.name for path in (folder / "runs").iterdir())
    assert sum("digits-gan-" in name for name in runs) == 1
    assert sum("digits-encoding-" in name for name in runs) == 1
    assert sum("digits-vae-" in name for name in runs) == 2  # it has no seeds of its own
    encoded = next(name for name in runs if "encoding" in name)
    for repeat in row(result, "mixed").repeats:
        assert encoded in (folder / "runs" / repeat.run / "recipe.toml").read_text()
    vaes = {
        (folder / "runs" / repeat.run / "recipe.toml").read_text().split("model='")[1].split("'")[0]
        for repeat in row(result, "drawn alone").repeats
    }
    assert len(vaes) == 2


def test_what_was_measured_of_them_is_not_measured_again(
    result: tuple[StudyResult, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found, folder = result

    def refused(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(Drawing, "row", refused)
    again, _ = run_study(written(folder), runs=folder / "runs", out=folder / "again", quiet=True)
    assert again.generatives == found.generatives
    for one, other in zip(again.generatives, found.generatives, strict=True):
        assert one.arrays.keys() == other.arrays.keys()
        assert all(np.array_equal(one.arrays[key], other.arrays[key]) for key in one.arrays)


def test_a_single_seed_still_finds_its_generative_models(tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path), changes={"seed": 5})
    trained = {row.name: [t.seed for t in trainings] for row, trainings in expand(plan, {})}
    assert trained == {"standard": [5], "GAN": [0], "encoded": [0], "VAE": [5], "mixed": [5], "drawn alone": [5]}


def test_quality_is_what_the_pieces_measure(result: tuple[StudyResult, Path]) -> None:
    found, folder = result
    quality = {model.name: {m.name: m.value for m in model.quality} for model in found.generatives}
    assert set(quality["GAN"]) == {"Fréchet distance in a classifier's features", "precision", "recall"}
    assert "drawn images that a classifier takes for the class asked for" in quality["VAE"]
    encoded = next(model for model in found.generatives if model.name == "encoded")
    split = load_data("digits()").train
    recovery = RECOVERIES.parse("recovery(steps=3)")
    codes = codes_of(encoded.run, split, recovery, runs=folder / "runs", device=torch.device("cpu"))
    value = quality["encoded"]["PSNR of recovered images, 50% quantile (dB)"]
    assert value.value == pytest.approx(float(codes.psnr.median()), abs=0.05)
    network = load_generative(folder / "runs" / encoded.run)
    with torch.no_grad():
        again = network.decode(codes.z, split.y)
    eye = load_model(folder / "runs" / row(result, "standard").repeats[0].run)
    same = (eye(again).argmax(1) == eye(split.images()).argmax(1)).float().mean()
    agreement = quality["encoded"]["recovered images that a classifier takes for what it takes the image for"]
    assert agreement.value == pytest.approx(float(same), abs=2e-3)
    assert agreement.n == len(split)
    pictured = encoded.arrays["reconstructions"]
    assert pictured.shape == (2, 10, 1, 8, 8)
    first = [int((split.y == k).nonzero()[0]) for k in range(10)]
    assert np.allclose(pictured[0], split.take(torch.tensor(first)).images().numpy())
    assert np.allclose(pictured[1], again[first].numpy(), atol=1e-5)
    worst = codes.error.argsort()[-10:]
    assert np.allclose(encoded.arrays["worst"][1], again[worst].numpy(), atol=1e-5)


def test_the_way_between_two_images_ends_at_their_codes(result: tuple[StudyResult, Path]) -> None:
    for model in result[0].generatives:
        if "interpolations" in model.arrays:
            way, given = model.arrays["interpolations"], model.arrays["reconstructions"]
            assert way.shape == (5, 9, 1, 8, 8)
            assert model.arrays["weights"].tolist() == pytest.approx([0, 0.1, 0.25, 0.5, 0.75, 0.9, 1])
            for place in range(5):
                ends = given[:, 2 * place], given[:, 2 * place + 1]
                assert np.allclose(way[place, [0, 1]], ends[0], atol=1e-5)
                assert np.allclose(way[place, [8, 7]], ends[1], atol=1e-5)


def test_blurred_accuracy_and_distance_are_what_they_say(result: tuple[StudyResult, Path]) -> None:
    found, folder = result
    repeats = row(result, "standard").repeats
    test = load_data("digits()").test
    blurred, distances, over_all = [], [], []
    for repeat in repeats:
        model = load_model(folder / "runs" / repeat.run)
        given = test.sample(150, 0)
        x = Blur(size=3, sigma=1.0)(given.images(), torch.Generator())
        blurred.append(float((model(x).argmax(1) == given.y).float().mean()))
        attacked = test.sample(30, repeat.seed)
        outcomes = [
            run(call, model, attacked.images(), attacked.y, L2(float("inf")), seed=repeat.seed)
            for call in ("deepfool()", "ddn(steps=20)")
        ]
        right = model(attacked.images()).argmax(1) == attacked.y
        each = [torch.where(o.success, o.distance, torch.inf)[right] for o in outcomes]
        distances.append([float(each[0].mean()), float(torch.minimum(*each).mean())])
        over_all.append(float(torch.minimum(*each).sum() / len(right)))
    seen, far = figure(row(result, "standard"), "blurred accuracy"), figure(row(result, "standard"), "distance")
    assert seen.compatibility.value == pytest.approx(np.mean(blurred), abs=1e-6)
    assert seen.honest is None
    assert (far.unit, far.published, far.reproduced) == ("number", 1.4, False)
    assert far.compatibility.value == pytest.approx(np.mean(distances, 0)[0], rel=1e-4)
    assert far.honest is not None
    assert far.honest.value == pytest.approx(np.mean(distances, 0)[1], rel=1e-4)
    assert far.honest.value <= far.compatibility.value
    every = figure(row(result, "standard"), "distance over all images").honest
    assert every is not None
    assert every.value == pytest.approx(np.mean(over_all), rel=1e-4)
    assert every.value < far.honest.value
    told = next(f for f in found.findings if f.claim == "mixing moves the boundary away")
    assert "points" not in told.sentence
    assert "%" not in told.sentence


def test_record_and_page_hold_the_models(result: tuple[StudyResult, Path], tmp_path: Path) -> None:
    found, folder = result
    again = load(StudyResult, folder / "report" / "results.json")
    assert again == found
    for model, same in zip(found.generatives, again.generatives, strict=True):
        assert model.arrays.keys() == same.arrays.keys()
        assert all(np.array_equal(model.arrays[key], same.arrays[key]) for key in model.arrays)
    page = (folder / "report" / "report.html").read_text()
    assert page.count('class="sheet"') == 2 + 8  # two kinds of samples, and four sheets of each recovery
    assert "How near what fools it lies" in page
    figures = {path.name for path in (folder / "report" / "figures").glob("*.png")}
    assert {"samples.png", "recovered.png", "interpolations.png"} <= figures
    (folder / "report" / "results.npz").rename(tmp_path / "results.npz")
    bare = load(StudyResult, folder / "report" / "results.json")
    (tmp_path / "results.npz").rename(folder / "report" / "results.npz")
    assert "No images were kept" in report.write(bare, tmp_path).read_text()
    assert not (tmp_path / "figures" / "samples.png").exists()


def test_a_mean_distance_may_exceed_one_and_be_infinite(result: tuple[StudyResult, Path]) -> None:
    inf = float("inf")
    for values, expected in (([1.5, 2.5], 2.0), ([1.5, inf], inf)):
        rows = []
        for value in values:
            far = Figure(
                "distance", None, Estimate(value, 0.1, 3.0, 9), Estimate(value, 0.1, 3.0, 9), None, unit="number"
            )
            rows.append(Row(**{**vars(row(result, "standard")), "figures": (far,)}))
        pooled = pooled_row(rows, (0, 1)).figures[0]
        assert pooled.compatibility.value == expected
        assert pooled.compatibility.high > 1 or expected == inf


def test_a_claim_about_a_distance_has_a_bound_that_is_one(result: tuple[StudyResult, Path]) -> None:
    rows = {row.name: row for row in result[0].rows}
    claim = ClaimPlan(claim="c", row="standard", figure="distance", column="honest", at_least=123.0)
    found = decide(claim, rows)
    assert found.verdict == "does not hold"
    assert "asks for at least 123." in found.sentence


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('generative = "gan(latent=6, width=8)"', ""), "row 'GAN' needs a defence in quotes, or a generative model"),
        (('defence = "standard()"', 'defence = "standard()"\ngenerative = "gan()"'), "row 'standard' needs a defence"),
        (("encoded = ", "encodet = "), "unknown row 'encodet'.*did you mean 'encoded'"),
        (('features = ["standard"', 'features = ["standart"'), "unknown row 'standart'"),
        (('"blur(size=3', '"blurr(size=3'), "blurr.*did you mean 'blur'"),
        (("recovery(steps=2)", "recovery(step=2)"), "unknown argument 'step'.*did you mean 'steps'"),
        (("{run:GAN}", "{run:GAM}"), "no row above it is so called.*did you mean 'GAN'"),
    ],
)
def test_bad_plans_end_in_one_clear_line(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        expand(read_plan(written(tmp_path, change)), {})


def test_precision_and_codes_found_again_are_what_they_are_called(result: tuple[StudyResult, Path]) -> None:
    found, folder = result
    models = {model.name: model for model in found.generatives}
    network = load_generative(folder / "runs" / models["VAE"].run)
    eye = load_model(folder / "runs" / row(result, "standard").repeats[0].run)
    test = load_data("digits()").test
    of = [features(eye, "6", x) for x in (test.images(), drawn(network, test.y))]
    precision, recall = precision_and_recall(*of)
    assert precision.value != recall.value
    values = [measured.value.value for measured in models["VAE"].quality]
    assert values[:3] == pytest.approx([frechet_distance(*of), precision.value, recall.value], rel=1e-4)
    y = torch.arange(500) % 10
    z = network.draw(500, torch.Generator().manual_seed(1)).clamp(-3, 3)
    with torch.no_grad():
        x = network.decode(z, y)
    codes, _ = recover(network, x, y, RECOVERIES.parse("recovery(steps=2)"))
    quality = {measured.name: measured.value.value for measured in models["VAE"].quality}
    assert quality["its own codes found again"] == float(((codes - z).abs() < 1e-3).all(1).double().mean())
    with torch.no_grad():
        error = (network.decode(codes, y) - x).flatten(1).square().mean(1)
    near = quality["PSNR of its own images recovered, 50% quantile (dB)"]
    assert near == pytest.approx(float((-10 * error.log10()).median()), rel=1e-4)


def test_codes_by_a_classifiers_features_and_rows_that_are_all_generative(tmp_path: Path) -> None:
    fields = {"data": "digits()", "model": "cnn()", "epochs": 1, "limit": 200}
    eye = fit(Recipe.of(fields), runs=tmp_path / "runs", quiet=True).run.path.name
    head = TOML.partition("[[rows]]")[0]
    vae = '[[rows]]\nname = "VAE"\ngenerative = "vae(latent=6, width=8)"\nrecipe = { epochs = 1, limit = 200 }\n'
    text = head.replace('features = ["standard", "6"]\n', "").replace("seeds = [3, 5]", "seeds = [3]")
    call = f"recovery(steps=1, target='both', classifier='{eye}', layer='6')"
    text = text.partition("recoveries")[0] + f'recoveries = {{ VAE = "{call}" }}\n\n' + vae
    (tmp_path / "all.toml").write_text(text)
    found, page = run_study(str(tmp_path / "all.toml"), runs=tmp_path / "runs", out=tmp_path / "out", quiet=True)
    assert found.rows == ()
    assert "its own codes found again" in [measured.name for measured in found.generatives[0].quality]
    assert page.exists()


def test_it_may_be_measured_on_another_device(
    result: tuple[StudyResult, Path], tmp_path: Path, other_device: torch.device
) -> None:
    measured = shutil.ignore_patterns("evaluations", "measured", "codes")
    shutil.copytree(result[1] / "runs", tmp_path / "runs", ignore=measured)
    fewer = TOML.replace("examples = 150\nattacked = 30", "examples = 20\nattacked = 5")
    (tmp_path / "fewer.toml").write_text(fewer.replace("seeds = [3, 5]", "seeds = [3]"))
    again, _ = run_study(
        str(tmp_path / "fewer.toml"), runs=tmp_path / "runs", out=tmp_path, device=other_device.type, quiet=True
    )
    assert {row.evaluation.provenance.device for row in again.rows} == {str(other_device)}

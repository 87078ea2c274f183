"""Models that are judged with the weights that they bring along."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from sparring.core.errors import InputError
from sparring.recipe.fitting import RUNS, fit
from sparring.recipe.opening import Fitted, identity
from sparring.recipe.recipe import Recipe
from sparring.training.runs import Run


def as_it_comes(model: str, data: str, *, runs: str | Path = RUNS, device: str = "auto") -> Fitted:
    """Return a model with the weights that it brings along, in a run folder of its own; nothing is trained.

    `model` and `data` are call strings; raises InputError where one is missing, or cannot be used.
    """
    if not data:
        raise InputError(f"{model}: to judge a model that was not trained here, say on which data (--data)")
    recipe = Recipe.of({"data": data, "model": model, "epochs": 0})
    Path(runs).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=runs, prefix=".") as new:  # what it is made of may have changed since it was judged
        fitted = fit(recipe, runs=new, device=device, quiet=True)
        run = Run.place(Path(runs), recipe.title, recipe.to_toml() + identity(fitted))
        if not run.finished:
            shutil.rmtree(run.path, ignore_errors=True)
            fitted.run.path.rename(run.path)
    return Fitted(run, fitted.model)

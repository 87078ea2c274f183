"""Recipes: what to train and how, as data; `fit` trains one, `open_run` opens what came out."""

from sparring.recipe.as_it_comes import as_it_comes
from sparring.recipe.fitting import RUNS, fit, run_of, training_split
from sparring.recipe.hardening import harden
from sparring.recipe.opening import Fitted, data_of, defence_of, fabric_on, identity, open_run
from sparring.recipe.recipe import OF_CLASSIFIERS, Recipe, parse_changes, read_toml

__all__ = [
    "OF_CLASSIFIERS",
    "RUNS",
    "Fitted",
    "Recipe",
    "as_it_comes",
    "data_of",
    "defence_of",
    "fabric_on",
    "fit",
    "harden",
    "identity",
    "open_run",
    "parse_changes",
    "read_toml",
    "run_of",
    "training_split",
]

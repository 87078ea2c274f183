"""Studies: one TOML file each, which trains every defence, attacks each and writes one report."""

from sparring.studies.plan import StudyPlan
from sparring.studies.reading import read_plan, studies
from sparring.studies.study import join_study, run_study

__all__ = ["StudyPlan", "join_study", "read_plan", "run_study", "studies"]

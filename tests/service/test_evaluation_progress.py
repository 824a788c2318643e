"""How far an evaluation is: written down part by part, beside the epoch figures, and said in words."""

from __future__ import annotations

from pathlib import Path

from models.database import open_database
from service.job_words import progress_in_words
from service.jobs.progress import JobProgress
from service.jobs.trainer import ProgressReports

FIGURES = {"epoch": 7, "epochs": 9, "metrics": {"loss": 0.2}, "seconds_left": 1.0}


def test_each_part_of_an_evaluation_is_reported_and_the_epoch_figures_stay(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'vitrine.sqlite'}")
    progress = JobProgress(engine)
    reports = ProgressReports(progress, "JOB", lambda: 0.0)

    reports.epoch(FIGURES, last=True)
    reports.evaluation("baselines", 3, 6)

    step, figures = progress.read(["JOB"])["JOB"]
    document = {"status": "running", "step": step, "progress": figures}
    engine.dispose()
    assert {**FIGURES, "part": "baselines", "parts_done": 3, "parts": 6} == figures
    assert "evaluating: baselines" == progress_in_words(document)

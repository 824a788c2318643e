"""The job database is opened when it is needed; until it can be, whoever needs it is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models.database import open_database
from service.errors import JobsUnavailable
from service.jobs.queue import JobQueue


def test_a_job_database_that_cannot_be_opened_is_tried_again_by_whoever_asks_next(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path / 'vitrine.sqlite'}")
    file = tmp_path / "jobs.sqlite"
    file.write_bytes(b"no database" * 1000)
    jobs = JobQueue(f"sqlite:///{file}", engine)

    for look in (jobs.open, lambda: jobs.jobs(limit=1)):
        with pytest.raises(JobsUnavailable):
            look()
    file.unlink()

    assert [] == jobs.jobs(limit=1)
    jobs.close()
    engine.dispose()


def test_opening_the_jobs_leaves_alone_how_queries_look_at_values() -> None:
    """Threads that read the databases meanwhile would meet half of what is being imported."""
    code = (
        "import service.app\n"
        "from sqlalchemy import inspection\n"
        "before = set(inspection._registrars)\n"
        "import dbos\n"
        "changed = set(inspection._registrars) - before\n"
        "print({kind.__module__.removesuffix('.engine') for kind in changed} <= {'sqlalchemy.ext.asyncio'})\n"
    )

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)

    assert "True" == printed.stdout.strip()

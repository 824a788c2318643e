"""A fresh database, and a disk that a test makes small, and larger again."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import sqlalchemy as sa
from disks import resize
from disks import small_disk as mounted

from models.database import open_database


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    engine = open_database(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Gives the folder of a disk of so many bytes; called again, it changes its size."""
    folder = tmp_path / "small-disk"
    with ExitStack() as stack:

        def of_size(n_bytes: int) -> Path:
            if folder.exists():
                resize(folder, n_bytes)
                return folder
            return stack.enter_context(mounted(folder, n_bytes))

        yield of_size

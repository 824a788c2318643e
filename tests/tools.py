"""Programs that some tests need beside Python: skipped without them here, an error without them in CI."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

REQUIRE = "TESTS_REQUIRE_TOOLS"
"""Where this variable is set, as in `.ci/run`, a missing program fails the tests that need it."""


def need(program: str, *, package: str) -> str:
    """The path of a program. Skips the test that asks where it is missing, or fails it when tools are required."""
    return shutil.which(program) or missing(program, package=package)


def missing(program: str, *, package: str) -> NoReturn:
    """Skips the test that asks for a program, or fails it when tools are required."""
    reason = f"{program} is missing: apt-get install --no-install-recommends {package}"
    if os.environ.get(REQUIRE):
        pytest.fail(f"{reason} ({REQUIRE} is set)")
    pytest.skip(reason)

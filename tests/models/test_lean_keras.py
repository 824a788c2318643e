"""Keras is imported without what nothing hands it, in the processes that wait for it."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from models.lean_keras import UNUSED, import_keras
import_keras()
assert "keras" in sys.modules and "tensorflow" in sys.modules
print([name for name in UNUSED if name in sys.modules])
import matplotlib.pyplot, pandas, sklearn.base
from models.training import fit
print("all there")
"""


@pytest.mark.long
def test_what_keras_is_never_handed_is_left_out_and_can_be_imported_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=240)

    assert ["[]", "all there"] == done.stdout.splitlines()[-2:], done.stderr[-3000:]

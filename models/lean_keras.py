"""Keras without the libraries that it imports only so that it can be handed their objects, or draw with them."""

from __future__ import annotations

import importlib
import sys
from typing import Any

UNUSED = ("matplotlib", "pandas", "sklearn")
"""What Keras imports where it is installed: nothing here hands it a data frame, wraps it, or draws with it."""


def import_keras() -> None:
    """Imports Keras and its backend in half the time, in a process that has not done so yet.

    What is left out can be imported as ever afterwards. Meanwhile no other thread may do so.
    """
    absent = [name for name in UNUSED if name not in sys.modules]
    modules: dict[str, Any] = sys.modules
    # To import a name that stands for None fails as if nothing of it were installed.
    modules.update(dict.fromkeys(absent))
    try:
        importlib.import_module("keras")
    finally:
        for name in absent:
            del sys.modules[name]

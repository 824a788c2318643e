"""Loading gives way to predictions; the threads that predict afterwards do not."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from models.artifact import Artifact
from service.serving import choosing
from service.serving.choosing import ChosenEngine, EngineRules, choose_engine
from service.serving.engine import Warmth
from service.serving.loaders import NICE, Loaders


def threads_of_this_process() -> set[int]:
    return {int(path.name) for path in Path("/proc/self/task").iterdir()}


def niceness(thread: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, thread)


@pytest.mark.anyio
async def test_a_network_that_is_given_all_cores_is_loaded_by_a_niced_thread_and_computed_by_others(
    diabetes_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = iter([10.0, 4.0])
    monkeypatch.setattr(choosing, "is_installed", lambda: False)
    monkeypatch.setattr(choosing, "warm_up", lambda *_: Warmth(next(taken), 100.0, 32))
    loaders = Loaders()
    before = threads_of_this_process()

    def load() -> tuple[int, ChosenEngine | None]:
        chosen = choose_engine(diabetes_artifact, EngineRules("onnxruntime", cores=3), loaders.open)
        return threading.get_native_id(), chosen

    loader, chosen = await loaders.run(load)
    started = threads_of_this_process() - before - {loader}
    own = niceness(threading.get_native_id())
    try:
        assert chosen is not None
        assert chosen.report.threads == 3
        assert chosen.engine.evaluate(np.zeros((1, 10), np.float32), "value").shape == (1, 1)
        assert niceness(loader) == min(own + NICE, 19)
        assert len(started) >= 2  # ONNX Runtime's, beside the one that calls
        assert {niceness(thread) for thread in started} == {own}
    finally:
        loaders.close()

"""The process for shap's explainers: what they change in TensorFlow and NumPy, and how long they take, is theirs alone.

It takes the same orders as the compute process, and runs the same code on the version's Keras model.
"""

from __future__ import annotations

import os
import sys
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from models.artifact import Artifact
from models.cores import limit_tensorflow
from models.outputs import target_model
from service.logs import configure_logging
from service.processes import hold_lifeline
from service.serving.compute_process import ComputeProcess
from service.serving.courtesy import Courtesy, PoliteEngine
from service.serving.engine import Engine, KerasEngine
from service.serving.explaining import ExplainedVersion, LoadReport, Networks
from service.serving.prices import LearnedPrice
from service.settings import read_settings


class PoliteModel:
    """A Keras model that gives way before each call: with the next one, what nobody waits for any more ends."""

    def __init__(self, model: Any, courtesy: Courtesy) -> None:
        self._model, self._courtesy = model, courtesy
        self.inputs, self.outputs = model.inputs, model.outputs

    def __call__(self, rows: Any, *, training: bool) -> Any:
        self._courtesy.give_way()
        return self._model(rows, training=training)


class ReferenceVersion:
    """A version as shap's explainers take it: its Keras model."""

    def __init__(self, artifact: Artifact, courtesy: Courtesy) -> None:
        signature = artifact.signature
        model = artifact.load_keras()
        self.engine: Engine = KerasEngine(model, signature)
        models = {output: PoliteModel(target_model(model, signature, output), courtesy) for output in signature.outputs}
        unused = LearnedPrice(1.0, 1.0, 1)
        self.explained = ExplainedVersion(
            artifact,
            # Nothing here goes before it, but an order that nobody waits for any more ends with its next call.
            PoliteEngine(self.engine, courtesy),
            unused,
            Networks(_not_here, models.__getitem__, _not_here, unused),
        )
        self.report = LoadReport("cpu", {})


def _not_here(*_: Any) -> NoReturn:
    raise ValueError("The process for shap's explainers runs no other method.")


def main() -> None:
    """Runs until the API process closes the socket or ends."""
    hold_lifeline()
    settings = read_settings(os.environ)
    configure_logging("reference", log_format=settings.log_format, log_level=settings.log_level)
    limit_tensorflow(settings.cores_in_use)
    os.nice(15)
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    process = ComputeProcess(Connection(int(sys.argv[1])), ReferenceVersion)
    process.start("load", ["load"])
    process.start("explain", ["explain"])
    process.run()
    os._exit(0)  # TensorFlow's threads need not be waited for


if __name__ == "__main__":
    main()

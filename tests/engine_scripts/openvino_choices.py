"""What OpenVINO does with a version, as JSON: run in the environment of the extra, with the version's folder."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from models.artifact import open_artifact
from service.serving import choosing
from service.serving.choosing import EngineRules, choose_engine

artifact = open_artifact(Path(sys.argv[1]))
background, _ = artifact.background
output = artifact.signature.outputs[0]
report = {}
for name, rules in {
    "openvino": EngineRules("openvino", cores=2),
    "onnxruntime": EngineRules("onnxruntime", cores=2),
    "auto": EngineRules(cores=2),
}.items():
    report[name] = choose_engine(artifact, rules).report.to_json()

# Where a row is dear enough to try, whichever is faster is taken.
choosing.WORTHWHILE_MS = 0.0
for name, factor in {"faster": 0.0, "slower": 1e9}.items():
    choosing.FASTER = factor
    report[name] = choose_engine(artifact, EngineRules(cores=2)).report.to_json()

choosing.BFLOAT16_TOLERANCE = 1e9
report["bfloat16"] = choose_engine(artifact, EngineRules("openvino", "bfloat16", cores=2)).report.to_json()
choosing.BFLOAT16_TOLERANCE = 1e-9
report["bfloat16 refused"] = choose_engine(artifact, EngineRules("openvino", "bfloat16", cores=2)).report.to_json()

chosen = choose_engine(artifact, EngineRules("openvino", cores=2))
alone = [chosen.engine.evaluate(row[np.newaxis], output).tobytes() for row in background]
with ThreadPoolExecutor(8) as threads:
    together = list(threads.map(lambda row: chosen.engine.evaluate(row[np.newaxis], output).tobytes(), background))
sizes = {n: np.resize(background, (n, *background.shape[1:])) for n in (1, 3, 64, 65, 200)}
report["concurrent calls are those alone"] = alone == together
report["largest difference by size"] = {
    n: float(np.abs(chosen.engine.evaluate(rows, output) - chosen.onnx.evaluate(rows, output)).max())
    for n, rows in sizes.items()
}
report["rows by size"] = {n: len(chosen.engine.evaluate(rows, output)) for n, rows in sizes.items()}
report["telemetry"] = sys.modules.get("openvino_telemetry") is not None
print(json.dumps(report))

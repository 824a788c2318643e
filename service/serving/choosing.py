"""Chooses the engine that predicts for a version and its threads, by what was measured and by the settings."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from models.artifact import Artifact
from models.cores import usable_cores
from models.differences import TOLERANCE, hybrid_rows, largest_difference
from models.invariance import measure_invariance
from models.public import told
from models.rows import ModelInput
from service.serving.batcher import PADDED_ROWS
from service.serving.engine import WARM_UP_MS, Engine, OnnxEngine, Warmth, measured_ms, warm_up
from service.serving.engine_report import Asked, EngineName, EngineReport, Precision, report_of_files
from service.serving.openvino_engine import OpenVinoEngine, is_installed
from service.settings import Settings

logger = logging.getLogger("vitrine.engines")

DEAR_MS, GAIN = 5.0, 1.5
"""A network that takes longer for a row on one core is given all of them for each call, where a row then takes so many
times less. Of others, as many calls run beside each other as there are cores."""
WORTHWHILE_MS = 0.2
"""A network that takes less for a row is ONNX Runtime's: a call of OpenVINO alone takes some 0.05 ms."""
FASTER = 1.1
"""OpenVINO takes over where it is so many times as fast: less is within what two timings of one thing differ by."""
TIMED_MS, LEAST_CALLS, MOST_CALLS = 50.0, 3, 20
"""What is spent on timing an engine with calls of one size, and how many there are at least and at most."""
MOST_LANES = 4
"""Calls of OpenVINO beside each other: each lane has a network of its own in memory, and its share of the cores."""
BFLOAT16_TOLERANCE = 0.02
"""The largest difference from Keras, as a part of an output's spread, with which bfloat16 predicts."""
HYBRID_ROWS = 200
"""Rows mixed from those of the background, on which OpenVINO is compared beside them."""


@dataclass(frozen=True, slots=True)
class EngineRules:
    """What the settings and the machine say of engines.

    Attributes:
        precision: that OpenVINO computes in.
        cores: to compute with.
        batch_rows: rows of the calls that predictions are timed by.
    """

    engine: Asked = "auto"
    precision: Precision = "float32"
    cores: int = field(default_factory=usable_cores)
    batch_rows: tuple[int, ...] = (1, PADDED_ROWS)


def rules_of(settings: Settings) -> EngineRules:
    sizes = (PADDED_ROWS,) if settings.pad_batches else (1, PADDED_ROWS)
    return EngineRules(settings.engine, settings.openvino_precision, settings.cores_in_use, sizes)


@dataclass(frozen=True, slots=True)
class ChosenEngine:
    """The engine of a version whose predictions run in this process.

    Attributes:
        onnx: what cheap explanations run on, whichever engine predicts, so that their bits depend on no timing.
        lanes: calls that run beside each other.
    """

    engine: Engine
    warmth: Warmth
    onnx: OnnxEngine
    onnx_warmth: Warmth
    lanes: int
    report: EngineReport


Opening = Callable[[Callable[[], Any]], Any]
"""Opens an engine that has threads of its own, where those are to be started."""


def choose_engine(artifact: Artifact, rules: EngineRules, opening: Opening | None = None) -> ChosenEngine | None:
    """Opens, warms and measures the engines that a version may have; None where TensorFlow predicts.

    Args:
        opening: by default they are opened where this is called.
    """
    opening = opening or (lambda call: call())
    path, signature = artifact.onnx_path, artifact.signature
    if path is None or rules.engine == "tensorflow":
        return None
    onnx = OnnxEngine(path, signature, threads=1, keep_memory=False)
    warmth, threads = warm_up(onnx, signature), 1
    if warmth.single_ms >= DEAR_MS and rules.cores > 1:
        wide = opening(lambda: OnnxEngine(path, signature, threads=rules.cores, keep_memory=False))
        wide_warmth = warm_up(wide, signature)
        if warmth.single_ms >= GAIN * wide_warmth.single_ms:
            onnx, warmth, threads = wide, wide_warmth, rules.cores
    report = replace(report_of_files(artifact), threads=threads)
    plain = ChosenEngine(onnx, warmth, onnx, warmth, max(rules.cores // threads, 1), report)
    if rules.engine == "onnxruntime":
        return _because(plain, "VITRINE_ENGINE is onnxruntime")
    if not is_installed():
        return plain
    if rules.engine == "auto" and warmth.single_ms < WORTHWHILE_MS:
        return _because(plain, f"OpenVINO is not tried where a row takes less than {WORTHWHILE_MS:g} ms")
    return _with_openvino(artifact, path, plain, rules, opening)


def _with_openvino(
    artifact: Artifact, path: Path, plain: ChosenEngine, rules: EngineRules, opening: Opening
) -> ChosenEngine:
    """OpenVINO's engine where it was asked for or is faster, and says what Keras says; else `plain`, and why."""
    refusals: list[str] = []
    lanes = min(plain.lanes, MOST_LANES)
    for precision in dict.fromkeys((rules.precision, "float32")):
        try:
            share = {"threads": max(rules.cores // lanes, 1), "lanes": lanes}
            found: OpenVinoEngine = opening(
                partial(OpenVinoEngine, path, artifact.signature, **share, precision=precision)
            )
        except Exception as error:
            # OpenVINO raises what it likes for a network that it cannot compile. ONNX Runtime has it.
            refusals.append(f"OpenVINO cannot run it in {precision}: {told(error)[:200]}")
            continue
        if found.precision != precision:
            refusals.append(f"OpenVINO has no {precision} on this processor")
            continue
        differences = _differences(artifact, found, plain)
        largest, bound = max(differences.values()), TOLERANCE if precision == "float32" else BFLOAT16_TOLERANCE
        if largest <= bound:
            return _faster(artifact, found, differences, plain, rules, refusals)
        refusals.append(
            f"OpenVINO in {precision} differs from Keras by {largest:.2g} of an output's spread, above {bound:g}"
        )
    if rules.engine == "openvino":
        logger.warning("%s is served by ONNX Runtime: %s", artifact.directory, "; ".join(refusals))
    return _because(plain, "; ".join(refusals))


def _faster(
    artifact: Artifact,
    found: OpenVinoEngine,
    differences: dict[str, float],
    plain: ChosenEngine,
    rules: EngineRules,
    refusals: list[str],
) -> ChosenEngine:
    """The faster one of two that agree, or the one that was asked for."""
    sizes = [size for size in rules.batch_rows if size * plain.warmth.single_ms <= WARM_UP_MS] or [1]
    output = artifact.signature.outputs[0]
    engines: dict[EngineName, Engine] = {"onnxruntime": plain.engine, "openvino": found}
    times = time_engines(engines, artifact.background[0], output, sizes)
    timed = in_words(times)
    measured = {name: {str(size): round(ms, 4) for size, ms in by_size.items()} for name, by_size in times.items()}
    if rules.engine == "auto" and not is_faster(times["openvino"], times["onnxruntime"]):
        return _because(plain, "; ".join([f"OpenVINO is not faster: {timed}", *refusals]), measured_ms=measured)
    why = "it is faster" if rules.engine == "auto" else "VITRINE_ENGINE is openvino"
    apart = f"at most {max(differences.values()):.1g} of an output's spread from Keras"
    report = EngineReport(
        "openvino",
        "; ".join([f"{why}: {timed}", apart, *refusals]),
        found.precision,
        found.threads,
        differences,
        _is_invariant(artifact, found, plain.warmth),
        measured,
    )
    warmth = warm_up(found, artifact.signature)
    return replace(plain, engine=found, warmth=warmth, lanes=min(plain.lanes, MOST_LANES), report=report)


def in_words(times: Mapping[EngineName, Mapping[int, float]]) -> str:
    words: dict[EngineName, str] = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
    parts = []
    for size in times["openvino"]:
        each = " and ".join(f"{times[name][size]:.3g} ms by {words[name]}" for name in words)
        parts.append(f"{size} row{'s' if size > 1 else ''} took {each}")
    return ", ".join(parts)


def is_faster(openvino: Mapping[int, float], onnxruntime: Mapping[int, float]) -> bool:
    """Whether OpenVINO is faster on the whole: by the geometric mean of the ratios over the batch sizes in use."""
    ratios = [onnxruntime[size] / openvino[size] for size in onnxruntime]
    return math.prod(ratios) ** (1 / len(ratios)) >= FASTER


def time_engines(
    engines: Mapping[EngineName, Engine], rows: ModelInput, output: str, sizes: list[int]
) -> dict[EngineName, dict[int, float]]:
    """The fastest of a few calls of each size, in milliseconds: what else the machine does makes calls slower, never
    faster. Engines take turns, so that it meets all of them alike."""
    found: dict[EngineName, dict[int, float]] = {name: dict.fromkeys(sizes, math.inf) for name in engines}
    for size in sizes:
        batch = np.resize(rows, (size, *rows.shape[1:]))
        started = perf_counter()
        for turn in range(MOST_CALLS):
            if turn >= LEAST_CALLS and (perf_counter() - started) * 1000 > TIMED_MS * len(engines):
                break
            for name, engine in engines.items():
                taken = measured_ms(partial(engine.evaluate, batch, output))
                found[name][size] = min(found[name][size], taken)
    return found


def _differences(artifact: Artifact, found: OpenVinoEngine, plain: ChosenEngine) -> dict[str, float]:
    """Per output, at most how far an engine is from Keras, as a part of the spread: as far as it is from ONNX Runtime,
    and as far as that was found to be from Keras."""
    background, _ = artifact.background
    affordable = min(HYBRID_ROWS, int(WARM_UP_MS / plain.warmth.row_ms))
    rows = np.concatenate([background, hybrid_rows(background, background, affordable, seed=0)])
    exported = artifact.card["export"]["max_difference"]
    differences = {}
    for output in artifact.signature.outputs:
        # In calls of a few rows: hundreds of images at once would take gigabytes.
        starts = range(0, len(rows), found.sizes[-1])
        parts = [plain.onnx.evaluate(rows[start : start + found.sizes[-1]], output) for start in starts]
        expected = np.concatenate(parts)
        largest = largest_difference(found.evaluate(rows, output), expected, expected[: len(background)])
        differences[output] = largest + exported["logit" if output == "logit" else "output"]
    return differences


def _is_invariant(artifact: Artifact, engine: OpenVinoEngine, warmth: Warmth) -> bool:
    """Whether its rows have the same bits in calls of every size: more rows than its largest call has go in several."""
    outputs = artifact.signature.outputs
    calls = {output: lambda rows, output=output: engine.evaluate(rows, output) for output in outputs}
    largest = max(min(2 * engine.sizes[-1], int(WARM_UP_MS / warmth.row_ms)), 1)
    return measure_invariance({engine.threads: calls}, artifact.background[0], largest_call=largest).invariant


def _because(plain: ChosenEngine, why: str, **measured: Any) -> ChosenEngine:
    return replace(plain, report=replace(plain.report, reason=f"{plain.report.reason}; {why}", **measured))

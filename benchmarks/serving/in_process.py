"""What a prediction costs in process: our served model beside a bare call of ONNX Runtime on the same rows."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter_ns
from typing import Any

import numpy as np

from benchmarks.serving.subjects import Subject
from benchmarks.tables import markdown_table
from models.inference import open_session
from models.registry import VersionRecord
from models.rows import ModelInput
from service.serving.batcher import Batching
from service.serving.compute import ComputeClient
from service.serving.served_model import ServedModel

ROWS = (1, 8, 32)
ROUNDS = 200
CALLS = 10
BAR = 2.0


def measure_in_process(subjects: Mapping[str, Subject]) -> str:
    """The table: medians of the two, timed in turn, and their ratio for one row beside the bar."""
    rows = []
    for subject in subjects.values():
        session = open_session(subject.onnx.read_bytes(), threads=1)
        for n_rows in ROWS:
            served = served_model(subject)  # one for each event loop
            sent = as_input(subject, n_rows)
            bare_us, ours_us, worded_us = asyncio.run(_times_us(session, served, sent))
            ratio = ours_us / bare_us
            verdict = ("pass" if ratio <= BAR else "FAIL") if n_rows == 1 else ""
            rows.append(
                [
                    subject.name,
                    str(n_rows),
                    f"{bare_us:.1f}",
                    f"{ours_us:.1f}",
                    f"{ratio:.2f}x",
                    f"{worded_us:.1f}",
                    verdict,
                ]
            )
    header = ["model", "rows", "ONNX Runtime, us", "served model, us", "ratio", "with labels, us", f"at most {BAR:g}x"]
    return f"### In process\n\n{markdown_table(header, rows)}"


def served_model(subject: Subject) -> ServedModel:
    """The version as a server loads it, with a compute process that is never started: predictions do not need it."""
    signature = subject.version.signature
    record = VersionRecord(
        subject.name, 1, "benchmark", str(subject.version.directory), signature.task, [], "2026-01-01T00:00:00.000Z"
    )
    return ServedModel(record, ComputeClient(log=None), Batching(is_alone=lambda: True))


def as_input(subject: Subject, n_rows: int) -> ModelInput:
    """Rows as the network takes them, `(n_rows, *input_shape)`."""
    return subject.rows[:n_rows].reshape(n_rows, *subject.version.signature.input_shape).astype(np.float32)


async def _times_us(session: Any, served: ServedModel, rows: ModelInput) -> tuple[float, float, float]:
    name = session.get_inputs()[0].name
    output = served.signature.outputs[0]
    bare, ours, worded = [], [], []
    for _ in range(ROUNDS):
        began = perf_counter_ns()
        for _ in range(CALLS):
            session.run(["output"], {name: rows})
        bare.append(perf_counter_ns() - began)
        began = perf_counter_ns()
        for _ in range(CALLS):
            await served.evaluate(rows, output)
        ours.append(perf_counter_ns() - began)
        began = perf_counter_ns()
        for _ in range(CALLS):
            served.predictions(await served.evaluate(rows, output))
        worded.append(perf_counter_ns() - began)
    bare_us, ours_us, worded_us = (float(np.median(times)) / CALLS / 1000 for times in (bare, ours, worded))
    return bare_us, ours_us, worded_us

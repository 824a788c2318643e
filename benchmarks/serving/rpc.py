"""The V2 protocol over gRPC: how rows are asked for, and the load of such calls: h2load, over so many connections, one
call after the other on each.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from benchmarks.serving.forms import V2
from benchmarks.serving.load import SPARE_SECONDS, Load, WrongAnswers
from benchmarks.serving.subjects import Subject, with_both_labels
from service.rpc.messages import SERVICE, message_class

PATH = f"/{SERVICE}/ModelInfer"
CALL_SECONDS = 30
HEADERS = ("content-type: application/grpc", "te: trailers")
_DTYPES = {"FP32": "<f4", "FP64": "<f8"}
_Request, _Response = message_class("ModelInferRequest"), message_class("ModelInferResponse")


@dataclass(frozen=True, slots=True)
class Call:
    """A call of ModelInfer: where, and its message."""

    address: str
    message: bytes

    def framed(self) -> bytes:
        """The message as it goes over the connection: not compressed, and how long it is, before it."""
        return b"\0" + len(self.message).to_bytes(4, "big") + self.message

    def answer(self, *, seconds: float = CALL_SECONDS) -> bytes:
        """The message that it is answered with. Raises `WrongAnswers` where it is an error."""
        with grpc.insecure_channel(self.address) as channel:
            try:
                return channel.unary_unary(PATH)(self.message, timeout=seconds)
            except grpc.RpcError as raised:
                error: Any = raised
                raise WrongAnswers(f"{error.code().name} {error.details()[:120]}") from error


@dataclass(frozen=True, slots=True)
class V2Rpc:
    """V2 over gRPC with raw contents, as clients send arrays, at an address (`host:port`).

    Attributes:
        tensors: how V2 writes rows.
    """

    address: str
    tensors: V2

    def ask(self, subject: Subject, rows: np.ndarray) -> Call:
        message = _Request(model_name=subject.name, outputs=[{"name": "output"}])
        for name, values in self.tensors.split(subject.name, rows).items():
            message.inputs.add(name=name, datatype="FP32", shape=values.shape)
            message.raw_input_contents.append(values.tobytes())
        return Call(self.address, message.SerializeToString())

    def read(self, message: bytes) -> np.ndarray:
        """The outputs of an answer, `(n_rows, n_outputs)`."""
        answer = _Response.FromString(message)
        output = answer.outputs[0]
        values = np.frombuffer(answer.raw_output_contents[0], _DTYPES[output.datatype]).astype(np.float64)
        return with_both_labels(values.reshape(output.shape[0], -1))


def load_calls(call: Call, *, connections: int, seconds: int) -> Load:
    """Loads a server with a call for so many seconds. Raises `WrongAnswers` when any fails.

    h2load sends one message, and does not look at gRPC's status. But an error has no message: the bytes of the answers
    must be those of as many answers as there were.
    """
    answer_bytes = len(Call(call.address, call.answer()).framed())
    with tempfile.TemporaryDirectory() as folder:
        message, log = Path(folder) / "message", Path(folder) / "log"
        message.write_bytes(call.framed())
        options = [f"--clients={connections}", f"--duration={seconds}", f"--data={message}", f"--log-file={log}"]
        headers = [f"--header={header}" for header in HEADERS]
        # One thread, for the reason that wrk has one; one call at a time on each connection.
        command = [_h2load(), "--threads=1", "--max-concurrent-streams=1", *options, *headers, _url(call)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + SPARE_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise WrongAnswers(f"h2load did not end within {seconds + SPARE_SECONDS} s") from None
        if done.returncode:
            raise WrongAnswers(f"h2load ended with status {done.returncode}: {done.stderr.strip()}")
        check_counts(done.stdout, answer_bytes)
        return read_log(log.read_text(), seconds)


def _h2load() -> str:
    program = shutil.which("h2load")
    if program is None:
        raise FileNotFoundError("h2load is not installed; it is in Debian's package nghttp2-client.")
    return program


def _url(call: Call) -> str:
    return f"http://{call.address}{PATH}"


def check_counts(printed: str, answer_bytes: int) -> None:
    """Raises `WrongAnswers` where h2load counted a failure, no answer at all, or fewer bytes than the answers have."""
    counts = re.search(r"requests: .* (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", printed)
    data = re.search(r"\((\d+)\) data", printed)
    if counts is None or data is None:
        raise WrongAnswers(f"h2load gave no result: {printed.strip()!r}")
    done, succeeded, *failures = map(int, counts.groups())
    if not done or succeeded < done or any(failures):
        raise WrongAnswers(f"{succeeded} answers of {done}; failed, errored, timeout: {failures}")
    if int(data[1]) < done * answer_bytes:
        raise WrongAnswers(f"{done} answers of {answer_bytes} bytes came as {data[1]} bytes: some are errors")


def read_log(log: str, seconds: float) -> Load:
    """h2load's log has a line for each call: when it began, the status of HTTP, and the microseconds that it took."""
    took_us = np.array([int(line.split("\t")[2]) for line in log.splitlines()])
    if not took_us.size:
        raise WrongAnswers("h2load's log is empty")
    p50, p99 = np.percentile(took_us, [50, 99]) / 1000
    return Load(took_us.size, seconds, float(p50), float(p99))

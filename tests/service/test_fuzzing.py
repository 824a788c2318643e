"""Requests that are damaged at random, from fixed seeds: each is read or refused in words, soon, and nothing grows."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from mutations import (
    HEADER,
    Request,
    arrow_of,
    binary_request,
    mutated,
    mutated_bytes,
    mutated_json,
    npy_of,
    numbers_of_every_kind,
    pictures,
    string_tensor,
)
from support import EIGHT, PATIENT, Server

from models.rows import check_array, decode_rows
from models.signature import Feature, Signature
from service.bodies import parse_body
from service.formats.requests import read_encoded
from service.problems import STATUSES
from service.routes.v1.errors import MalformedRequest
from service.routes.v1.reading import INPUTS, INSTANCES, check_document, examples_of, rows_of, with_strings
from service.routes.v2.matching import arrange, as_json_rows, decoded, raw_input
from service.routes.v2.tensors import parse_json, read_request, split_body
from service.schemas import ExplainRequest
from service.serving.turns import decode_in_turns

# What Pillow says of damaged EXIF while it reads the image.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

REFUSALS = (MalformedRequest, *(error for error, (status, _, _) in STATUSES.items() if status < 500))
MOST_CPU_SECONDS = 1.0
"""For one request in process; most take less than a millisecond, an image of many pixels a tenth of a second."""

NUMBERS = Signature(tuple(Feature(name, "numeric", (), (0, 1)) for name in "abc"), "regression", "y")
IMAGE = Signature((Feature("image", "image", (4, 3, 1), (0, 16)),), "classification", "digit", ("0", "1", "2"))
SERIES = Signature((Feature("s", "series", (4, 2), (0, 1), nullable=True),), "regression", "y")
TEXT = Signature(
    (Feature("review", "text", (5,), (0, 9), vocabulary=("good", "bad")),), "classification", "s", ("a", "b")
)
MIXED = Signature(
    (
        Feature("income", "numeric", (), (0, 1), nullable=True),
        Feature("owner", "boolean", (), (0, 1)),
        Feature("job", "categorical", (), (0, 1), vocabulary=("clerk", "cook")),
        Feature("since", "date", (), (0, 1)),
    ),
    "regression",
    "y",
)
ROW = {"income": 1.5, "owner": True, "job": "cook", "since": "2001-05-06"}


def refuses_or_reads(rng: np.random.Generator, n_requests: int, try_one: Callable[[np.random.Generator], None]) -> None:
    """Tries requests; what is neither read nor refused, or takes long, fails the test with its number."""
    outcomes: Counter[str] = Counter()
    for number in range(n_requests):
        started = process_time()
        try:
            try_one(rng)
            outcome = "read"
        except REFUSALS:
            outcome = "refused"
        except Exception as error:
            raise AssertionError(f"request {number} was neither read nor refused") from error
        took = process_time() - started
        assert took < MOST_CPU_SECONDS, f"request {number} took {took:.2f} s"
        outcomes[outcome] += 1
    # Neither so wild that nothing is ever read, nor so tame that nothing is damaged.
    assert outcomes["refused"] > n_requests / 10, outcomes
    assert outcomes["read"] > 0, outcomes


def tensor_seeds() -> list[tuple[Signature, Request, Any]]:
    rng = np.random.default_rng(0)
    rows = rng.random((2, 3))
    seeds = [(NUMBERS, *binary_request("", [("input", *kind)])) for kind in numbers_of_every_kind(rng, rows)]
    seeds.append((NUMBERS, *binary_request("", [(name, "FP32", rows[:, :1]) for name in "abc"])))
    seeds.append((IMAGE, *binary_request("", [("image", "FP32", rng.random((2, 4, 3)) * 16)])))
    seeds.append((SERIES, *binary_request("", [("s", "FP64", rng.random((2, 4, 2)))])))
    mixed = {
        "inputs": [
            {"name": "income", "shape": [2, 1], "datatype": "FP64", "data": [1, None]},
            {"name": "owner", "shape": [2], "datatype": "BOOL", "data": [True, False]},
            {"name": "job", "shape": [2], "datatype": "BYTES", "data": ["cook", "clerk"]},
            {"name": "since", "shape": [2, 1], "datatype": "BYTES", "data": [["2001-05-06"], ["1970-01-01"]]},
        ],
        "outputs": [{"name": "value", "parameters": {"binary_data": True}}],
        "id": "1",
    }
    seeds.append((MIXED, Request("", "application/json", json.dumps(mixed).encode()), mixed))
    words = string_tensor(["good film", "bad"])
    sizes = {"binary_data_size": len(words)}
    document = {"inputs": [{"name": "review", "datatype": "BYTES", "shape": [2], "parameters": sizes}]}
    text = json.dumps(document).encode()
    seeds.append((TEXT, Request("", "application/json", text + words, str(len(text))), document))
    return seeds


def read_tensors(request: Request, signature: Signature) -> None:
    text, raw = split_body(request.body, request.header)
    inputs = read_request(parse_json(text), raw, "m").inputs if text else (raw_input(raw, signature),)
    arranged = arrange(inputs, signature, 1024)
    asyncio.run(decoded(arranged, signature))
    as_json_rows(arranged)


def test_damaged_tensors_are_read_or_refused() -> None:
    seeds = tensor_seeds()

    def try_one(rng: np.random.Generator) -> None:
        signature, request, document = seeds[rng.integers(len(seeds))]
        read_tensors(mutated(rng, request, document), signature)

    refuses_or_reads(np.random.default_rng(1), 4000, try_one)


def body_seeds() -> list[tuple[Signature, str, bytes]]:
    rng = np.random.default_rng(0)
    lists = pa.array([[float(x) for x in range(12)]] * 2)
    csv = b'income,owner,job,since\r\n1.5,true,"cook",2001-05-06\r\n,false,clerk,1970-01-01\r\n'
    return [
        (MIXED, "text/csv", csv),
        (NUMBERS, "text/csv", b"a,b,c\n1,2,3\n4,5e-3,.6\n"),
        *((NUMBERS, "application/x-npy", npy_of(array)) for _, array in numbers_of_every_kind(rng, rng.random((2, 3)))),
        (IMAGE, "application/x-npy", npy_of(np.asfortranarray(rng.random((2, 4, 3))))),
        (MIXED, "application/vnd.apache.arrow.stream", arrow_of(pa.Table.from_pylist([ROW, ROW | {"income": None}]))),
        (IMAGE, "application/vnd.apache.arrow.stream", arrow_of(pa.table({"image": lists}))),
        (
            MIXED,
            "application/vnd.apache.arrow.stream",
            arrow_of(pa.table({"job": pa.array(["cook", "clerk"] * 50).dictionary_encode()})),
        ),
        *((IMAGE, "image/png", picture) for picture in pictures(rng)),
    ]


def test_damaged_bodies_are_read_or_refused() -> None:
    seeds = body_seeds()

    def try_one(rng: np.random.Generator) -> None:
        signature, kind, body = seeds[rng.integers(len(seeds))]
        rows = read_encoded(kind, mutated_bytes(rng, body), 1024)
        if len(rows) <= 1024:
            asyncio.run(decode_in_turns(rows, signature))

    refuses_or_reads(np.random.default_rng(2), 2500, try_one)


def test_damaged_json_is_read_or_refused() -> None:
    native = {"model": "m", "version": 3, "inputs": [ROW], "target": ["a"], "options": {"layer": "x"}, "budget": 7}
    v1 = {"instances": [ROW, list(ROW.values())], "signature_name": ""}
    columns = {"inputs": {name: [value] for name, value in ROW.items()}}
    examples = {"examples": [{name: [value] for name, value in ROW.items()}], "context": {"owner": True}}
    image = {"instances": [[[1, 2, 3]] * 4, {"image": [[[1]] * 3] * 4}, {"b64": "AAAA"}]}

    def try_one(rng: np.random.Generator) -> None:
        match int(rng.integers(5)):
            case 0:
                decode_rows(parse_body(mutated_json(rng, native), ExplainRequest).inputs, MIXED)
            case 1 | 2 as which:
                document = check_document(mutated_json(rng, (v1, columns)[which - 1]), (INSTANCES, INPUTS))
                decode_rows(with_strings(rows_of(document, 1024), MIXED).values, MIXED)
            case 3:
                document = check_document(mutated_json(rng, examples), examples)
                decode_rows(examples_of(document, MIXED, "regress", 1024).values, MIXED)
            case _:
                document = check_document(mutated_json(rng, image), (INSTANCES, INPUTS))
                asyncio.run(decode_in_turns(with_strings(rows_of(document, 1024), IMAGE).values, IMAGE))

    refuses_or_reads(np.random.default_rng(3), 4000, try_one)


def test_arrays_of_any_numbers_are_taken_or_refused() -> None:
    def try_one(rng: np.random.Generator) -> None:
        bits = rng.integers(0, 256, 8 * 6, dtype=np.uint8)
        kind = ("<f2", "<f4", "<f8", "<i8", "<u8", ">f4")[rng.integers(6)]
        array = np.frombuffer(bits.tobytes(), kind) if rng.random() < 0.8 else rng.random(6).astype(kind)
        check_array(array[: len(array) // 3 * 3].reshape(-1, 3), NUMBERS)

    refuses_or_reads(np.random.default_rng(4), 2000, try_one)


# -- a real server ----------------------------------------------------------------------------------------------------


def requests_to_a_server() -> list[tuple[Request, Any]]:
    rng = np.random.default_rng(0)
    patients, digits = np.float32([PATIENT] * 3), np.float32([EIGHT])
    native = {"model": "diabetes", "inputs": [PATIENT]}
    tensors = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 10], "data": PATIENT}], "id": "7"}
    names = ["age", "sex", "bmi", "bp", *(f"s{i}" for i in range(1, 7))]
    table = pa.table({name: [float(value)] for name, value in zip(names, PATIENT, strict=True)})
    csv = ",".join(names) + "\n" + ",".join(map(str, PATIENT)) + "\n"
    documents = [
        ("/predict", native),
        ("/v1/models/diabetes:predict", {"instances": [PATIENT]}),
        ("/v1/models/diabetes:regress", {"examples": [dict(zip(names, PATIENT, strict=True))]}),
        ("/v2/models/diabetes/infer", tensors),
        ("/v2/repository/index", {"ready": True}),
        ("/train", {"model": "x", "dataset": {"builtin": "nope"}, "training": {"epochs": 3}}),
    ]
    bodies = [
        ("/predict?model=diabetes", "text/csv", csv.encode()),
        ("/predict?model=diabetes", "application/x-npy", npy_of(patients)),
        ("/predict?model=diabetes", "application/vnd.apache.arrow.stream", arrow_of(table)),
        *(("/predict?model=digits", "image/png", picture) for picture in pictures(rng)),
    ]
    return [
        *((Request(path, "application/json", json.dumps(document).encode()), document) for path, document in documents),
        *((Request(*body), None) for body in bodies),
        *(
            binary_request("/v2/models/diabetes/infer", [("input", *kind)])
            for kind in numbers_of_every_kind(rng, patients)
        ),
        *[binary_request("/v2/models/digits/infer", [("image", "FP32", digits)])] * 4,
        *[(Request("/v2/models/diabetes/infer", "application/octet-stream", patients.tobytes(), "0"), None)] * 4,
    ]


def rss_mib(server: Server) -> float:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024


def cpu_seconds(server: Server) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def send_damaged(server: Server, rng: np.random.Generator) -> Iterator[httpx.Response]:
    """Answers to damaged requests, without end."""
    seeds = requests_to_a_server()
    while True:
        request = mutated(rng, *seeds[rng.integers(len(seeds))])
        yield server.client.post(request.path, content=request.body, headers=request.headers)


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, (answer.request.url, answer.request.headers.get(HEADER), answer.text)
    if answer.status_code >= 400:
        document = answer.json()
        assert document.get("error") or document["detail"]
    assert "Traceback" not in answer.text


def test_a_server_answers_damaged_requests_and_serves_on(server: Server) -> None:
    answers = send_damaged(server, np.random.default_rng(5))
    for _ in range(300):
        check(next(answers))
    before, spent = rss_mib(server), cpu_seconds(server)

    counts: Counter[int] = Counter()
    for _ in range(900):
        answer = next(answers)
        check(answer)
        counts[answer.status_code] += 1

    assert counts.keys() >= {200, 400, 422}, counts
    assert rss_mib(server) < before + 48
    assert cpu_seconds(server) - spent < 900 * 0.05
    assert "Traceback" not in server.log
    assert server.client.post("/predict", json={"model": "diabetes", "inputs": [PATIENT]}).status_code == 200


@pytest.mark.soak
def test_five_minutes_of_damaged_requests_leave_a_server_as_it_was(server: Server) -> None:
    """What stays of them after the first minute, in which pools and caches fill, is at most 24 MiB."""
    answers = send_damaged(server, np.random.default_rng(6))
    slowest, settled = 0.0, 0.0
    started = monotonic()
    while (minutes := (monotonic() - started) / 60) < 5:
        for _ in range(100):
            answer = next(answers)
            check(answer)
            slowest = max(slowest, answer.elapsed.total_seconds())
        if not settled and minutes > 1:
            settled = rss_mib(server)

    assert settled
    assert rss_mib(server) < settled + 24
    assert slowest < 5, slowest
    assert "Traceback" not in server.log

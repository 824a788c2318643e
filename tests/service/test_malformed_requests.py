"""Every way in which a request can be malformed, in every protocol: its own status, its own form, and what to do."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from support import DAMAGED, PATIENT, Server

from service.rpc.messages import SERVICE, message_class

JSON, PROBLEM, NPY = "application/json", "application/problem+json", "application/x-npy"
LIMIT = 2**20
HEADER = "Inference-Header-Content-Length"


@dataclass(frozen=True)
class Protocol:
    """How a protocol is asked for predictions or explanations of diabetes, and how it says what is wrong.

    Attributes:
        path: of a model and a version (None: the champion).
        body: of a model, a version and rows.
        statuses: where it has another than the native routes.
    """

    name: str
    path: Callable[[str, int | None], str]
    body: Callable[[str, int | None, list[Any]], dict[str, Any]]
    statuses: dict[int, int]
    is_native: bool = False

    def send(
        self, server: Server, content: bytes, *, model: str = "diabetes", version: int | None = None, **headers: str
    ) -> httpx.Response:
        sent = {"Content-Type": JSON} | {name.replace("_", "-"): value for name, value in headers.items()}
        return server.client.post(self.path(model, version), content=content, headers=sent)

    def ask(
        self, server: Server, rows: list[Any], *, model: str = "diabetes", version: int | None = None
    ) -> httpx.Response:
        body = json.dumps(self.body(model, version, rows)).encode()
        return self.send(server, body, model=model, version=version)

    def refuses(self, answer: httpx.Response, status: int, *words: str) -> None:
        """Asserts that an answer is a refusal in the form of the protocol, with words that say what to do."""
        assert answer.status_code == self.statuses.get(status, status), answer.text
        assert answer.headers["content-type"] == (PROBLEM if self.is_native else JSON)
        document = answer.json()
        if self.is_native:
            assert document["status"] == status
            assert {"type", "title", "detail"} <= document.keys()
            said = document["detail"] + str(document.get("errors", "")) + str(document.get("available", ""))
        else:
            assert list(document) == ["error"]
            said = document["error"]
        for word in words:
            assert word in said
        assert "Traceback" not in answer.text
        assert len(answer.content) < 10_000


def native(path: str, **more: Any) -> Protocol:
    def body(model: str, version: int | None, rows: list[Any]) -> dict[str, Any]:
        return {"model": model, "version": version or "champion", "inputs": rows, **more}

    return Protocol(f"{path} {more.get('format', '')}".strip(), lambda _model, _version: path, body, {}, True)


def v1(verb: str, **more: Any) -> Protocol:
    def path(model: str, version: int | None) -> str:
        return f"/v1/models/{model}{f'/versions/{version}' if version else ''}:{verb}"

    def body(_model: str, _version: int | None, rows: list[Any]) -> dict[str, Any]:
        return {"instances": rows, **more}

    return Protocol(f"v1 :{verb} {more.get('format', '')}".strip(), path, body, {422: 400, 415: 400})


def v2(verb: str) -> Protocol:
    def path(model: str, version: int | None) -> str:
        return f"/v2/models/{model}{f'/versions/{version}' if version else ''}/{verb}"

    def body(_model: str, _version: int | None, rows: list[Any]) -> dict[str, Any]:
        width = len(rows[0]) if isinstance(rows[0], list) else 1
        return {"inputs": [{"name": "input", "datatype": "FP32", "shape": [len(rows), width], "data": rows}]}

    return Protocol(f"v2 {verb}", path, body, {422: 400})


PROTOCOLS = [
    native("/predict"), native("/explain"), native("/explain", format="vertex"),
    v1("predict"), v1("explain"), v1("explain", format="vertex"),
    v2("infer"), v2("explain"),
]  # fmt: skip
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS, ids=lambda protocol: protocol.name)


@pytest.fixture(autouse=True)
def the_server_serves_on_and_has_traced_nothing(narrow: Server) -> Iterator[None]:
    yield
    assert native("/predict").ask(narrow, [PATIENT]).status_code == 200
    assert "Traceback" not in narrow.log


@every_protocol
def test_what_is_sound_is_answered(narrow: Server, protocol: Protocol) -> None:
    answer = protocol.ask(narrow, [PATIENT])

    assert answer.status_code == 200, answer.text


@every_protocol
def test_an_unknown_model_is_refused_with_those_that_there_are(narrow: Server, protocol: Protocol) -> None:
    protocol.refuses(protocol.ask(narrow, [PATIENT], model="nope"), 404, "nope", "diabetes")


@every_protocol
def test_an_unknown_version_is_refused_with_those_that_there_are(narrow: Server, protocol: Protocol) -> None:
    protocol.refuses(protocol.ask(narrow, [PATIENT], version=77), 404, "77", "champion")


@every_protocol
def test_a_version_that_cannot_be_loaded_is_unavailable_and_says_why(narrow: Server, protocol: Protocol) -> None:
    answer = protocol.ask(narrow, [PATIENT], version=DAMAGED)

    protocol.refuses(answer, 503, "model.onnx", "cannot be loaded")
    assert int(answer.headers["retry-after"]) >= 1


def test_where_a_damaged_version_lies_is_in_the_log_and_in_no_answer(narrow: Server) -> None:
    """Its file is named in each that says why."""
    version = {"parameters": {"version": DAMAGED}}
    tensor = {"name": "input", "datatype": "FP32", "shape": [1, 10], "contents": {"fp32_contents": PATIENT}}
    client, home = narrow.client, str(narrow.settings.home)
    native("/predict").ask(narrow, [PATIENT], version=DAMAGED)

    answers = [protocol.ask(narrow, [PATIENT], version=DAMAGED).text for protocol in PROTOCOLS]
    answers += [
        client.get("/models/diabetes").text,
        client.get(f"/models/diabetes/versions/{DAMAGED}").text,
        client.put("/models/diabetes/aliases/champion", json={"version": DAMAGED}).text,
        client.post("/v2/repository/index").text,
        client.post("/v2/repository/models/diabetes/load", json=version).text,
        *called(narrow, "ModelInfer", model_name="diabetes", model_version=str(DAMAGED), inputs=[tensor]),
        *called(narrow, "ModelMetadata", name="diabetes", version=str(DAMAGED)),
        *called(narrow, "RepositoryIndex"),
    ]

    assert [] == [answer for answer in answers if "model.onnx" not in answer]
    answers += [client.get("/v1/models/diabetes").text, client.get("/health/ready").text]
    assert [] == [answer for answer in answers if home in answer]
    assert f"Version {DAMAGED} of 'diabetes' cannot be loaded: model.onnx has changed" in answers[0]
    assert f"Its folder is {home}/versions/diabetes/JOB-{DAMAGED - 1}." in narrow.log


def test_a_call_of_half_a_million_empty_tensors_is_refused_by_the_bound(narrow: Server) -> None:
    said, _ = called(narrow, "ModelInfer", b"\x2a\0" * 500_000)

    assert "at most 65,536 messages within the message" in said


def called(server: Server, method: str, request: bytes = b"", **fields: Any) -> list[str]:
    """All that is said to a call of gRPC: its answer, or its error and its details.

    Args:
        request: the message; without one it is made of fields.
    """
    request = request or message_class(f"{method}Request")(**fields).SerializeToString()
    with grpc.insecure_channel(f"127.0.0.1:{server.settings.grpc_port}") as channel:
        try:
            answer: bytes = channel.unary_unary(f"/{SERVICE}/{method}")(request, timeout=60)
        except grpc.RpcError as refused:
            error: Any = refused
            details = dict(error.trailing_metadata())["grpc-status-details-bin"]
            return [error.details(), details.decode("latin-1")]
        return [answer.decode("latin-1")]


@every_protocol
@pytest.mark.parametrize("verb", ["GET", "PUT", "DELETE", "PATCH"])
def test_another_verb_is_refused_with_the_one_that_is_offered(narrow: Server, protocol: Protocol, verb: str) -> None:
    answer = narrow.client.request(verb, protocol.path("diabetes", None))

    protocol.refuses(answer, 405, verb)
    assert "POST" in answer.headers["allow"]


@every_protocol
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b'{"inputs": [', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"model": "\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"inputs": [NaN]}', "NaN"),
    ],
    ids=["nothing", "half", "binary", "not UTF-8", "deep", "NaN"],
)
def test_what_is_no_json_is_refused(narrow: Server, protocol: Protocol, content: bytes, words: str) -> None:
    protocol.refuses(protocol.send(narrow, content), 400, words)


@every_protocol
@pytest.mark.parametrize("content", [b"3", b"null", b'"inputs"', b"[]"])
def test_what_is_no_object_is_refused(narrow: Server, protocol: Protocol, content: bytes) -> None:
    protocol.refuses(protocol.send(narrow, content), 422 if protocol.is_native else 400, "object")


@every_protocol
def test_json_that_is_nested_deeply_is_refused(narrow: Server, protocol: Protocol) -> None:
    deep: Any = 1
    for _ in range(900):
        deep = [deep]

    protocol.refuses(protocol.ask(narrow, [deep]), 422, "expected")


@every_protocol
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (gzip.compress(b" " * 1000)[:-9], "ends before"),
        (b"{}", "not gzip"),
        (gzip.compress(b"{}") + b"x", "after the end"),
    ],
    ids=["truncated", "not compressed", "something behind it"],
)
def test_a_damaged_gzip_is_refused(narrow: Server, protocol: Protocol, content: bytes, words: str) -> None:
    protocol.refuses(protocol.send(narrow, content, Content_Encoding="gzip"), 400, words)


@every_protocol
def test_a_gzip_that_would_unpack_to_more_than_a_body_may_have_is_refused(narrow: Server, protocol: Protocol) -> None:
    bomb = gzip.compress(b" " * (64 * LIMIT))

    protocol.refuses(protocol.send(narrow, bomb, Content_Encoding="gzip"), 413, "VITRINE_BODY_LIMIT_BYTES")


@every_protocol
def test_an_unknown_encoding_is_refused_with_those_that_are_read(narrow: Server, protocol: Protocol) -> None:
    protocol.refuses(protocol.send(narrow, b"{}", Content_Encoding="br"), 415, "gzip", "deflate")


@every_protocol
def test_a_body_that_is_too_large_is_refused_with_the_limit(narrow: Server, protocol: Protocol) -> None:
    protocol.refuses(protocol.send(narrow, b" " * (LIMIT + 1)), 413, "1,048,576", "VITRINE_BODY_LIMIT_BYTES")


@every_protocol
def test_too_many_rows_are_refused_with_the_limit(narrow: Server, protocol: Protocol) -> None:
    protocol.refuses(protocol.ask(narrow, [PATIENT] * 9), 422, "8", "9 rows")


@every_protocol
@pytest.mark.parametrize("limit", ["0", "soon", "nan"])
def test_a_time_limit_that_is_none_is_refused(narrow: Server, protocol: Protocol, limit: str) -> None:
    body = json.dumps(protocol.body("diabetes", None, [PATIENT])).encode()

    answer = protocol.send(narrow, body, X_Request_Timeout_Ms=limit)

    protocol.refuses(answer, 422, "X-Request-Timeout-Ms")


@every_protocol
@pytest.mark.parametrize(
    ("row", "words"),
    [
        (PATIENT[:9], ("10", "9")),
        ([*PATIENT, 1], ("10", "11")),
        (["x", *PATIENT[1:]], ("number", "'x'")),
        ([True, *PATIENT[1:]], ("number", "true")),
        ([None, *PATIENT[1:]], ("null", "number")),
        ([[1], *PATIENT[1:]], ("expected", "list")),
    ],
    ids=["short", "long", "string", "boolean", "null", "nested"],
)
def test_a_row_that_is_not_the_model_s_is_refused(
    narrow: Server, protocol: Protocol, row: list[Any], words: tuple[str, ...]
) -> None:
    answer = protocol.ask(narrow, [row])

    if protocol.name.startswith("v2") and row[0] is None:
        words = ("age",)
    protocol.refuses(answer, 422, *words)


@every_protocol
def test_a_number_that_is_none_of_a_network_s_is_refused(narrow: Server, protocol: Protocol) -> None:
    protocol.refuses(protocol.ask(narrow, [[1e300, *PATIENT[1:]]]), 422, "1e+300")


@every_protocol
def test_a_key_that_has_no_effect_is_refused(narrow: Server, protocol: Protocol) -> None:
    body = protocol.body("diabetes", None, [PATIENT]) | {"surplus": 1}

    protocol.refuses(protocol.send(narrow, json.dumps(body).encode()), 422, "surplus")


@pytest.mark.parametrize("protocol", [each for each in PROTOCOLS if "explain" in each.name], ids=lambda each: each.name)
def test_an_option_that_cannot_be_is_refused(narrow: Server, protocol: Protocol) -> None:
    body = protocol.body("diabetes", None, [PATIENT])
    options = {"tolerance": 7}
    body |= {"parameters": options} if protocol.name.startswith("v2") else options

    protocol.refuses(protocol.send(narrow, json.dumps(body).encode()), 422, "tolerance", "7")


@pytest.mark.parametrize("parameters", [0, False, "", [], 3, [1]])
def test_parameters_that_are_no_object_are_refused(narrow: Server, parameters: Any) -> None:
    """Empty ones of any kind were taken for none."""
    body = {"instances": [PATIENT], "parameters": parameters}

    v1("explain").refuses(v1("explain").send(narrow, json.dumps(body).encode()), 422, "'parameters'", "object")


def tensor(**changes: Any) -> dict[str, Any]:
    whole = {"name": "input", "datatype": "FP32", "shape": [1, 10], "data": PATIENT} | changes
    return {name: value for name, value in whole.items() if value is not None}


@pytest.mark.parametrize("protocol", [v2("infer"), v2("explain")], ids=lambda protocol: protocol.name)
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": [2, 10]}, ("20 values", "10 values")),
        ({"shape": [1, 11]}, ("10", "[1, 11]")),
        ({"shape": [0, 10], "data": []}, ("from 1 to 8 rows",)),
        ({"shape": [2**31, 2**31]}, ("shape",)),
        ({"shape": [2**62, 10]}, ("from 1 to 8 rows",)),
        ({"shape": [1] * 40}, ("shape",)),
        ({"shape": [-1, 10]}, ("not negative",)),
        ({"datatype": "FLOAT"}, ("one of BOOL",)),
        ({"datatype": "BYTES", "data": ["x"] * 10}, ("BYTES", "FP32")),
        ({"datatype": "FP16"}, ("binary data",)),
        ({"datatype": "UINT8", "data": [300] * 10}, ("numbers from 0 to 255",)),
        ({"data": None, "parameters": {"binary_data_size": 40}}, ("at most the 0 that are left",)),
        ({"data": None, "parameters": {"binary_data_size": 2**60}}, ("at most the 0 that are left",)),
        ({"data": None, "parameters": {"shared_memory_region": "x"}}, ("shared_memory",)),
        ({"name": "inputs"}, ("'input'",)),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_a_tensor_that_is_not_what_it_says_is_refused(
    narrow: Server, protocol: Protocol, changes: dict[str, Any], words: tuple[str, ...]
) -> None:
    answer = protocol.send(narrow, json.dumps({"inputs": [tensor(**changes)]}).encode())

    protocol.refuses(answer, 400, *words)


RAW = np.float32(PATIENT).tobytes()


def binary(size: Any = 40, raw: bytes = RAW, **changes: Any) -> tuple[bytes, str]:
    """A body with a binary tensor, and the length of its JSON."""
    text = json.dumps({"inputs": [tensor(data=None, parameters={"binary_data_size": size}, **changes)]}).encode()
    return text + raw, str(len(text))


@pytest.mark.parametrize("protocol", [v2("infer"), v2("explain")], ids=lambda protocol: protocol.name)
@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (binary(raw=RAW[:-1]), ("binary_data_size", "39")),
        (binary(raw=RAW + b"x"), ("40 bytes", "41 bytes")),
        (binary(39, RAW[:-1]), ("40 bytes", "39 bytes")),
        (binary(2**63), ("binary_data_size", "40")),
        (binary(-1), ("binary_data_size",)),
        (binary("40"), ("binary_data_size",)),
        (binary(shape=[2, 10]), ("80 bytes", "40 bytes")),
        (binary(shape=[2**40, 10]), ("from 1 to 8 rows",)),
        (binary(datatype="FP64"), ("80 bytes", "40 bytes")),
        (binary(datatype="BYTES"), ("FP32",)),
        ((RAW[:-1], "0"), ("40", "39")),
        ((RAW * 9, "0"), ("from 1 to 8 rows",)),
        ((b"", "0"), ("a multiple of 40 bytes",)),
        ((RAW, "41"), (HEADER, "40")),
        ((RAW, "9" * 400), (HEADER,)),
        ((RAW, "-1"), (HEADER,)),
        ((RAW, "forty"), (HEADER,)),
        ((binary()[0], "10"), ("not JSON",)),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_bytes_that_are_not_what_they_say_are_refused(
    narrow: Server, protocol: Protocol, request_: tuple[bytes, str], words: tuple[str, ...]
) -> None:
    content, length = request_

    answer = protocol.send(narrow, content, **{HEADER.replace("-", "_"): length})

    protocol.refuses(answer, 400, *words)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


ARRAY = npy(np.float32([PATIENT]))
HUGE = ARRAY.replace(b"(1, 10)", b"(9999999999, 10)").replace(b" " * 9 + b"\n", b"\n")


@pytest.mark.parametrize("path", ["/predict", "/explain"])
@pytest.mark.parametrize(
    ("content_type", "content", "status", "words"),
    [
        (NPY, ARRAY[:-1], 400, ("40 bytes", "39")),
        (NPY, ARRAY + b"x", 400, ("40 bytes", "41")),
        (NPY, HUGE, 400, ("399,999,999,960 bytes",)),
        (NPY, npy(np.array([["a"]])), 400, ("numbers",)),
        (NPY, npy(np.float32([PATIENT[:9]])), 422, ("10", "9")),
        (NPY, npy(np.float32([PATIENT] * 9)), 422, ("at most 8 rows", "9 rows")),
        ("text/csv", b"age,sex\n1\n", 400, ("Line 2",)),
        ("text/csv", b"age,sex\n1,2\n", 422, ("bmi",)),
        ("text/csv", b"", 400, ("empty",)),
        ("application/vnd.apache.arrow.stream", b"\xff\xff\xff\xff\xff\xff\xff\x7f", 400, ("Arrow",)),
        ("image/png", b"\x89PNG", 422, ("columns",)),
        ("application/octet-stream", RAW, 415, ("application/x-npy",)),
        ("text/csv; header=absent", b"1,2", 415, ("with a header",)),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_body_in_another_form_that_is_not_what_it_says_is_refused(
    narrow: Server, path: str, content_type: str, content: bytes, status: int, words: tuple[str, ...]
) -> None:
    answer = narrow.client.post(f"{path}?model=diabetes", content=content, headers={"Content-Type": content_type})

    native(path).refuses(answer, status, *words)


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_fields_of_a_json_body_that_stand_in_the_query_are_refused(narrow: Server, path: str) -> None:
    """They were ignored: `?version=2` was answered by the champion."""
    body = native(path).body("diabetes", None, [PATIENT])

    answer = narrow.client.post(f"{path}?version=2&model=diabetes&trace=7", json=body)

    native(path).refuses(answer, 422, "query parameter version", "query parameter model", "the body is JSON")


@pytest.mark.parametrize(
    ("protocol", "path"),
    [
        (native("/predict"), "/predictt"),
        (v1("predict"), "/v1/models/diabetes:predictt"),
        (v2("infer"), "/v2/models/diabetes/predict"),
    ],
    ids=["native", "v1", "v2"],
)
def test_an_unknown_path_is_refused(narrow: Server, protocol: Protocol, path: str) -> None:
    answer = narrow.client.post(path, json=protocol.body("diabetes", None, [PATIENT]))

    protocol.refuses(answer, 405 if "v1" in path else 404, path)


def test_a_version_that_cannot_be_loaded_is_not_ready_in_v2(narrow: Server) -> None:
    answer = narrow.client.get(f"/v2/models/diabetes/versions/{DAMAGED}/ready")

    assert answer.status_code == 503
    assert answer.json()["ready"] is False

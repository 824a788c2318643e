"""Bodies compressed with gzip or deflate, and what is wrong with some."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest
from support import PATIENT, Server

BODY = json.dumps({"model": "diabetes", "inputs": [PATIENT]}).encode()
COMPRESSED = {"gzip": gzip.compress(BODY), "deflate": zlib.compress(BODY)}


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_compressed_body_is_answered_as_the_plain_one(server: Server, encoding: str) -> None:
    plain = server.client.post("/predict", content=BODY)

    answer = server.client.post("/predict", content=COMPRESSED[encoding], headers={"Content-Encoding": encoding})

    assert answer.status_code == 200, answer.text
    assert plain.json()["predictions"] == answer.json()["predictions"]


@pytest.mark.parametrize(
    ("encoding", "content", "said"),
    [
        pytest.param("gzip", BODY, "is not gzip", id="not compressed at all"),
        pytest.param("deflate", BODY, "is not deflate", id="not compressed, deflate"),
        pytest.param("gzip", COMPRESSED["gzip"][:-9], "ends before", id="truncated"),
        pytest.param("deflate", COMPRESSED["deflate"][:-5], "ends before", id="truncated, deflate"),
        pytest.param("gzip", COMPRESSED["gzip"] + b"more", "after the end", id="something behind it"),
        pytest.param("gzip", b"", "ends before", id="nothing"),
        pytest.param("gzip", gzip.compress(BODY[:-1]), "is not JSON", id="compressed, but no JSON"),
    ],
)
def test_body_that_cannot_be_unpacked_is_400_with_the_reason(
    server: Server, encoding: str, content: bytes, said: str
) -> None:
    answer = server.client.post("/predict", content=content, headers={"Content-Encoding": encoding})

    assert answer.status_code == 400, answer.text
    assert said in answer.json()["detail"]


def test_body_that_unpacks_to_more_than_the_limit_is_413(server: Server) -> None:
    bomb = gzip.compress(b" " * (64 * 2**20))
    assert len(bomb) < 2**17

    answer = server.client.post("/predict", content=bomb, headers={"Content-Encoding": "gzip"})

    assert answer.status_code == 413, answer.text


def test_encoding_that_is_not_known_is_415_with_those_that_are(server: Server) -> None:
    answer = server.client.post("/predict", content=BODY, headers={"Content-Encoding": "br"})

    assert answer.status_code == 415, answer.text
    assert "gzip or deflate" in answer.json()["detail"]

"""Data sets over HTTP: uploaded, inspected in a process of their own, trained on, and kept while they are needed."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from support import DATASET_LIMIT_BYTES, Server, wait_for
from typer.testing import CliRunner

from vitrine import AsyncClient, Client, VitrineError

N_ROWS = 300
CITIES = ("oslo", "rome", "bern")


def orders(n_rows: int = N_ROWS, seed: int = 0) -> str:
    """Orders that are late when they are heavy or go to Rome, with a column that gives it away."""
    rng, text = np.random.default_rng(seed), io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["order", "weight", "city", "gift", "sent", "late", "refund"])
    for i in range(n_rows):
        weight, city = rng.random() * 10, CITIES[i % 3]
        late = weight + 3 * (city == "rome") + rng.normal() > 7
        writer.writerow(
            [
                f"A-{i}",
                "" if i % 17 == 0 else f"{weight:.2f}",
                city,
                ("true", "false")[i % 2],
                f"2026-01-{i % 28 + 1:02d}",
                ("no", "yes")[late],
                10.5 if late else 0.25,
            ]
        )
    return text.getvalue()


SPEC = {
    "model": "orders",
    "target": "late",
    "features": {"order": "ignore", "refund": "ignore"},
    "architecture": {"type": "mlp", "layers": [8]},
    "training": {"epochs": 3, "early_stopping": None},
}


@pytest.fixture(scope="module")
def uploaded(system: Server) -> dict[str, Any]:
    response = upload(system, orders().encode(), name="orders.csv", target="late")
    assert 201 == response.status_code, response.text
    return response.json()


def upload(system: Server, content: bytes, name: str = "f", **fields: str) -> httpx.Response:
    return system.client.post("/datasets", files={"file": (name, content)}, data=fields, timeout=300)


def faults(response: httpx.Response) -> list[tuple[str, str]]:
    assert 422 == response.status_code, response.text
    return [(error["pointer"], error["received"]) for error in response.json()["errors"]]


def kept(system: Server) -> list[str]:
    return sorted(path.name for path in (system.settings.data_directory / "uploads").glob("*"))


def test_upload_answers_with_what_is_in_the_file(uploaded: dict[str, Any]) -> None:
    report = uploaded["report"]

    assert hashlib.sha256(orders().encode()).hexdigest() == uploaded["id"]
    assert ("orders.csv", "csv", N_ROWS) == (uploaded["name"], uploaded["format"], uploaded["rows"])
    kinds = {column["name"]: column["kind"] for column in report["columns"]}
    assert {
        "order": "categorical", "weight": "numeric", "city": "categorical", "gift": "boolean", "sent": "date",
        "late": "categorical", "refund": "numeric",
    } == kinds  # fmt: skip
    assert {"weight": 18} == {c["name"]: c["missing"] for c in report["columns"] if c["missing"]}
    assert any("order looks like an identifier" in remark for remark in report["remarks"])
    assert ["refund"] == report["by_target"]["suspected_leaks"]
    assert ["order"] == report["by_target"]["undecided"]


def test_same_content_is_the_same_data_set_whatever_its_name(system: Server, uploaded: dict[str, Any]) -> None:
    again = upload(system, orders().encode(), name="other.csv")

    assert (200, uploaded["id"], "orders.csv") == (again.status_code, again.json()["id"], again.json()["name"])
    assert 1 == [one["id"] for one in system.client.get("/datasets").json()["datasets"]].count(uploaded["id"])


def zip_with(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b"x")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "received"),
    [
        (b"", "an empty file"),
        ("a,b\nü,1\n".encode("latin-1"), "the byte 0xFC at byte 4 (line 2), which is no UTF-8"),
        (zip_with("../../etc/1.png"), "the entry '../../etc/1.png'"),
        (zip_with("a/1.png"), "'a/1.png', which is none"),
    ],
)
def test_file_that_holds_no_data_set_is_refused_and_not_kept(system: Server, content: bytes, received: str) -> None:
    before = kept(system)

    assert [("#/file", received)] == faults(upload(system, content))
    assert before == kept(system)


def test_upload_over_the_limit_is_refused_while_it_arrives(system: Server) -> None:
    before = kept(system)

    def endless() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        for _ in range(100):
            yield b"1,2\n" * 25_000

    announced = upload(system, b"1" * (DATASET_LIMIT_BYTES + 100_000))
    streamed = system.client.post(
        "/datasets", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=b"}
    )

    assert [413, 413] == [announced.status_code, streamed.status_code]
    assert "VITRINE_DATASET_LIMIT_BYTES" in announced.json()["detail"]
    assert before == kept(system)


@pytest.mark.parametrize(
    ("keys", "status", "words"),
    [
        ({"content": b"a,b\n1,2\n", "headers": {"Content-Type": "text/csv"}}, 415, "multipart/form-data"),
        ({"files": {"data": ("f", b"a,b\n1,2\n")}}, 422, "an unknown part of the form"),
        ({"files": [("file", ("f", b"a,b\n")), ("file", ("g", b"a,b\n"))]}, 422, "several"),
        ({"data": {"target": "b"}, "files": {"target2": ("x", b"")}}, 422, "unknown part"),
        (
            {"content": b"--b\r\nno header", "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
            400,
            "not multipart/form-data",
        ),
    ],
)
def test_form_that_is_none_is_refused(system: Server, keys: dict[str, Any], status: int, words: str) -> None:
    response = system.client.post("/datasets", **keys)

    assert status == response.status_code
    assert words in response.text


def test_unknown_data_set_and_target_are_named(system: Server, uploaded: dict[str, Any]) -> None:
    assert 404 == system.client.get("/datasets/nope").status_code
    assert 404 == system.client.get("/datasets/..%2F..%2Fjobs.sqlite").status_code
    response = system.client.get(f"/datasets/{uploaded['id']}", params={"target": "nope"}, timeout=300)
    assert [("#/target", "the string 'nope'")] == faults(response)


@pytest.mark.parametrize(
    ("keys", "pointer"),
    [
        ({"dataset": {"id": "0" * 64}}, "#/dataset/id"),
        ({"dataset": {"path": "../vitrine.sqlite"}}, "#/dataset/path"),
        ({"target": "nope"}, "#/target"),
        ({"target": None}, "#/target"),
        ({"features": {}}, "#/features/order"),
        ({"features": {"order": "ignore", "city": "numeric"}}, "#/features/city"),
    ],
)
def test_specification_is_checked_against_the_file_at_once(
    system: Server, uploaded: dict[str, Any], keys: dict[str, Any], pointer: str
) -> None:
    response = system.client.post("/train", json={**SPEC, "dataset": {"id": uploaded["id"]}, **keys}, timeout=300)

    assert [pointer] == [place for place, _ in faults(response)]


def test_uploaded_table_trains_serves_explains_and_is_kept_while_it_is_needed(
    system: Server, uploaded: dict[str, Any]
) -> None:
    dataset = {"id": uploaded["id"]}
    job = system.client.post("/train", json={**SPEC, "dataset": dataset}, timeout=300).json()["job"]
    while_needed = system.client.delete(f"/datasets/{uploaded['id']}")

    def finished() -> Any:
        document = system.client.get(f"/train/{job}").json()
        return document if document["status"] in ("succeeded", "failed") else None

    done = wait_for(finished, seconds=280)

    assert ("succeeded", []) == (done["status"], done["changes"]), done["error"]
    assert (409, True) == (while_needed.status_code, f"job {job}" in while_needed.json()["detail"])
    card = system.client.get("/models/orders/versions/champion").json()
    assert uploaded["id"] == card["data"]["file_sha256"]
    assert N_ROWS == sum(card["data"]["rows"].values())
    assert N_ROWS == card["data"]["report"]["rows"]
    assert "weight" in card["data"]["report"]["by_target"]["alone"]["scores"]
    wait_for(lambda: "orders" in system.client.get("/health/ready").json()["models"], seconds=200)
    row = {"weight": 3.5, "city": "rome", "gift": True, "sent": "2026-01-05"}
    answer = system.client.post("/predict", json={"model": "orders", "inputs": [row]})
    assert {"no", "yes"} == answer.json()["predictions"][0]["probabilities"].keys(), answer.text
    explained = system.client.post("/explain", json={"model": "orders", "inputs": [row]}, timeout=300)
    assert 200 == explained.status_code, explained.text
    target = explained.json()["explanations"][0]["targets"][0]
    assert ["weight", "city", "gift", "sent"] == [one["feature"] for one in target["attributions"]]

    refused = system.client.delete(f"/datasets/{uploaded['id']}")
    assert (409, True) == (refused.status_code, "version 1 of orders" in refused.json()["detail"])

    other = {**SPEC, "dataset": dataset, "features": {"order": "ignore"}}
    changed = system.client.post("/train", json=other, timeout=300)
    assert [("#/signature", "feature refund: was ignored, is numeric")] == faults(changed)
    allowed = system.client.post("/train", json={**other, "signature": "may-change"}, timeout=300)
    assert 202 == allowed.status_code
    system.client.post(f"/train/{allowed.json()['job']}/cancel")


def test_file_in_the_data_folder_is_trained_on_by_its_path(system: Server) -> None:
    (system.settings.data_directory / "mine").mkdir()
    (system.settings.data_directory / "mine" / "orders.csv").write_text(orders(200, seed=1))

    response = system.client.post(
        "/train", json={**SPEC, "model": "by-path", "dataset": {"path": "mine/orders.csv"}}, timeout=300
    )

    assert 202 == response.status_code, response.text
    assert {"path": "mine/orders.csv"} == response.json()["spec"]["dataset"]
    system.client.post(f"/train/{response.json()['job']}/cancel")


def test_schedule_needs_its_data_too(system: Server, uploaded: dict[str, Any]) -> None:
    spec = {name: value for name, value in SPEC.items() if name != "model"}
    place = "/models/by-clock/schedule"

    kept = system.client.put(
        place, json={"cron": "0 3 * * 1", "spec": {**spec, "dataset": {"id": uploaded["id"]}}}, timeout=300
    )
    lost = system.client.put(place, json={"cron": "0 3 * * 1", "spec": {**spec, "dataset": {"path": "lost.csv"}}})
    refused = system.client.delete(f"/datasets/{uploaded['id']}")
    system.client.delete(place)

    assert 200 == kept.status_code, kept.text
    assert [("#/spec/dataset/path", "the string 'lost.csv'")] == faults(lost)
    assert (409, True) == (refused.status_code, "the schedule of by-clock" in refused.json()["detail"])


def test_client_uploads_lists_shows_and_removes(system: Server, tmp_path: Path) -> None:
    (tmp_path / "small.csv").write_text(orders(50, seed=2))

    with Client(f"http://127.0.0.1:{system.settings.port}", timeout_seconds=300) as client:
        sent = client.upload(tmp_path / "small.csv", target="late")
        with (tmp_path / "small.csv").open("rb") as file:
            again = client.upload(file)
        shown = client.dataset(sent["id"])
        held = [one["name"] for one in client.datasets()]
        client.remove_dataset(sent["id"])
        with pytest.raises(VitrineError) as gone:
            client.dataset(sent["id"])

    assert sent["id"] == again["id"] == shown["id"]
    assert "small.csv" in held
    assert "late" == sent["report"]["by_target"]["target"]
    assert 404 == gone.value.status


def test_async_client_uploads_as_the_other_does(system: Server, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(orders(60, seed=3))

    async def send() -> Any:
        async with AsyncClient(f"http://127.0.0.1:{system.settings.port}", timeout_seconds=300) as client:
            document = await client.upload(tmp_path / "a.csv")
            await client.remove_dataset(document["id"])
            return document

    assert 60 == asyncio.run(send())["rows"]


def test_command_line_uploads_and_lists(system: Server, tmp_path: Path) -> None:
    from service.__main__ import cli

    (tmp_path / "cli.csv").write_text(orders(70, seed=4))
    url = ["--url", f"http://127.0.0.1:{system.settings.port}"]

    sent = CliRunner().invoke(cli, ["datasets", "upload", str(tmp_path / "cli.csv"), "--target", "late", *url])
    listed = json.loads(CliRunner().invoke(cli, ["datasets", "--json", *url]).stdout)

    assert 0 == sent.exit_code, sent.output
    assert "cli.csv: 70 rows, csv" in sent.stdout
    assert "refund alone predicts late" in sent.stdout
    (found,) = (one for one in listed if one["name"] == "cli.csv")
    shown = CliRunner().invoke(cli, ["datasets", "show", found["id"], *url])
    assert ["oslo", "rome", "bern"] == [city for city in CITIES if city in shown.stdout]
    assert 0 == CliRunner().invoke(cli, ["datasets", "remove", found["id"], *url]).exit_code


def test_api_process_reads_no_file_itself(system: Server, uploaded: dict[str, Any]) -> None:
    """A library that reads strangers' files is never loaded where predictions are served."""
    assert uploaded["id"]
    serving = int((system.settings.run_directory / "api.pid").read_text())

    maps = Path(f"/proc/{serving}/maps").read_text()

    assert [] == [name for name in ("arrow", "sklearn", "PIL", "tensorflow") if f"/{name}" in maps]

"""Global explanations as people ask for them: with the Python client, and with `vitrine explain --global`."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from commands import command_of, environment_of, vitrine, vitrine_alone
from support import PATIENT, Server, database_of, wait_for

from models.database import reader_of
from service.records.jobs import explanation_jobs_table
from vitrine import AsyncClient, Client, VitrineError

FEW = {"dataset": "background", "max_rows": 6}
ENDLESS = {"dataset": "train", "max_rows": 1_000, "tolerance": 1e-9, "deadline_ms": 60_000}


@pytest.fixture
def url(server: Server) -> str:
    return str(server.client.base_url)


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture(scope="module")
def explained(server: Server) -> dict[str, Any]:
    """A finished global explanation of diabetes."""
    with Client(str(server.client.base_url)) as client:
        asked = client.explain_global("diabetes", **FEW)
        return list(client.follow_explanation(asked["id"], every_seconds=0.05))[-1]


def test_the_client_asks_at_once_and_follows_until_the_answer(client: Client) -> None:
    rows = [[value * (1 + step / 50) for value in PATIENT] for step in range(8)]

    asked = client.explain_global("diabetes", rows, method="exact")
    documents = list(client.follow_explanation(asked["id"], every_seconds=0.02))

    assert ("queued", 8) == (asked["status"], asked["progress"]["total_rows"])
    told = [document["progress"]["rows"] for document in documents[:-1]]
    assert sorted(told) == told
    assert (8, "exact") == (documents[-1]["rows"], documents[-1]["receipt"]["method"])
    assert documents[-1] == client.explanation(asked["id"])


def test_the_async_client_follows_to_the_same_answer(url: str, explained: dict[str, Any]) -> None:
    async def ask() -> dict[str, Any]:
        async with AsyncClient(url) as client:
            asked = await client.explain_global("diabetes", **FEW)
            documents = [document async for document in client.follow_explanation(asked["id"], every_seconds=0.02)]
            return documents[-1]

    document = asyncio.run(ask())

    assert explained["targets"] == document["targets"]


def test_the_client_fetches_the_table_and_every_picture(client: Client, explained: dict[str, Any]) -> None:
    import pyarrow.parquet as parquet

    table = parquet.read_table(io.BytesIO(client.explanation_table(explained["id"])))
    pictures = [
        client.explanation_picture(explained["id"], kind=kind, plot=plot, feature=feature, width=400, theme="dark")
        for kind in ("png", "svg")
        for plot, feature in (("bar", None), ("beeswarm", None), ("dependence", "bmi"))
    ]

    assert 6 * 10 == table.num_rows
    assert all(picture.startswith(b"\x89PNG") for picture in pictures[:3])
    assert all(b"<svg" in picture for picture in pictures[3:])
    assert 6 == len(set(pictures))


@pytest.mark.parametrize(
    ("looks", "pointer"),
    [
        ({"plot": "dependence"}, "feature"),
        ({"plot": "dependence", "feature": "shoe size"}, "feature"),
        ({"plot": "bar", "feature": "bmi"}, "feature"),
        ({"target": "nothing"}, "target"),
    ],
)
def test_a_picture_of_what_is_not_there_is_refused(
    client: Client, explained: dict[str, Any], looks: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(VitrineError) as caught:
        client.explanation_picture(explained["id"], **looks)

    assert 422 == caught.value.status
    assert pointer in caught.value.errors[0]["pointer"]


def test_what_is_not_finished_has_no_files_and_what_is_cancelled_says_so(client: Client) -> None:
    asked = client.explain_global("digits", **ENDLESS)

    for fetch in (client.explanation_table, client.explanation_picture):
        with pytest.raises(VitrineError, match="not finished yet"):
            fetch(asked["id"])
    client.cancel_explanation(asked["id"])

    with pytest.raises(VitrineError) as caught:
        list(client.follow_explanation(asked["id"], patience_seconds=0))
    assert 410 == caught.value.status


@pytest.mark.parametrize(
    ("inputs", "options", "status", "pointer"),
    [
        (None, {"dataset": "future"}, 422, "#/dataset"),
        (None, {"max_rows": 1}, 422, "#/max_rows"),
        ([PATIENT[:4]] * 3, {}, 422, "#/inputs/0"),
        (None, {"top_k": 3}, 422, "#/top_k"),
        (None, {"method": "rise"}, 422, None),
    ],
)
def test_the_client_says_what_of_a_request_cannot_be_used(
    client: Client, inputs: Any, options: dict[str, Any], status: int, pointer: str | None
) -> None:
    with pytest.raises(VitrineError) as caught:
        client.explain_global("diabetes", inputs, **options)

    assert status == caught.value.status
    assert pointer is None or pointer == caught.value.errors[0]["pointer"]


def test_the_command_ranks_features_and_writes_every_form(url: str, tmp_path: Path) -> None:
    few = ["explain", "diabetes", "--global", "--dataset", "background", "--max-rows", "6"]
    files = [tmp_path / name for name in ("all.parquet", "plot.png", "plot.svg")]
    to_files = [text for file in files for text in (f"--{file.suffix[1:]}", str(file))]

    table = vitrine_alone(*few, url=url, variables={"FORCE_COLOR": "1"})
    document = vitrine(*few, "--json", url=url)
    written = vitrine(*few, *to_files, "--plot", "beeswarm", "--json", url=url)

    assert (0, 0, 0) == (table.returncode, document.returncode, written.returncode), written.stderr
    assert "diabetes 1 over 6 rows: progression" in table.stdout
    assert "95 % interval" in table.stdout
    # Where somebody looks, a bar runs on standard error; in a pipe there is none.
    assert "explaining" in table.stderr
    assert ("", "") == (document.stderr, written.stderr)
    answer = json.loads(document.stdout)
    assert 10 == len(answer["targets"][0]["features"])
    assert [str(file) for file in files] == [file["file"] for file in json.loads(written.stdout)["files"]]
    assert (b"PAR1", b"\x89PNG", b"<svg") == tuple(file.read_bytes()[:4] for file in files)


def test_ctrl_c_cancels_the_explanation(server: Server, url: str) -> None:
    arguments = ["explain", "digits", "--global", "--max-rows", "300", "--tolerance", "1e-9", "--deadline-ms", "100"]
    process = subprocess.Popen(
        command_of(arguments, url), env=environment_of(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    (explanation,) = wait_for(lambda: begun(server))

    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)

    assert (130, "") == (process.returncode, stdout), stderr
    assert "Traceback" not in stderr
    assert 410 == server.client.get(f"/explanations/{explanation}").status_code


def begun(server: Server) -> list[str]:
    """The explanations that are computed now, and of which rows are done."""
    jobs = explanation_jobs_table.c
    wanted = sa.select(jobs.id).where(jobs.status == "running", jobs.done_rows > 0)
    with database_of(server.settings) as engine, reader_of(engine).begin() as connection:
        return list(connection.execute(wanted).scalars())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--global", "--top-k", "3"], "--top-k is of single rows"),
        (["--input", "-", "--dataset", "test"], "--dataset can be used with --global alone"),
        (["--input", "-", "--parquet", "x.parquet", "--plot", "bar"], "--parquet, --plot can be used with --global"),
        (["--global", "--png", "x.png", "--plot", "dependence"], "need each other"),
        (["--global", "--png", "x.png", "--feature", "bmi"], "need each other"),
        (["--global", "--plot", "bar"], "Name its file with --png or --svg"),
        (["--global", "--parquet", "no/such/folder/x.parquet"], "there is no folder no/such/folder"),
        ([], "Rows are missing"),
    ],
)
def test_a_command_line_that_cannot_be_used_is_refused_before_anything_is_asked(
    arguments: list[str], words: str
) -> None:
    done = vitrine("explain", "diabetes", *arguments, url="http://127.0.0.1:9", text="[]")

    assert (2, "") == (done.returncode, done.stdout)
    assert words in " ".join(done.stderr.split())


def test_what_the_server_refuses_ends_the_command_with_its_words(url: str) -> None:
    done = vitrine("explain", "diabetes", "--global", "--max-rows", "1", url=url)

    assert (1, "") == (done.returncode, done.stdout)
    assert "#/max_rows" in done.stderr

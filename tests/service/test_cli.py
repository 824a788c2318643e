"""The commands that talk to a server, run as a user runs them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import command_of, environment_of, vitrine, vitrine_alone
from support import EIGHT, PATIENT, Server, free_port, install

from models.artifact import Artifact
from service.cli.online import bar
from service.cli.rows import parse_rows
from vitrine import Client

IRIS = {"model": "iris", "dataset": {"builtin": "iris"}, "architecture": {"type": "mlp", "layers": [4]}}


@pytest.fixture
def url(server: Server) -> str:
    return str(server.client.base_url)


@pytest.fixture
def rows(tmp_path: Path) -> str:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([PATIENT]))
    return str(file)


def test_predict_prints_a_table_or_json(url: str, rows: str, server: Server) -> None:
    body = {"model": "diabetes", "inputs": [PATIENT]}
    expected = server.client.post("/predict", json=body).json()["predictions"]

    table = vitrine("predict", "diabetes", "--input", rows, url=url)
    document = vitrine_alone("predict", "diabetes", "--input", "-", "--json", url=url, text=json.dumps([PATIENT]))

    assert f"{expected[0]['value']:.6g}" in table.stdout
    assert expected == json.loads(document.stdout)
    assert (table.returncode, document.returncode, document.stderr) == (0, 0, "")


def test_explain_prints_each_feature_s_share_with_a_bar(url: str, rows: str) -> None:
    done = vitrine("explain", "diabetes", "--input", rows, "--top-k", "3", url=url)

    assert done.returncode == 0
    assert "diabetes 1, row 0: progression" in done.stdout
    assert "│" in done.stdout
    assert "(omitted)" in done.stdout
    assert "exact (shapley)" in done.stdout


def test_explain_draws_an_image_in_the_terminal_and_into_a_file(url: str, tmp_path: Path) -> None:
    text = json.dumps([EIGHT])
    file = tmp_path / "digit.png"

    printed = vitrine("explain", "digits", "--input", "-", "--target", "8", "--deadline-ms", "200", url=url, text=text)
    written = vitrine("explain", "digits", "-i", "-", "--png", str(file), "--width", "300", url=url, text=text)

    assert "per cent of" in printed.stdout
    assert len([line for line in printed.stdout.splitlines() if len(line) == 40]) == 8
    assert written.returncode == 0, written.stderr
    assert file.read_bytes().startswith(b"\x89PNG")


def test_what_the_server_refuses_is_said_with_its_place_on_standard_error(url: str) -> None:
    done = vitrine("predict", "diabetes", "--input", "-", "--json", url=url, text="[[1, 2]]")

    assert (done.returncode, done.stdout) == (1, "")
    assert "Inputs do not fit the signature" in done.stderr
    assert "#/inputs/0: expected" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "text", "words"),
    [
        (["predict", "m", "--input", "nowhere.json"], None, "nowhere.json cannot be read"),
        (["predict", "m", "--input", "-"], "", "it is empty"),
        (["predict", "m", "--input", "-"], "[1, 2", "holds no rows"),
        (["train", "-"], "not JSON", "is not JSON"),
        (["train", "-"], "[]", "Expected a JSON object"),
        (["explain", "m", "-i", "-", "--option", "window"], "[[1]]", "--option expects NAME=JSON"),
        (["explain", "m", "-i", "-", "--png", "x.png"], "[[1], [2]]", "A picture shows one row"),
        (["models", "promote", "m", "1", "--force"], None, "--force needs a --reason"),
        (["predict"], None, "Missing argument"),
    ],
)
def test_bad_usage_ends_with_2_and_says_why(arguments: list[str], text: str | None, words: str) -> None:
    done = vitrine(*arguments, text=text)

    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


def test_a_server_that_is_not_there_ends_with_3() -> None:
    done = vitrine_alone("models", url=f"http://127.0.0.1:{free_port()}")

    assert done.returncode == 3
    assert "Nobody answers at" in done.stderr


def test_the_address_comes_from_the_settings(server: Server) -> None:
    by_port = vitrine("models", "--json", variables={"VITRINE_PORT": str(server.settings.port)})
    by_url = vitrine_alone("models", "--json", variables={"VITRINE_URL": str(server.client.base_url)})

    assert {"digits", "diabetes"} <= {model["name"] for model in json.loads(by_port.stdout)}
    assert by_url.returncode == 0


def test_settings_that_cannot_be_used_are_all_named() -> None:
    variables = {"VITRINE_PROT": "1", "VITRINE_TRAINERS": "0"}

    done = vitrine_alone("models", variables=variables)

    assert done.returncode == 2
    assert "VITRINE_PROT: unknown setting; did you mean VITRINE_PORT?" in done.stderr
    assert "VITRINE_TRAINERS" in done.stderr


def test_models_are_listed_shown_promoted_and_rolled_back(
    server: Server, url: str, diabetes_artifact: Artifact
) -> None:
    for i in range(2):
        install(server.settings, diabetes_artifact, "by-hand", f"JOB-by-hand-{i}")

    first = vitrine("models", "promote", "by-hand", "1", url=url)
    second = vitrine("models", "promote", "by-hand", "2", "--json", url=url)
    back = vitrine("models", "rollback", "by-hand", "--reason", "worse", url=url)
    again = vitrine("models", "rollback", "by-hand", url=url)
    listed = vitrine("models", url=url)
    shown = vitrine("models", "show", "by-hand", url=url)

    assert "champion of by-hand is now version 1; it was nothing." in first.stdout
    assert (json.loads(second.stdout)["version"], json.loads(second.stdout)["previous"]) == (2, 1)
    assert "is now version 1; it was version 2" in back.stdout
    assert (again.returncode, "no earlier version" in again.stderr) == (1, True)
    assert "by-hand" in listed.stdout
    assert "by-hand version 1, regression" in shown.stdout


@pytest.mark.long
def test_train_follows_its_job_and_says_the_version(system: Server) -> None:
    spec = json.dumps({**IRIS, "training": {"epochs": 3}, "gates": {"min": {"accuracy": 0.0}}})

    done = vitrine("train", "-", url=str(system.client.base_url), text=spec)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "Version 1 of iris is the champion now.\n"
    assert "iris: " in done.stderr


def test_a_job_that_fails_ends_with_1_and_its_reason(system: Server, tmp_path: Path) -> None:
    file = tmp_path / "bad.csv"
    file.write_text("a,b\n1,x\n")
    spec = {**IRIS, "model": "failing", "training": {"epochs": 1, "learning_rate": 1e-3}, "split": {"by": "petal"}}

    done = vitrine("train", "-", "--json", url=str(system.client.base_url), text=json.dumps(spec))

    assert done.returncode == 1
    assert "petal" in done.stderr


def test_ctrl_c_stops_watching_and_the_job_goes_on(system: Server) -> None:
    spec = {**IRIS, "model": "watched", "training": {"epochs": 400, "early_stopping": None}}
    process = subprocess.Popen(
        command_of(["train", "-"], str(system.client.base_url)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment_of(),
        # A shell that runs the tests in the background has SIGINT ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(json.dumps(spec))
    process.stdin.close()
    process.stdin = None
    process.stderr.readline()

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)

    (job,) = [job for job in system.client.get("/train").json()["jobs"] if job["model"] == "watched"]
    assert process.returncode == 130
    assert f"job {job['job']} goes on" in said
    assert f"vitrine jobs cancel {job['job']}" in said
    assert job["status"] in ("queued", "running")

    cancelled = vitrine("jobs", "cancel", job["job"], url=str(system.client.base_url))
    refused = vitrine("jobs", "cancel", job["job"], url=str(system.client.base_url))
    followed = vitrine("jobs", "follow", job["job"], url=str(system.client.base_url))

    assert "watched  cancelled" in cancelled.stdout
    assert (refused.returncode, followed.returncode) == (1, 1)
    assert f"was cancelled. Go on with it: vitrine jobs resume {job['job']}" in followed.stderr


@pytest.mark.long
def test_no_follow_returns_at_once_and_jobs_are_listed_followed_and_shown(system: Server) -> None:
    url = str(system.client.base_url)
    hopeless = {**IRIS, "model": "told", "training": {"epochs": 1}, "gates": {"min": {"accuracy": 1.0}}}
    spec = json.dumps(hopeless)

    queued = vitrine("train", "-", "--no-follow", "--json", "--idempotency-key", "once", url=url, text=spec)
    again = vitrine("train", "-", "--no-follow", "--json", "--idempotency-key", "once", url=url, text=spec)
    job = json.loads(queued.stdout)["job"]
    listed = vitrine("jobs", "--model", "told", url=url)
    followed = vitrine("jobs", "follow", job, url=url)
    document = vitrine("jobs", "follow", job, "--json", url=url)
    shown = vitrine("jobs", "show", job, url=url)
    logged = vitrine("jobs", "logs", job, "--tail", "3", url=url)
    with Client(url) as client:
        events = list(client.events(job))

    assert job == json.loads(again.stdout)["job"]
    assert len(logged.stdout.splitlines()) == 3
    assert "INFO trainer vitrine.trainer" in logged.stdout
    assert (events[-1].event, events[-1].data["status"]) == ("status", "succeeded")
    assert {"progress", "status"} == {event.event for event in events}
    assert job in listed.stdout
    assert followed.returncode == 0, followed.stderr
    assert "Version 1 of told is registered, and was not promoted: it failed" in followed.stdout
    assert "limit 1" in followed.stdout
    assert json.loads(document.stdout)["status"] == "succeeded"
    assert "version 1, attempt 1" in shown.stdout


def test_the_command_line_starts_without_what_is_heavy() -> None:
    code = (
        "import sys, service.__main__; "
        "print([name for name in ('tensorflow', 'numpy', 'sqlalchemy', 'fastapi', 'httpx') if name in sys.modules])"
    )

    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert output.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[[1, 2], [3, null]]", [[1, 2], [3, None]]),
        ('{"a": 1}', [{"a": 1}]),
        ('{"model": "m", "inputs": [[1]]}', [[1]]),
        ('{"a": 1}\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ("a,b\n1,x\n,2.5\n", [{"a": 1, "b": "x"}, {"a": None, "b": 2.5}]),
        ("\ufeffa , b\n1e3,007\n\n", [{"a": 1000.0, "b": "007"}]),
    ],
)
def test_rows_are_read_from_what_people_have(text: str, expected: list[object]) -> None:
    assert expected == parse_rows(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[1, 2]", "Put \\[ \\] around a single row"),
        ("[]", "the list is empty"),
        ("a,b\n1\n", "line 2 has 1 cells, and the header 2"),
        ("a,a\n1,2\n", "names a column twice"),
        ("a,b\n", "rows below it"),
        ('{"a": 1}\n{"a": \n', "line 2 of these JSON lines"),
    ],
)
def test_what_holds_no_rows_is_said(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_rows(text)


@pytest.mark.parametrize(
    ("share", "half_width", "expected"),
    [
        (1.0, 0.0, "    │████"),
        (0.5, 0.25, "    │█▒"),
        (-0.5, None, "  ██│"),
        (-1.0, 0.5, "▒▒██│"),
        (0.0, 1.0, "    │"),
    ],
)
def test_a_bar_goes_from_the_middle_and_shows_its_error(share: float, half_width: float | None, expected: str) -> None:
    assert expected == bar(share, half_width, width=8).plain


def test_import_needs_a_specification_and_says_what_is_wrong_with_a_file(url: str, tmp_path: Path) -> None:
    file = tmp_path / "model.keras"
    file.write_bytes(b"PK")

    without = vitrine("models", "import", "mine", str(file), url=url)
    refused = vitrine("models", "import", "mine", str(file), "--builtin", "iris", url=url)

    assert (2, 1) == (without.returncode, refused.returncode)
    assert "Give either --spec or --builtin." in without.stderr
    assert "no whole .keras file" in refused.stderr

"""A real Prometheus scrapes a real system under load: every panel, example and rule finds what it asks for."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from monitoring import DASHBOARD, DEPLOY, PANELS, Prometheus, as_grafana_sends, running_prometheus
from prometheus_client.parser import text_string_to_metric_families
from support import PATIENT, Server, free_port, install, point, running, succeeds, wait_for
from tools import need

from models.artifact import Artifact
from service.settings import Settings

DOCUMENT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
ROWS = [re.split(r" *\| *", line) for line in re.findall(r"^\| (`.*) \|$", DOCUMENT, re.MULTILINE)]
EXAMPLES = [query for row in ROWS for query in re.findall(r"`([^`]+)`", row[-1])]
JOB = {
    "model": "small",
    "dataset": {"builtin": "diabetes"},
    "architecture": {"type": "mlp", "layers": [4]},
    "training": {"epochs": 3},
}


@dataclass(frozen=True)
class Observed:
    server: Server
    prometheus: Prometheus
    exposition: str


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory, diabetes_artifact: Artifact) -> Iterator[Observed]:
    """`vitrine up`, scraped while it predicts, explains, refuses, trains, swaps, and meets a broken version."""
    need("prometheus", package="prometheus")
    settings = Settings(home=tmp_path_factory.mktemp("home"), port=free_port(), refresh_ms=100, cache_bytes=2**20)
    settings.prepare_home()
    for i in range(3):
        install(settings, diabetes_artifact, "diabetes", f"JOB-{i}")
    point(settings, "diabetes", 1)
    for i, alias in ((1, "champion"), (2, "challenger")):
        point(settings, "shadowed", install(settings, diabetes_artifact, "shadowed", f"JOB-shadowed-{i}"), alias=alias)
    folder = tmp_path_factory.mktemp("prometheus")
    with (
        running(settings, "up") as server,
        running_prometheus(folder, f"127.0.0.1:{settings.port}") as prometheus,
    ):
        wait_for(lambda: succeeds(server.client, "/health/ready"))
        job = server.client.post("/train", json=JOB).json()["links"]["self"]
        wait_for(lambda: load(server) and server.client.get(job).json()["status"] == "succeeded")
        server.client.put("/models/diabetes/aliases/champion", json={"version": 2}).raise_for_status()
        (settings.versions_directory / "diabetes" / "JOB-2" / "model.keras").write_bytes(b"")
        # Past the API, which would look at the files first.
        point(settings, "diabetes", 3, alias="challenger")
        before = prometheus.scrapes()
        wait_for(lambda: load(server) and prometheus.scrapes() >= before + 5)
        yield Observed(server, prometheus, server.client.get("/metrics").text)


def load(server: Server, seconds: float = 0.5) -> bool:
    """Requests of every kind, one after the other, for a while."""

    def post(path: str, **body: Any) -> int:
        # Another row each time, so that it is computed, and one that was there before.
        row = [*PATIENT[:-1], PATIENT[-1] + monotonic() % 1000 / 1000]
        server.client.post("/predict", json={"model": "diabetes", "inputs": [PATIENT]})
        return server.client.post(path, json={"model": "diabetes", "inputs": [row], **body}).status_code

    end = monotonic() + seconds
    while monotonic() < end:
        statuses = [
            post("/predict"),
            post("/predict", inputs=[PATIENT] * 3),
            post("/explain"),
            post("/explain", method="expected-gradients"),
            post("/predict", inputs=[PATIENT[:3]]),
            post("/predict", model="made-up"),
            post("/predict", model="shadowed"),
            server.client.get("/made-up").status_code,
            server.client.request("BREW", "/predict").status_code,
        ]
        assert statuses[:8] == [200, 200, 200, 200, 422, 404, 200, 404]
        assert statuses[8] in (400, 405)
    return True


@pytest.mark.parametrize(
    "query",
    [
        pytest.param(target["expr"], id=f"{panel['title']}-{target['refId']}")
        for panel in PANELS
        for target in panel["targets"]
    ],
)
def test_every_query_of_the_dashboard_has_values(observed: Observed, query: str) -> None:
    assert observed.prometheus.values(as_grafana_sends(query)) != []


@pytest.mark.parametrize("query", [v["definition"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"])
def test_every_variable_of_the_dashboard_has_choices(observed: Observed, query: str) -> None:
    assert observed.prometheus.variable(query) != []


@pytest.mark.parametrize("query", EXAMPLES)
def test_every_example_in_the_document_has_values(observed: Observed, query: str) -> None:
    assert observed.prometheus.values(query) != []


def test_every_alert_is_evaluated_and_the_one_for_a_refused_version_fires(observed: Observed) -> None:
    def rules() -> dict[str, dict[str, Any]]:
        groups = observed.prometheus.get("rules")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}

    wait_for(lambda: rules()["VitrineVersionRefused"]["state"] == "firing")

    found = rules()
    assert {name: rule.get("lastError", "") for name, rule in found.items() if rule["health"] != "ok"} == {}
    assert [name for name, rule in found.items() if rule["state"] == "firing"] == ["VitrineVersionRefused"]


def test_the_document_lists_exactly_what_is_exposed(observed: Observed) -> None:
    exposed = {}
    for family in text_string_to_metric_families(observed.exposition):
        name = family.name + "_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels if label != "le"}
        exposed[name] = (family.type, labels)

    documented = {row[0].strip("`"): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in ROWS}

    assert documented == exposed


def test_promtool_finds_nothing_to_say_about_the_metrics(observed: Observed) -> None:
    checked = subprocess.run(
        [need("promtool", package="prometheus"), "check", "metrics"],
        input=observed.exposition,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert (0, "", "") == (checked.returncode, checked.stdout, checked.stderr)


def test_names_that_clients_make_up_make_no_series(observed: Observed) -> None:
    assert [line for line in observed.exposition.splitlines() if "made-up" in line or "BREW" in line] == []
    assert 'vitrine_requests_total{method="GET",model="",route="unknown",status="404",version=""}' in (
        observed.exposition
    )


def test_figures_of_jobs_come_from_the_stores(observed: Observed) -> None:
    def value(query: str) -> float:
        (found,) = observed.prometheus.get("query", query=query)["result"]
        return float(found["value"][1])

    assert value('vitrine_jobs{state="succeeded"}') == 1
    assert value("vitrine_job_duration_seconds_count") == 1
    assert value("vitrine_job_duration_seconds_sum") > 0
    assert value('vitrine_trainer_peak_memory_bytes{model="small"}') > 100 * 2**20
    assert value('vitrine_swaps_total{model="diabetes",alias="champion"}') == 1
    assert value('vitrine_versions_refused_total{model="diabetes"}') == 1
    assert value("vitrine_first_ready_seconds") > 0


def test_the_alert_rules_and_the_configuration_are_valid_and_each_alert_fires_where_it_should() -> None:
    promtool = need("promtool", package="prometheus")

    for arguments in (
        ["check", "rules", "alerts.yml"],
        ["check", "config", "prometheus.yml"],
        ["test", "rules", "alerts-test.yml"],
    ):
        checked = subprocess.run([promtool, *arguments], cwd=DEPLOY, capture_output=True, text=True, timeout=60)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_is_tested_and_has_a_section_in_the_runbook() -> None:
    rules = (DEPLOY / "alerts.yml").read_text()
    alerts = re.findall(r"- alert: (\w+)", rules)
    anchors = re.findall(r"runbook_url: docs/runbook.md#(\w+)", rules)
    sections = re.findall(r"^#+ (\w+)$", (DEPLOY.parent / "docs" / "runbook.md").read_text(), re.MULTILINE)

    tested = re.findall(r'alertname="(\w+)"', (DEPLOY / "alerts-test.yml").read_text())

    assert [alert.lower() for alert in alerts] == anchors
    assert set(alerts) == set(tested)
    assert set(alerts) <= set(sections)


def test_every_panel_says_what_it_shows_and_in_which_unit() -> None:
    silent = [p["title"] for p in PANELS if not (p["description"] and p["fieldConfig"]["defaults"]["unit"])]

    assert silent == []

"""A real Prometheus, its scraped server, and the queries of the dashboard."""

from __future__ import annotations

import json
import math
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import time
from typing import Any

import httpx
from support import free_port, succeeds, wait_for
from tools import need

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "vitrine.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
GRAFANA_VARIABLES = {"$__rate_interval": "10s", "$model": ".*", "$instance": ".*"}


def as_grafana_sends(query: str) -> str:
    """A query of the dashboard with its variables filled in, all models and processes chosen."""
    for name, value in GRAFANA_VARIABLES.items():
        query = query.replace(name, value)
    assert "$" not in query, query
    return query


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus that scrapes once a second."""

    client: httpx.Client
    started_at: float

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.client.get(f"/api/v1/{path}", params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def values(self, query: str) -> list[float]:
        """Every value that a query has had since the start, NaN left out."""
        found = self.get("query_range", query=query, start=self.started_at, end=time(), step=1)["result"]
        values = [float(value) for series in found for _, value in series["values"]]
        return [value for value in values if not math.isnan(value)]

    def variable(self, query: str) -> list[str]:
        """What a variable of the dashboard can be."""
        matched = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
        assert matched, query
        metric, label = matched.groups()
        return self.get(f"label/{label}/values", **{"match[]": metric})

    def scrapes(self) -> float:
        (latest,) = self.get("query", query='count_over_time(up{job="vitrine"}[1h])')["result"] or [{"value": [0, "0"]}]
        return float(latest["value"][1])


@contextmanager
def running_prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """Starts Prometheus on a data folder of its own, with the rules of `deploy/` and one target."""
    program, port = need("prometheus", package="prometheus"), free_port()
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(DEPLOY / "alerts.yml")],
        "scrape_configs": [{"job_name": "vitrine", "static_configs": [{"targets": [target]}]}],
    }
    # JSON is YAML.
    (folder / "prometheus.yml").write_text(json.dumps(configuration))
    arguments = [
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([program, *arguments], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            wait_for(lambda: succeeds(client, "/-/ready"))
            yield Prometheus(client, time())
    finally:
        process.terminate()
        process.wait(60)

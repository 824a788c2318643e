"""Ray Serve: a deployment for each model that takes Starlette's request. `python ray_deployment.py PORT FOLDER`."""

from __future__ import annotations

import signal
import sys
from typing import Any

import ray
from network import Network, paths
from ray import serve
from starlette.requests import Request


@serve.deployment(max_ongoing_requests=256)
class Served:
    def __init__(self, path: str) -> None:
        self._network = Network(path)

    async def __call__(self, request: Request) -> dict[str, Any]:
        body = await request.json()
        return {"predictions": self._network(body["inputs"]).tolist()}


if __name__ == "__main__":
    ray.init(include_dashboard=False, _temp_dir=sys.argv[2], log_to_driver=False)
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False}
    )
    for name, path in paths().items():
        serve.run(Served.bind(path), name=name, route_prefix=f"/{name}")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])
    serve.shutdown()
    ray.shutdown()

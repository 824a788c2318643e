"""The floor that latencies are compared with: bare Starlette routes that answer fixed bytes.

`python -m benchmarks.floor FOLDER PORT` answers each file of the folder under its name, to GET and to POST.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


def create_floor(folder: Path) -> Starlette:
    """An application that reads each request's body and answers the bytes of a file."""
    return Starlette(routes=[_route(file.name, file.read_bytes()) for file in sorted(folder.iterdir())])


def _route(name: str, content: bytes) -> Route:
    async def answer(request: Request) -> Response:
        await request.body()
        return Response(content)

    return Route(f"/{name}", answer, methods=["GET", "POST"])


def main() -> None:
    folder, port = sys.argv[1:]
    uvicorn.run(create_floor(Path(folder)), host="127.0.0.1", port=int(port), access_log=False, log_config=None)


if __name__ == "__main__":
    main()

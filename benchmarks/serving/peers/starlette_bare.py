"""The floor with a model: a Starlette route that parses JSON with orjson, runs ONNX Runtime, and answers JSON.

`python starlette_bare.py PORT`. It checks nothing: no ids, no metrics, no limits, no errors.
"""

from __future__ import annotations

import sys

import orjson
import uvicorn
from network import networks
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

served = networks()


async def predict(request: Request) -> Response:
    body = orjson.loads(await request.body())
    outputs = served[body["model"]](body["inputs"])
    return Response(orjson.dumps({"predictions": outputs.tolist()}), media_type="application/json")


app = Starlette(routes=[Route("/predict", predict, methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=False, log_level="warning")

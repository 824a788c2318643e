"""What kserve's client finds over V1 at a server with the models diabetes and digits."""

import asyncio
import json
import logging
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, RESTConfig

url = sys.argv[1]
patient = json.loads(sys.argv[2])
images = (np.arange(2 * 64).reshape(2, 8, 8) % 17).tolist()
logging.disable(logging.CRITICAL)


async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v1", retries=0, timeout=60))
    found = {
        "live": await client.is_server_live(url),
        "model_ready": await client.is_model_ready(url, "diabetes"),
        "rows": await client.infer(url, {"instances": [patient]}, model_name="diabetes"),
        "inputs": await client.infer(url, {"inputs": [patient, patient]}, model_name="diabetes"),
        "images": await client.infer(url, {"instances": images}, model_name="digits"),
        "explained": await client.explain(
            url, "diabetes", {"instances": [patient], "method": "kernel", "budget": 20000, "deadline_ms": 30000}
        ),
    }
    for name, call in {
        "unknown": client.infer(url, {"instances": [patient]}, model_name="nobody"),
        "unknown_ready": client.is_model_ready(url, "nobody"),
        "wrong": client.infer(url, {"instances": [patient[:3]]}, model_name="diabetes"),
        "explain_wrong": client.explain(url, "diabetes", {"instances": [patient], "method": "magic"}),
    }.items():
        try:
            found[name] = await call
        except httpx.HTTPStatusError as error:
            found[name] = [error.response.status_code, error.response.json()["error"]]
    await client.close()
    print(json.dumps(found))


asyncio.run(main())

"""What tritonclient finds at a server with the models diabetes, digits and breast-cancer."""

import json
import sys
import urllib.request

import ml_dtypes
import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

url = sys.argv[1]
client = triton.InferenceServerClient(url, concurrency=16)
patient = np.array([json.loads(sys.argv[2])], np.float32)
images = np.arange(3 * 64, dtype=np.float32).reshape(3, 8, 8, 1) % 17
many = np.repeat(images, 300, axis=0)  # more than are answered before anything else can happen


def tensor(name, array, datatype, binary=True):
    made = triton.InferInput(name, array.shape, datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def refused(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}
    return None


matrix = tensor("input", patient, "FP32")
columns = [tensor(f["name"], np.array([[f["value"]]], f["dtype"]), f["datatype"]) for f in json.loads(sys.argv[3])]
found = {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model_ready": [client.is_model_ready("diabetes"), client.is_model_ready("diabetes", "1")],
    "unknown_ready": client.is_model_ready("nobody"),
    "server": client.get_server_metadata(),
    "metadata": client.get_model_metadata("digits"),
    "config": client.get_model_config("digits", "1"),
    "index": client.get_model_repository_index(),
}

default = client.infer("diabetes", [matrix])
found["default"] = {"value": default.as_numpy("value").tolist(), "response": default.get_response()}
in_json = client.infer(
    "diabetes",
    [tensor("input", patient, "FP32", binary=False)],
    outputs=[triton.InferRequestedOutput("value", binary_data=False)],
    request_id="forty-two",
)
found["in_json"] = {"value": in_json.as_numpy("value").tolist(), "id": in_json.get_response()["id"]}
found["same"] = {
    "FP64": client.infer("diabetes", [tensor("input", patient.astype(np.float64), "FP64")]).as_numpy("value").tolist(),
    "columns": client.infer("diabetes", columns).as_numpy("value").tolist(),
    "gzip": client.infer("diabetes", [matrix], request_compression_algorithm="gzip").as_numpy("value").tolist(),
    "deflate": client.infer("diabetes", [matrix], request_compression_algorithm="deflate").as_numpy("value").tolist(),
    "version": client.infer("diabetes", [matrix], model_version="1").as_numpy("value").tolist(),
    "accepting": client.infer("diabetes", [matrix], response_compression_algorithm="gzip").as_numpy("value").tolist(),
    "timeout": client.infer("diabetes", [matrix], timeout=30_000_000).as_numpy("value").tolist(),
    "output": client.infer("diabetes", [matrix], outputs=[triton.InferRequestedOutput("output")])
    .as_numpy("output")
    .tolist(),
}
outputs = [triton.InferRequestedOutput("probability", binary_data=False), triton.InferRequestedOutput("logit")]
digits = client.infer("digits", [tensor("image", images, "FP32")], outputs=outputs)
narrow = {
    name: client.infer("digits", [tensor("image", images.astype(kind), name)]).as_numpy("probability").tolist()
    for name, kind in (("FP16", np.float16), ("UINT8", np.uint8), ("INT64", np.int64))
}
bf16 = tensor("image", images.astype(ml_dtypes.bfloat16), "BF16")
narrow["BF16"] = client.infer("digits", [bf16]).as_numpy("probability").tolist()
found["digits"] = {name: digits.as_numpy(name).tolist() for name in ("probability", "logit")}
found["narrow"] = narrow

pending = [client.async_infer("diabetes", [tensor("input", patient + i, "FP32")]) for i in range(16)]
together = [answer.get_result() for answer in pending]  # a connection is free again once its answer has been read
alone = [client.infer("diabetes", [tensor("input", patient + i, "FP32")]) for i in range(16)]
found["concurrent"] = [
    [a.as_numpy("value").tolist(), b.as_numpy("value").tolist()] for a, b in zip(together, alone, strict=True)
]

found["refused"] = {
    "unknown model": refused(client.infer, "nobody", [matrix]),
    "unknown version": refused(client.infer, "diabetes", [matrix], model_version="99"),
    "unknown metadata": refused(client.get_model_metadata, "nobody"),
    "wrong input": refused(client.infer, "digits", [matrix]),
    "wrong output": refused(client.infer, "diabetes", [matrix], outputs=[triton.InferRequestedOutput("x")]),
    "priority": refused(client.infer, "diabetes", [matrix], priority=3),
    "sequence": refused(client.infer, "diabetes", [matrix], sequence_id=5, sequence_start=True),
    "classification": refused(
        client.infer, "digits", [tensor("image", images, "FP32")],
        outputs=[triton.InferRequestedOutput("probability", class_count=3)],
    ),
    "timeout": refused(client.infer, "digits", [tensor("image", many, "FP32")], timeout=1),
    "config": refused(client.load_model, "diabetes", config="{}"),
    "unload": refused(client.unload_model, "diabetes"),
}  # fmt: skip
client.load_model("diabetes")
statistics = client.get_inference_statistics("diabetes", "1")["model_stats"]
found["statistics"] = statistics[0]

body, length = triton.InferenceServerClient.generate_request_body(
    [matrix], outputs=[triton.InferRequestedOutput(n) for n in ("attributions", "base_values", "values", "targets")]
)
asked = urllib.request.Request(f"http://{url}/v2/models/diabetes/explain", body, method="POST")
asked.add_header("Inference-Header-Content-Length", str(length))
with urllib.request.urlopen(asked, timeout=60) as answer:
    explained = triton.InferenceServerClient.parse_response_body(
        answer.read(), header_length=int(answer.headers["Inference-Header-Content-Length"])
    )
found["explained"] = {n: explained.as_numpy(n).tolist() for n in ("attributions", "base_values", "values")}
found["explained"]["targets"] = [t.decode() for t in explained.as_numpy("targets").reshape(-1)]
found["explained"]["parameters"] = explained.get_response()["parameters"]
print(json.dumps(found))

"""What tritonclient reads of a server whose answers are kept: the statistics before and after three requests, two of
which are the same.

    tritonclient_cache.py HTTP GRPC MODEL ROW OTHER_ROW
"""

import json
import sys

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http

http, rpc = over_http.InferenceServerClient(sys.argv[1]), over_grpc.InferenceServerClient(sys.argv[2])
model = sys.argv[3]


def infer(client, kinds, row):
    tensor = kinds.InferInput("input", [1, len(row)], "FP32")
    tensor.set_data_from_numpy(np.array([row], np.float32))
    return client.infer(model, [tensor]).as_numpy("value").tolist()


row, other = json.loads(sys.argv[4]), json.loads(sys.argv[5])
found = {
    "before": http.get_inference_statistics(model, "1")["model_stats"][0],
    "answers": [infer(http, over_http, row), infer(rpc, over_grpc, row), infer(rpc, over_grpc, other)],
    "after": http.get_inference_statistics(model, "1")["model_stats"][0],
    "over_grpc": rpc.get_inference_statistics(model, "1", as_json=True)["model_stats"][0],
    "config": [http.get_model_config(model), rpc.get_model_config(model, as_json=True)["config"]],
}
print(json.dumps(found))

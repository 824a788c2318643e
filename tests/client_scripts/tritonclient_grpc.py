"""What tritonclient finds at a gRPC server with the models diabetes and digits; and over HTTP, to compare."""

import json
import queue
import sys
import threading

import grpc
import ml_dtypes
import numpy as np
import tritonclient.grpc as triton
import tritonclient.http as rest
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2, service_pb2
from tritonclient.utils import InferenceServerException

client = triton.InferenceServerClient(sys.argv[1])
over_http = rest.InferenceServerClient(sys.argv[2])
channel = grpc.insecure_channel(sys.argv[1])
patient = np.array([json.loads(sys.argv[3])], np.float32)
columns = json.loads(sys.argv[4])
images = np.arange(3 * 64, dtype=np.float32).reshape(3, 8, 8, 1) % 17
many = np.repeat(images, 300, axis=0)  # more than are answered before anything else can happen
service = "/inference.GRPCInferenceService/"


def tensor(name, array, datatype, kind=triton):
    made = kind.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def call(method, request, answer, metadata=()):
    """A call without tritonclient's wrapping: the answer as a document, and the metadata behind it."""
    ask = channel.unary_unary(service + method, type(request).SerializeToString, answer.FromString)
    received, made = ask.with_call(request, metadata=metadata, timeout=60)
    return json_format.MessageToDict(received, preserving_proto_field_name=True), dict(made.trailing_metadata())


def refused(ask, *arguments, **options):
    try:
        ask(*arguments, **options)
    except InferenceServerException as error:
        return {"code": error.status(), "message": error.message()}
    except grpc.RpcError as error:
        trailers = {k: v if isinstance(v, str) else v.decode("latin-1") for k, v in error.trailing_metadata()}
        return {"code": str(error.code()), "message": error.details(), "trailers": trailers}
    return None


def values(model, inputs, output, **options):
    return client.infer(model, inputs, **options).as_numpy(output).tolist()


def fields(descriptor):
    """Numbers, names and kinds of the fields of a message and of those within it."""
    found = {
        descriptor.full_name: {
            f.name: [f.number, f.type, f.is_repeated, (f.message_type or f.enum_type or f).full_name]
            for f in descriptor.fields
        }
    }
    for nested in descriptor.nested_types:
        found |= fields(nested)
    return found


def typed(model, name, shape, datatype, **contents):
    contents = service_pb2.InferTensorContents(**contents)
    given = {"name": name, "shape": shape, "datatype": datatype, "contents": contents}
    return service_pb2.ModelInferRequest(model_name=model, inputs=[given])


matrix = tensor("input", patient, "FP32")
found = {"fields": {}}
for file in (service_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR):
    for message in file.message_types_by_name.values():
        found["fields"] |= fields(message)
found["data_types"] = {value.name: value.number for value in model_config_pb2.DataType.DESCRIPTOR.values}
found |= {
    "live": client.is_server_live(),
    "ready": client.is_server_ready(),
    "model_ready": [client.is_model_ready("diabetes"), client.is_model_ready("diabetes", "1")],
    "unknown_ready": [client.is_model_ready("nobody"), client.is_model_ready("diabetes", "99")],
    "server": client.get_server_metadata(as_json=True),
    "metadata": client.get_model_metadata("digits", as_json=True),
    "config": client.get_model_config("digits", "1", as_json=True),
    "index": client.get_model_repository_index(as_json=True),
}

default = client.infer("diabetes", [matrix])
found["default"] = {
    "value": default.as_numpy("value").tolist(),
    "response": default.get_response(as_json=True),
}
found["id"] = client.infer("diabetes", [matrix], request_id="forty-two").get_response().id
wide = {"FP64": np.float64, "FP32": np.float32}
found["same"] = {
    **{name: values("diabetes", [tensor("input", patient.astype(kind), name)], "value") for name, kind in wide.items()},
    "columns": values(
        "diabetes",
        [tensor(c["name"], np.array([[c["value"]]], c["dtype"]), c["datatype"]) for c in columns],
        "value",
    ),
    "gzip": values("diabetes", [matrix], "value", compression_algorithm="gzip"),
    "deflate": values("diabetes", [matrix], "value", compression_algorithm="deflate"),
    "version": values("diabetes", [matrix], "value", model_version="1"),
    "alias": values("diabetes", [matrix], "value", model_version="champion"),
    "timeout": values("diabetes", [matrix], "value", timeout=120_000_000, client_timeout=120),
    "output": values("diabetes", [matrix], "output", outputs=[triton.InferRequestedOutput("output")]),
}
request = typed("diabetes", "input", [1, 10], "FP32", fp32_contents=patient.reshape(-1))
answer, trailers = call(
    "ModelInfer", request, service_pb2.ModelInferResponse, metadata=(("x-request-id", "given-by-the-client"),)
)
found["typed"] = {"answer": answer, "request_id": trailers["x-request-id"]}
one_by_one = service_pb2.ModelInferRequest(model_name="diabetes")
for column in columns:
    field = {"FP32": "fp32_contents", "FP64": "fp64_contents", "INT64": "int64_contents"}[column["datatype"]]
    given = one_by_one.inputs.add(name=column["name"], shape=[1, 1], datatype=column["datatype"])
    getattr(given.contents, field).append(column["value"])
found["typed_columns"] = call("ModelInfer", one_by_one, service_pb2.ModelInferResponse)[0]

outputs = [triton.InferRequestedOutput(name) for name in ("probability", "logit")]
digits = client.infer("digits", [tensor("image", images, "FP32")], outputs=outputs)
digits_rest = over_http.infer(
    "digits",
    [tensor("image", images, "FP32", rest)],
    outputs=[rest.InferRequestedOutput(name) for name in ("probability", "logit")],
)
found["digits"] = {
    name: [digits.as_numpy(name).tobytes().hex(), digits_rest.as_numpy(name).tobytes().hex()]
    for name in ("probability", "logit")
}
kinds = {"FP16": np.float16, "UINT8": np.uint8, "INT64": np.int64, "BF16": ml_dtypes.bfloat16}
found["narrow"] = {
    name: client.infer("digits", [tensor("image", images.astype(kind), name)]).as_numpy("probability").tobytes().hex()
    for name, kind in kinds.items()
}
flat = images.astype(np.int64).reshape(-1).tolist()
found["narrow_typed"] = {
    name: call("ModelInfer", typed("digits", "image", [3, 8, 8], name, **{field: flat}), service_pb2.ModelInferResponse)
    [0]["outputs"][0]["contents"]["fp32_contents"]
    for name, field in (
        ("INT8", "int_contents"), ("INT64", "int64_contents"), ("UINT16", "uint_contents"),
        ("UINT64", "uint64_contents"), ("FP64", "fp64_contents"),
    )
}  # fmt: skip

pending = []
done = threading.Semaphore(0)
for i in range(32):
    place = {}
    pending.append(place)

    def note(result, error, place=place):
        place["value"] = error.message() if error else result.as_numpy("value").tolist()
        done.release()

    client.async_infer("diabetes", [tensor("input", patient + i, "FP32")], callback=note)
for _ in pending:
    done.acquire(timeout=120)
alone = [values("diabetes", [tensor("input", patient + i, "FP32")], "value") for i in range(len(pending))]
found["concurrent"] = [[place.get("value"), b] for place, b in zip(pending, alone, strict=True)]

answers = queue.Queue()
client.start_stream(lambda result, error: answers.put((result, error)))
for i in range(80):
    name = "nobody" if i == 3 else "diabetes"
    client.async_stream_infer(
        name, [tensor("input", patient + i, "FP32")], request_id=str(i), enable_empty_final_response=i == 5
    )
streamed = []
for _ in range(80):
    result, error = answers.get(timeout=120)
    if error:
        streamed.append(error.message())
    else:
        response = result.get_response()
        streamed.append(
            [response.id, result.as_numpy("value").tolist(), "triton_final_response" in response.parameters]
        )
client.stop_stream()
found["streamed"] = streamed

unary = lambda request: call("ModelInfer", request, service_pb2.ModelInferResponse)  # noqa: E731
mixed = typed("diabetes", "input", [1, 10], "FP32", fp32_contents=patient.reshape(-1))
mixed.raw_input_contents.append(patient.tobytes())
both = service_pb2.ModelInferRequest(model_name="diabetes", raw_input_contents=[b"", b""])
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
    "repository": refused(
        call, "RepositoryIndex", service_pb2.RepositoryIndexRequest(repository_name="other"),
        service_pb2.RepositoryIndexResponse,
    ),
    "shared memory": refused(client.get_system_shared_memory_status),
    "trace": refused(client.get_trace_settings),
    "no input": refused(unary, service_pb2.ModelInferRequest(model_name="diabetes")),
    "wrong contents": refused(unary, typed("diabetes", "input", [1, 10], "FP32", int_contents=[1] * 10)),
    "short contents": refused(unary, typed("diabetes", "input", [1, 10], "FP32", fp32_contents=[1] * 9)),
    "half contents": refused(unary, typed("diabetes", "input", [1, 10], "FP16")),
    "range": refused(unary, typed("digits", "image", [1, 8, 8], "INT8", int_contents=[1000] * 64)),
    "text": refused(unary, typed("diabetes", "input", [1], "BYTES", bytes_contents=[b"\xff"])),
    "mixed": refused(unary, mixed),
    "count": refused(unary, both),
    "large": refused(client.infer, "diabetes", [tensor("input", np.zeros((500_000, 10), np.float32), "FP32")]),
    "bomb": refused(
        client.infer, "diabetes", [tensor("input", np.zeros((500_000, 10), np.float32), "FP32")],
        compression_algorithm="gzip",
    ),
    "rows": refused(client.infer, "diabetes", [tensor("input", np.zeros((2000, 10), np.float32), "FP32")]),
    "garbage": refused(channel.unary_unary(service + "ModelInfer"), b"\xff\xff\xff"),
    "method": refused(channel.unary_unary("/inference.GRPCInferenceService/Fly"), b""),
}  # fmt: skip
client.load_model("diabetes")
statistics = client.get_inference_statistics("diabetes", "1", as_json=True)["model_stats"]
found["statistics"] = statistics[0]
found["all_statistics"] = len(client.get_inference_statistics(as_json=True)["model_stats"])

# By what it serializes, and not by its class: health is no part of tritonclient.
check = channel.unary_unary("/grpc.health.v1.Health/Check")
found["health"] = [check(b"").hex(), check(b"\x0a\x1e" + b"inference.GRPCInferenceService").hex()]
found["unknown_health"] = refused(check, b"\x0a\x01x")

explain = typed("diabetes", "input", [1, 10], "FP32")
explain.id = "why"
explain.raw_input_contents.append(patient.tobytes())
explain.parameters["method"].string_param = "exact"
explain.parameters["options"].string_param = "{}"
ask = channel.unary_unary(
    service + "ModelExplain", explain.SerializeToString, service_pb2.ModelInferResponse.FromString
)
explained = triton.InferResult(
    channel.unary_unary(
        service + "ModelExplain", service_pb2.ModelInferRequest.SerializeToString,
        service_pb2.ModelInferResponse.FromString,
    )(explain, timeout=60)
)  # fmt: skip
found["explained"] = {n: explained.as_numpy(n).tolist() for n in ("attributions", "base_values", "values")}
found["explained"]["targets"] = [t.decode() for t in explained.as_numpy("targets").reshape(-1)]
found["explained"]["parameters"] = explained.get_response(as_json=True)["parameters"]
explain.parameters["options"].string_param = "["
found["explain_refused"] = refused(call, "ModelExplain", explain, service_pb2.ModelInferResponse)

found["deadline"] = refused(client.infer, "digits", [tensor("image", many, "FP32")], client_timeout=0.001)
client.close()
print(json.dumps(found))

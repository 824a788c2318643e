"""Requests and answers of tensors as messages: typed contents, or raw bytes beside them.

A request becomes the document that one of REST is, and is read by the code that reads those: what is refused, and in
which words, is the same for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import Fault, pointer
from service.errors import InvalidRequest
from service.routes.v2.binary import BF16, BOOL, BYTES, FP16, encode
from service.routes.v2.tensors import NamedArray, TensorRequest, read_request
from service.rpc.messages import message_class

CONTENTS = {
    BOOL: "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
"""The field of typed contents by datatype. FP16 and BF16 have none."""
MOST_ENTRIES = 10_000
"""Tensors, and parameters of anything: each takes a few bytes of a message, and a hundred times as many here."""
_ModelInferResponse = message_class("ModelInferResponse")


def tensor_request(message: Any) -> TensorRequest:
    """What a ModelInferRequest asks for. Outputs are raw where inputs were, unless it says otherwise.

    Raises:
        InvalidRequest: with every fault, but for those of the data themselves.
    """
    for place, entries in (("inputs", message.inputs), ("outputs", message.outputs)):
        if len(entries) > MOST_ENTRIES:
            raise InvalidRequest([Fault(f"#/{place}", f"at most {MOST_ENTRIES} tensors", f"{len(entries)}")])
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        expected = f"{len(message.inputs)}, one for each input, or none"
        raise InvalidRequest([Fault("#/raw_input_contents", expected, f"{len(raw)}")])
    faults: list[Fault] = []
    document = {
        "parameters": {"binary_data_output": bool(raw), **parameters_of(message.parameters)},
        "inputs": [_input(tensor, i, raw[i] if raw else None, faults) for i, tensor in enumerate(message.inputs)],
        "outputs": [
            {"name": output.name, "parameters": parameters_of(output.parameters)} for output in message.outputs
        ],
    }
    if message.id:
        document["id"] = message.id
    if faults:
        raise InvalidRequest(faults)
    return read_request(document, memoryview(b""), message.model_name)


def _input(tensor: Any, place: int, raw: bytes | None, faults: list[Fault]) -> dict[str, Any]:
    datatype = tensor.datatype
    document = {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "datatype": datatype,
        "parameters": parameters_of(tensor.parameters),
    }
    # To look into contents that are not there would make them.
    given = (
        {field.name: values for field, values in tensor.contents.ListFields()} if tensor.HasField("contents") else {}
    )
    if raw is not None:
        if given:
            faults.append(
                Fault(pointer("inputs", place, "contents"), "none beside raw_input_contents", " and ".join(given))
            )
        return {**document, "data": memoryview(raw)}
    if datatype in (FP16, BF16):
        expected = f"none: {datatype} has no typed contents; send it in raw_input_contents"
        faults.append(Fault(pointer("inputs", place, "contents"), expected, " and ".join(given) or "nothing"))
        return document
    field = CONTENTS.get(datatype, "")
    if field and (others := given.keys() - {field}):
        faults.append(
            Fault(pointer("inputs", place, "contents"), f"{field} for {datatype}", " and ".join(sorted(others)))
        )
    values = list(given.get(field, ()))
    return {**document, "data": _texts(values, place, faults) if datatype == BYTES else values}


def _texts(values: list[bytes], place: int, faults: list[Fault]) -> list[str]:
    texts = []
    for i, value in enumerate(values):
        try:
            texts.append(value.decode())
        except UnicodeDecodeError:
            faults.append(
                Fault(pointer("inputs", place, "contents", CONTENTS[BYTES], i), "text in UTF-8", "other bytes")
            )
            break
    return texts


def parameters_of(given: Any) -> dict[str, Any]:
    """A map of parameters as plain values; of one that is empty None."""
    if not given:
        return {}
    if len(given) > MOST_ENTRIES:
        raise InvalidRequest([Fault("#/parameters", f"at most {MOST_ENTRIES}", f"{len(given)}")])
    found = {}
    for name, parameter in given.items():
        choice = parameter.WhichOneof("parameter_choice")
        found[name] = getattr(parameter, choice) if choice else None
    return found


def set_parameters(given: Any, values: dict[str, Any]) -> None:
    """Sets a map of parameters to strings, numbers and booleans."""
    for name, value in values.items():
        if isinstance(value, bool):
            given[name].bool_param = value
        elif isinstance(value, int):
            given[name].int64_param = value
        elif isinstance(value, float):
            given[name].double_param = value
        else:
            given[name].string_param = value


def infer_response(head: dict[str, Any], outputs: Sequence[tuple[NamedArray, bool]]) -> Any:
    """A ModelInferResponse. Raw contents are for all outputs or none: where one is to be raw, all are.

    Args:
        head: the members before the outputs, as `write_answer` takes them.
    """
    message = _ModelInferResponse(model_name=head["model_name"], model_version=head["model_version"], id=head["id"])
    set_parameters(message.parameters, head.get("parameters", {}))
    is_raw = any(binary for _, binary in outputs)
    for output, _ in outputs:
        tensor = message.outputs.add(name=output.name, datatype=output.datatype, shape=output.array.shape)
        if is_raw:
            message.raw_output_contents.append(encode(output.datatype, output.array))
        else:
            getattr(tensor.contents, CONTENTS[output.datatype]).extend(_flat(output.datatype, output.array))
    return message


def _flat(datatype: str, array: NDArray[Any]) -> list[Any]:
    if datatype == BYTES:
        return [str(value).encode() for value in array.reshape(-1)]
    return np.ascontiguousarray(array).reshape(-1).tolist()

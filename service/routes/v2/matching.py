"""Which tensors a version takes and gives, and how those of a request become its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import Fault, InvalidRows, pointer
from models.rows import ModelInput, check_array, describe
from models.signature import Feature, FeatureKind, Signature
from service.errors import InvalidRequest
from service.routes.v2.binary import BOOL, BYTES, DATATYPES, DoesNotFit, size_of
from service.routes.v2.tensors import GivenTensor
from service.serving.turns import decode_in_turns

MATRIX = "input"
"""The name of the one tensor that holds all columns of a version of numbers."""
OUTPUT = "output"
"""The network's own output tensor, which V1 answers too: the first output under another name, but for one sigmoid unit.
Then it is the probability of the second label alone, where `probability` has both."""
NUMBERS = tuple(name for name in DATATYPES if name not in (BYTES, BOOL))
_DATATYPES_OF: dict[FeatureKind, tuple[str, ...]] = {
    "numeric": ("FP32", *(name for name in NUMBERS if name != "FP32")),
    "boolean": (BOOL,),
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor of a version, as its metadata describe it.

    Attributes:
        datatypes: that are taken; the first is the one that is named.
        shape: of a row; rows come before it.
    """

    name: str
    datatypes: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def datatype(self) -> str:
        return self.datatypes[0]


def inputs_of(signature: Signature) -> tuple[TensorSpec, ...]:
    """The inputs that metadata name."""
    if not signature.fits_one_array:
        return tuple(_input_of(feature) for feature in signature.features)
    if signature.kind in ("image", "series"):
        return (TensorSpec(signature.features[0].name, _DATATYPES_OF["numeric"], signature.input_shape),)
    return (TensorSpec(MATRIX, _DATATYPES_OF["numeric"], signature.input_shape),)


def _input_of(feature: Feature) -> TensorSpec:
    return TensorSpec(feature.name, _DATATYPES_OF.get(feature.kind, (BYTES,)), (1,))


def default_output(signature: Signature) -> TensorSpec:
    """What is answered where a request names no outputs: the network's own output."""
    name = OUTPUT if has_one_sigmoid(signature) else signature.outputs[0]
    return TensorSpec(name, ("FP32",), (signature.n_network_outputs,))


def has_one_sigmoid(signature: Signature) -> bool:
    """Whether one unit speaks for two labels."""
    return signature.n_network_outputs < len(signature.targets)


def output_behind(name: str, signature: Signature) -> str | None:
    """The output of a version that a name in a request means; None where there is none."""
    if name in signature.outputs:
        return name
    return signature.outputs[0] if name == OUTPUT else None


def raw_input(data: memoryview, signature: Signature) -> GivenTensor:
    """The one input of a request that is nothing but its bytes.

    Raises:
        InvalidRequest: when the version takes several, or the bytes are no whole number of rows.
    """
    specs = inputs_of(signature)
    if len(specs) != 1:
        expected = f"JSON before the tensors: this version takes {len(specs)} inputs"
        raise InvalidRequest([Fault("#/inputs", expected, "raw bytes alone")])
    (spec,) = specs
    if spec.datatype == BYTES:
        # One text, without its length before it: as Triton takes it, the body says how long it is.
        try:
            return GivenTensor(0, spec.name, BYTES, (1,), [str(data, "utf-8")])
        except UnicodeDecodeError:
            raise InvalidRequest([Fault("#/inputs/0", "a text in UTF-8", f"{len(data)} other bytes")]) from None
    row_bytes = size_of(spec.datatype, spec.shape)
    if not data or len(data) % row_bytes:
        expected = f"a multiple of {row_bytes} bytes: {spec.datatype} of shape {[-1, *spec.shape]}"
        raise InvalidRequest([Fault("#/inputs/0", expected, f"{len(data)} bytes")])
    return GivenTensor(0, spec.name, spec.datatype, (len(data) // row_bytes, *spec.shape), data)


def arrange(tensors: Sequence[GivenTensor], signature: Signature, max_rows: int) -> NDArray[Any] | list[Any]:
    """The tensors of a request as one array `(n_rows, *input_shape)`, or as rows of JSON where not all is numbers.

    Raises:
        InvalidRequest: with every tensor that does not fit the version.
    """
    specs = inputs_of(signature)
    by_feature = signature.kind == "columns" and signature.fits_one_array and [t.name for t in tensors] != [MATRIX]
    if by_feature:
        specs = tuple(_input_of(feature) for feature in signature.features)
    faults = _name_faults(tensors, specs, signature)
    given = {tensor.name: tensor for tensor in tensors}
    for spec in specs:
        if (tensor := given.get(spec.name)) is not None:
            faults += _kind_faults(tensor, spec, max_rows)
    if not faults and len({tensor.shape[0] for tensor in tensors}) > 1:
        counts = ", ".join(f"{tensor.name}: {tensor.shape[0]}" for tensor in tensors[:10])
        faults.append(Fault("#/inputs", "as many rows in each tensor", counts))
    if faults:
        raise InvalidRequest(faults)
    arrays = _decoded([given[spec.name] for spec in specs])
    if signature.fits_one_array:
        if by_feature:
            return np.stack([array.reshape(-1).astype(np.float64) for array in arrays], axis=1)
        return arrays[0].reshape(-1, *signature.input_shape)
    columns = [_json_values(array) for array in arrays]
    if signature.kind == "text":
        return columns[0]
    return [list(values) for values in zip(*columns, strict=True)]


def _name_faults(tensors: Sequence[GivenTensor], specs: Sequence[TensorSpec], signature: Signature) -> list[Fault]:
    names = [spec.name for spec in specs]
    if [tensor.name for tensor in tensors] == names:
        return []
    shown = ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
    if signature.kind == "columns" and signature.fits_one_array:
        shown = f"{MATRIX!r} alone, of shape {[-1, *signature.input_shape]}, or one input per feature: {shown}"
    faults, seen = [], set()
    for tensor in tensors:
        if tensor.name not in names:
            faults.append(Fault(pointer("inputs", tensor.place, "name"), shown, describe(tensor.name)))
        elif tensor.name in seen:
            faults.append(Fault(pointer("inputs", tensor.place, "name"), "each input once", describe(tensor.name)))
        seen.add(tensor.name)
    missing = [name for name in names if name not in seen]
    if missing and not faults:
        faults.append(Fault("#/inputs", shown, f"no {', '.join(map(repr, missing[:10]))}"))
    return faults


def _kind_faults(tensor: GivenTensor, spec: TensorSpec, max_rows: int) -> list[Fault]:
    faults = []
    if tensor.datatype not in spec.datatypes:
        place = pointer("inputs", tensor.place, "datatype")
        faults.append(Fault(place, f"one of {', '.join(spec.datatypes)} for {spec.name!r}", tensor.datatype))
    # The last axis may be left out where it has one value.
    shapes = [spec.shape, spec.shape[:-1]] if spec.shape[-1] == 1 else [spec.shape]
    if tensor.shape[1:] not in shapes or not tensor.shape:
        place = pointer("inputs", tensor.place, "shape")
        expected = " or ".join(str([-1, *shape]) for shape in shapes)
        faults.append(Fault(place, f"{expected} for {spec.name!r}", str(list(tensor.shape))))
    elif not 1 <= tensor.shape[0] <= max_rows:
        place = pointer("inputs", tensor.place, "shape")
        faults.append(Fault(place, f"from 1 to {max_rows} rows", f"{tensor.shape[0]} rows"))
    return faults


def _decoded(tensors: Sequence[GivenTensor]) -> list[NDArray[Any]]:
    arrays, faults = [], []
    for tensor in tensors:
        try:
            arrays.append(tensor.values())
        except DoesNotFit as error:
            faults.append(Fault(pointer("inputs", tensor.place, error.place), error.expected, error.received))
    if faults:
        raise InvalidRequest(faults)
    return arrays


def _json_values(array: NDArray[Any]) -> list[Any]:
    values = array.reshape(-1).tolist()
    if array.dtype.kind == "f":
        return [None if value != value else value for value in values]
    return values


async def decoded(arranged: NDArray[Any] | list[Any], signature: Signature) -> ModelInput:
    """What `arrange` gave as a version takes it.

    Raises:
        InvalidRows: with one fault for each value that does not fit, by its row and input.
    """
    try:
        if isinstance(arranged, list):
            return await decode_in_turns(arranged, signature)
        return check_array(arranged, signature)
    except InvalidRows as error:
        raise InvalidRows([by_row(fault, signature) for fault in error.faults]) from None


def by_row(fault: Fault, signature: Signature) -> Fault:
    """A fault of a row of JSON, said of tensors."""
    _, *parts = fault.pointer.split("/")
    if len(parts) < 2:
        return fault
    _, row, *rest = parts
    feature = signature.features[int(rest[0])] if signature.kind == "columns" and rest else signature.features[0]
    place = f"[{', '.join(rest)}] of " if signature.kind in ("image", "series") and rest else ""
    return Fault(f"row {row}, {place}{feature.name!r}", fault.expected, fault.received, fault.detail)


def as_json_rows(arranged: NDArray[Any] | list[Any]) -> list[Any]:
    """What `arrange` gave as the rows of a request of our own."""
    if isinstance(arranged, list):
        return arranged
    rows = arranged.astype(np.float64)
    if np.isnan(rows).any():
        with_nulls = rows.astype(object)
        with_nulls[np.isnan(rows)] = None
        return with_nulls.tolist()
    return rows.tolist()

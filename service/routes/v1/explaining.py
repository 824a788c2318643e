"""`:explain`: KServe's request and answer, and Vertex's where it is asked for."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.errors import describe
from models.outputs import network_columns
from models.signature import Signature
from service.bodies import parse_body
from service.routes.v1.errors import MalformedRequest
from service.routes.v1.reading import INPUTS, INSTANCES, Rows
from service.schemas import ExplainOptions, ExplainRequest
from service.serving.explainer import Explained
from service.serving.served_model import ServedModel
from service.serving.vertex import vertex_explanations

PARAMETERS = "parameters"
OPTIONS = tuple(ExplainOptions.model_fields)
"""Options of `POST /explain`, which `:explain` takes too: beside the rows, or in `parameters`, where Vertex's client
puts them."""
KEYS = (INSTANCES, INPUTS, PARAMETERS, *OPTIONS)


def request_of(document: dict[str, Any], rows: Rows, served: ServedModel) -> ExplainRequest:
    """The request to `POST /explain` that a V1 document stands for.

    Raises:
        MalformedRequest: for parameters that are no object, unknown, or said twice.
        InvalidRequest: for options that cannot be used.
    """
    options = {name: value for name, value in document.items() if name in OPTIONS}
    parameters = document.get(PARAMETERS)
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, dict):
        raise MalformedRequest(f"Expecting 'parameters' to be an object, received {describe(parameters)}")
    for name, value in parameters.items():
        if name not in OPTIONS:
            raise MalformedRequest(f"Unexpected key '{name[:40]}' in 'parameters'. Known: {', '.join(OPTIONS)}")
        if name in options:
            raise MalformedRequest(f"'{name}' is said twice: in 'parameters' and beside it")
        options[name] = value
    record = served.record
    return parse_body(
        {"model": record.model, "version": record.version, "inputs": rows.values, **options}, ExplainRequest
    )


def explanation_answer(explained: Explained, asked: ExplainRequest) -> dict[str, Any]:
    """Raw outputs as `:predict` gives them, and explanations: ours, or Vertex's."""
    document, signature = explained.document, explained.served.signature
    predictions = raw_predictions(document["explanations"], signature)
    if asked.format == "vertex":
        return vertex_explanations(explained, predictions)
    return {"predictions": predictions, **document}


def raw_predictions(explanations: list[dict[str, Any]], signature: Signature) -> np.ndarray:
    """The network's own outputs, `(n_rows, n_network_outputs)`, from predictions as `POST /explain` words them."""
    worded = [each["prediction"] for each in explanations]
    rows = [list(each["probabilities"].values()) if signature.labels else [each["value"]] for each in worded]
    return np.ascontiguousarray(network_columns(np.asarray(rows, np.float32), signature))

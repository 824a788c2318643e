"""What is kept of a prediction: the request as it was sent, the version that answered, and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from models.artifact import read_signature
from models.errors import UnknownModel, UnknownVersion
from models.registry import Registry
from models.rows import ModelInput
from models.signature import Signature
from service.errors import InputsNotKept, InputsRedacted
from service.identifiers import created_at
from service.records.keeping import Keeping, redacted_rows


class PredictionNote(NamedTuple):
    """An answered request, as it waits to be recorded: nothing but references.

    Attributes:
        sent: the body, JSON with `inputs`; or the rows `(n_rows, *input_shape)` of a request in another form, which
            only versions of numbers take.
        answer: the body of the answer.
    """

    id: str
    model: str
    version: int
    sent: bytes | ModelInput
    answer: bytes


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """One request's predictions. When they were made is in the id.

    Attributes:
        request: JSON with `inputs`: the body as it was sent, or what redaction left of it; None where no inputs are
            kept.
        redacted: JSON; the names of features of the version whose values were left out.
        answer: JSON; the answer, byte for byte.
    """

    id: str
    model: str
    version: int
    request: str | None
    redacted: str
    answer: str

    def inputs(self, purpose: str) -> list[Any]:
        """The rows as they were sent. Raises `InputsNotKept`, `InputsRedacted`."""
        name = f"Prediction {self.id!r}"
        if redacted := orjson.loads(self.redacted):
            raise InputsRedacted(name, purpose, redacted)
        if self.request is None:
            raise InputsNotKept(name, purpose)
        return orjson.loads(self.request)["inputs"]

    @property
    def document(self) -> dict[str, Any]:
        """What `GET /predictions/{id}` answers: the answer, and what it was made from as far as that is kept."""
        answer = orjson.loads(self.answer)
        return {
            "id": self.id,
            "created_at": created_at(self.id),
            "model": self.model,
            "version": self.version,
            "inputs": None if self.request is None else orjson.loads(self.request)["inputs"],
            "redacted": orjson.loads(self.redacted),
            "predictions": answer["predictions"],
        }


class NoteEncoder:
    """Makes records of notes: what is redacted is left out before anything is stored."""

    def __init__(self, keeping: Keeping, registry: Registry) -> None:
        self._keeping, self._registry = keeping, registry
        self._signatures: dict[tuple[str, int], Signature] = {}

    def records(self, notes: Sequence[PredictionNote]) -> list[PredictionRecord]:
        """The records of some notes. Raises what the registry does where it cannot be read."""
        return [self._record(note) for note in notes]

    def _record(self, note: PredictionNote) -> PredictionRecord:
        request, redacted = self._kept(note)
        return PredictionRecord(
            id=note.id,
            model=note.model,
            version=note.version,
            request=request,
            redacted=orjson.dumps(redacted).decode(),
            answer=note.answer.decode(),
        )

    def _kept(self, note: PredictionNote) -> tuple[str | None, Sequence[str]]:
        """What is kept of the request, and the features of the version that are missing there."""
        if not self._keeping.inputs:
            return None, ()
        sent = note.sent
        if not isinstance(sent, bytes):
            sent = orjson.dumps({"inputs": np.ascontiguousarray(sent)}, option=orjson.OPT_SERIALIZE_NUMPY)
        if not self._keeping.redacted:
            return sent.decode(), ()
        try:
            signature = self._signature(note.model, note.version)
        except (UnknownModel, UnknownVersion, FileNotFoundError):
            # Deleted since it answered: which values are whose is not known any more.
            return None, ()
        rows = redacted_rows(sent, self._keeping, signature)
        return None if rows is None else orjson.dumps({"inputs": rows}).decode(), self._keeping.hidden(signature)

    def _signature(self, model: str, version: int) -> Signature:
        known = self._signatures.get((model, version))
        if known is None:
            record = self._registry.model(model).resolve(str(version))
            known = self._signatures[model, version] = read_signature(Path(record.directory))
        return known

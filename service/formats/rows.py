"""Rows that came in another form than JSON: read once their version, and so their signature, is known."""

from __future__ import annotations

from typing import Any, Protocol

from numpy.typing import NDArray

from models.errors import Fault, InvalidRows
from models.signature import Signature


class EncodedRows(Protocol):
    """Rows of a body whose form is sound; `len` counts them."""

    def __len__(self) -> int: ...

    def read_as(self, signature: Signature) -> list[Any] | NDArray[Any]:
        """Rows as JSON would have them, or one array `(n_rows, *input_shape)` of numbers.

        Raises:
            InvalidRows: where the form cannot hold what the signature wants.
        """
        ...


def unusable(expected: str, received: str, place: str = "#/inputs", detail: str = "") -> InvalidRows:
    return InvalidRows([Fault(place, expected, received, detail)])

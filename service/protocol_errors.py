"""How errors are worded: as problem documents, and under the paths of other protocols in their own form."""

from __future__ import annotations

from typing import Any

import orjson

CONTENT_TYPE = "application/problem+json"
V2 = "/v2"
SHOWN_FAULTS = 10
_V2_STATUSES = frozenset({400, 404, 405, 408, 413, 415, 429, 499, 500, 501, 503, 504})
"""What V2 servers answer; of what is said here by others, those below 500 are 400 there, and the rest 500."""


def worded(path: str, document: dict[str, Any]) -> tuple[int, bytes, str]:
    """Status, body and content type of the answer to an error that was met under a path.

    Args:
        document: it as a problem document.
    """
    status = document["status"]
    if path != V2 and not path.startswith(V2 + "/"):
        return status, orjson.dumps(document), CONTENT_TYPE
    if status not in _V2_STATUSES:
        status = 400 if status < 500 else 500
    return status, orjson.dumps({"error": in_one_line(document)}), "application/json"


def in_one_line(document: dict[str, Any]) -> str:
    """A problem document as the one string that other protocols have room for, its faults named."""
    faults = document.get("errors", ())
    if not faults:
        return document["detail"]
    words = [
        f"{fault['pointer']}: expected {fault['expected']}, received {fault['received']}"
        + (f" ({fault['detail']})" if "detail" in fault else "")
        for fault in faults[:SHOWN_FAULTS]
    ]
    if (more := document["error_count"] - len(words)) > 0:
        words.append(f"and {more} more")
    return f"{document['title']}: {'; '.join(words)}"

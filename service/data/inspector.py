"""The inspector: a process for one look at one file, since strangers' files can be large, slow, or bombs."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import orjson

from models.errors import InvalidSpec, UnreadableData
from models.sources.folder import DataFolder
from models.sources.inspecting import report_for_target
from models.spec.data import DatasetSpec
from service.processes import hold_lifeline
from service.settings import read_settings


def main() -> None:
    """`python -m service.data.inspector ORDER RESULT_FD`: inspects, and says to the pipe what was found."""
    hold_lifeline()
    os.nice(10)  # predictions go first
    order, descriptor = json.loads(sys.argv[1]), int(sys.argv[2])
    settings = read_settings(os.environ)
    folder = DataFolder(settings.data_directory, settings.dataset_expanded_limit_bytes)
    result = inspect(folder, order)
    with os.fdopen(descriptor, "wb") as pipe:
        pipe.write(orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY))


def inspect(folder: DataFolder, order: dict[str, Any]) -> dict[str, Any]:
    """Does what an order asks for: {"file": path} of an upload or {"dataset": {...}}, with "target" for a report."""
    try:
        if "file" in order:
            path = Path(order["file"])
            profile = folder.inspect(path)
        else:
            dataset = DatasetSpec(**order["dataset"])
            path, profile = folder.path_of(dataset), folder.profile(dataset)
        if order["target"] is None:
            return {}
        limit = folder.expanded_limit_bytes
        return {"report": report_for_target(path, profile, order["target"], expanded_limit_bytes=limit)}
    except (UnreadableData, InvalidSpec) as error:
        kind = "spec" if isinstance(error, InvalidSpec) else "data"
        faults = [[fault.pointer, fault.expected, fault.received, fault.detail] for fault in error.faults]
        return {"refused": kind, "faults": faults}
    except MemoryError:
        return {"refused": "memory"}


if __name__ == "__main__":
    main()

"""Loads a user's model in a process of its own, of bounded time and memory, and saves it as a version holds it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.errors import ModelDoesNotFit, UnsafeModelFile
from models.importing.keras_file import check_keras_file, check_weights
from models.lean_keras import import_keras
from models.memory import available_bytes
from models.public import without_folders
from models.rows import ModelInput
from models.signature import Signature

LIMIT_SECONDS = 300.0
_ROWS = 1024


@dataclass(frozen=True, slots=True)
class ImportedModel:
    """`path` is a `.keras` file with the layers `logit` and `output`; `notes` are for a person to read."""

    path: Path
    notes: tuple[str, ...]


def import_model(
    source: Path,
    signature: Signature,
    outputs: str,
    rows: ModelInput,
    folder: Path,
    *,
    limit_seconds: float = LIMIT_SECONDS,
) -> ImportedModel:
    """Checks a `.keras` file and makes it fit a signature; nothing of it is run in this process.

    Args:
        outputs: "probabilities" or "logits": what it gives for a classification.
        rows: rows of the signature's shape, on which its outputs are checked.
        folder: where the result and what leads to it are written; the caller removes it.

    Raises:
        UnsafeModelFile: when it is not loaded, or takes more time or memory than there is for it.
        ModelDoesNotFit: when it does not take or give what the signature says.
    """
    check_keras_file(source)
    order, result, target = folder / "order.json", folder / "result.json", folder / "imported.keras"
    np.save(folder / "rows.npy", rows[:_ROWS])
    order.write_text(json.dumps({"signature": signature.to_json(), "outputs": outputs}))
    try:
        with tempfile.TemporaryFile() as said:
            child = subprocess.run(
                [sys.executable, "-m", "models.importing.process", str(source), str(folder)],
                timeout=limit_seconds,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"},
                check=False,
            )
    except subprocess.TimeoutExpired:
        raise UnsafeModelFile(
            f"it was not loaded and run on {len(rows[:_ROWS])} rows within {limit_seconds:g} s", "Send a smaller model."
        ) from None
    if not result.exists():
        code = child.returncode
        how = f"was ended by signal {-code}" if code < 0 else f"ended with status {code}"
        raise UnsafeModelFile(f"the process that loaded it {how} (out of memory?)", "Send a smaller model.")
    document = json.loads(result.read_text())
    match document.get("error"):
        case None:
            return ImportedModel(target, tuple(document["notes"]))
        case {"fault": fault, "cure": cure}:
            raise UnsafeModelFile(fault, cure)
        case {"expected": expected, "received": received, "cure": cure}:
            raise ModelDoesNotFit(expected, received, cure)
        case other:
            raise ValueError(f"The process that loads models answered what it never does: {other}")


def main() -> None:
    """`python -m models.importing.process FILE FOLDER`: what `import_model` asks of a process of its own."""
    source, folder = Path(sys.argv[1]), Path(sys.argv[2])
    if (free := available_bytes()) is not None:
        # An allocation beyond it fails here, and is told; without a bound the system would end another process.
        resource.setrlimit(resource.RLIMIT_DATA, (free, free))
    order = json.loads((folder / "order.json").read_text())
    try:
        check_weights(source)
        document = {"notes": _make_fit(source, folder, Signature.from_json(order["signature"]), order["outputs"])}
    except UnsafeModelFile as error:
        document = {"error": {"fault": error.fault, "cure": error.cure}}
    except ModelDoesNotFit as error:
        document = {"error": {"expected": error.expected, "received": error.received, "cure": error.cure}}
    aside = folder / "result.writing"
    aside.write_text(json.dumps(document))
    aside.rename(folder / "result.json")


def _make_fit(source: Path, folder: Path, signature: Signature, outputs: str) -> list[str]:
    import_keras()
    import keras

    from models.importing.wiring import wire

    try:
        model = keras.saving.load_model(source, compile=False, safe_mode=True)
    except Exception as error:
        # Keras raises what it likes for a file that does not hold together. Whatever it was, it is not imported.
        lines = [line.strip() for line in without_folders(str(error)).splitlines() if line.strip()]
        said = f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
        cure = (
            "Build it from Keras's own layers and functions, save it with model.save, and try keras.saving.load_model."
        )
        raise UnsafeModelFile(f"Keras does not load it ({said})", cure) from error
    fitting, notes = wire(model, signature, outputs, np.load(folder / "rows.npy", allow_pickle=False))  # type: ignore[arg-type]
    fitting.save(folder / "imported.keras")
    return notes


if __name__ == "__main__":
    main()

"""A version as a directory: written aside, hashed, renamed into place, verified before it is loaded."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.errors import CorruptVersion, DiskFull
from models.rows import ModelInput
from models.signature import Signature

if TYPE_CHECKING:
    from models.registry import VersionRecord

MANIFEST = "manifest.json"
KERAS, ONNX, SIGNATURE, BACKGROUND, CARD = "model.keras", "model.onnx", "signature.json", "background.npz", "card.json"
GRADIENT = "gradient-{output}.onnx"
"""The graph of the gradient of an output, by the signature's name for it."""
_REQUIRED = (KERAS, SIGNATURE, BACKGROUND, CARD)


@dataclass(frozen=True)
class Artifact:
    """The files of one version. Built only by `open_artifact`, so its hashes have been checked."""

    directory: Path
    hashes: dict[str, str]

    @cached_property
    def signature(self) -> Signature:
        return read_signature(self.directory)

    @cached_property
    def card(self) -> dict[str, Any]:
        return orjson.loads((self.directory / CARD).read_bytes())

    @cached_property
    def background(self) -> tuple[ModelInput, NDArray[np.float64]]:
        """Reference rows `(n_background, *input_shape)` and their weights `(n_background,)`, which sum to 1."""
        with np.load(self.directory / BACKGROUND, allow_pickle=False) as arrays:
            if self.signature.kind in ("image", "series"):
                rows = arrays[self.signature.feature_names[0]]
            else:
                rows = np.column_stack([arrays[name] for name in self.signature.feature_names])
            return np.ascontiguousarray(rows, dtype=np.float32), arrays["weights"].astype(np.float64)

    @property
    def onnx_path(self) -> Path | None:
        """The ONNX file, when the export agreed with Keras."""
        return self.directory / ONNX if ONNX in self.hashes else None

    def gradient_path(self, output: str) -> Path | None:
        """The graph of an output's gradient, when the network can be differentiated and it agreed with Keras."""
        name = GRADIENT.format(output=output)
        return self.directory / name if name in self.hashes else None

    def load_keras(self) -> Any:
        """The Keras model, loaded with `safe_mode`: no Lambda layer, no code from the file."""
        import keras

        model: Any = keras.saving.load_model(self.directory / KERAS, compile=False, safe_mode=True)
        # Operations are named by how many of their kind a process has made: those of the file would have the names of
        # those that this process goes on to make, and a network that holds both would be refused.
        for operation in getattr(model, "operations", ()):
            if not isinstance(operation, keras.layers.Layer):
                operation.name = f"stored_{operation.name}"
        return model


@contextmanager
def writing(directory: Path, *, fence: Callable[[], None] = lambda: None, expected_bytes: int = 0) -> Iterator[Path]:
    """A folder to write a version into; on leaving, it is hashed, made durable and renamed to `directory`.

    When the block raises, nothing is left behind. The first attempt of a job to put its version in place wins: a
    whole version that is there already stays, since it may be registered, and this one is thrown away.

    Args:
        fence: called before the rename; raises when this attempt has been overtaken by another.
        expected_bytes: about what the version will take, for the words when the disk is full.

    Raises:
        DiskFull: when the disk has no room for it.
    """
    for leftover in directory.parent.glob(f".{directory.name}.*.writing"):
        shutil.rmtree(leftover, ignore_errors=True)
    aside = directory.with_name(f".{directory.name}.{secrets.token_hex(4)}.writing")
    try:
        aside.mkdir(parents=True)
        yield aside
        hashes = {path.name: _sha256(path) for path in sorted(aside.iterdir())}
        (aside / MANIFEST).write_bytes(orjson.dumps({"sha256": hashes}, option=orjson.OPT_INDENT_2))
        for path in [*aside.iterdir(), aside]:
            _make_durable(path)
        fence()
        _put_in_place(aside, directory)
        _make_durable(directory.parent)
    except Exception as error:
        if not _is_full_disk(error):
            raise
        shutil.rmtree(aside, ignore_errors=True)
        raise DiskFull(str(directory), expected_bytes, _free_bytes(directory)) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _put_in_place(aside: Path, directory: Path) -> None:
    try:
        aside.rename(directory)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        try:
            open_artifact(directory)
        except CorruptVersion:
            shutil.rmtree(directory, ignore_errors=True)
            aside.rename(directory)


def _is_full_disk(error: BaseException | None) -> bool:
    """Whether an error is, or was raised because of, a full disk or a quota used up."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


def _free_bytes(directory: Path) -> int:
    return shutil.disk_usage(next(parent for parent in directory.parents if parent.exists())).free


def write_background(directory: Path, signature: Signature, rows: ModelInput, weights: NDArray[np.float64]) -> None:
    """Writes `background.npz`: an array per feature, encoded as the network takes it, and `weights`."""
    if signature.kind in ("image", "series"):
        arrays = {signature.feature_names[0]: rows}
    else:
        # A column of its own, but for the words of a text.
        arrays = {
            feature.name: rows[:, place] if feature.kind == "text" else rows[:, place.start]
            for feature, place in zip(signature.features, signature.places, strict=True)
        }
    np.savez(directory / BACKGROUND, allow_pickle=False, weights=weights, **arrays)


def write_json(path: Path, document: Any) -> None:
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))


def open_version(record: VersionRecord) -> Artifact:
    """As `open_artifact`, of a version that the registry holds."""
    return open_artifact(Path(record.directory), f"Version {record.version} of {record.model!r}")


def open_artifact(directory: Path, version: str = "The version") -> Artifact:
    """Checks every file of a version against its hash.

    Args:
        version: what it is called in words.

    Raises:
        CorruptVersion: naming the file that is missing, changed or not in the manifest.
    """

    def corrupt(file: str, fault: str) -> CorruptVersion:
        return CorruptVersion(str(directory), file, fault, version)

    try:
        hashes: dict[str, str] = orjson.loads((directory / MANIFEST).read_bytes())["sha256"]
    except FileNotFoundError:
        raise corrupt(MANIFEST, "is missing") from None
    except OSError as error:
        raise corrupt(MANIFEST, f"cannot be read ({error.strerror})") from None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise corrupt(MANIFEST, "is not a manifest") from None
    if not isinstance(hashes, dict) or not all(isinstance(each, str) for each in hashes.values()):
        raise corrupt(MANIFEST, "is not a manifest")
    for name in _REQUIRED:
        if name not in hashes:
            raise corrupt(name, "is not in the manifest")
    for name, expected in hashes.items():
        path = directory / name
        if not path.is_file():
            raise corrupt(name, "is missing")
        try:
            found = _sha256(path)
        except OSError as error:
            raise corrupt(name, f"cannot be read ({error.strerror})") from None
        if found != expected:
            raise corrupt(name, f"has changed (expected SHA-256 {expected[:12]}...)")
    return Artifact(directory, hashes)


def read_signature(directory: Path) -> Signature:
    """The signature of a version, without a look at its other files."""
    return Signature.from_json(orjson.loads((directory / SIGNATURE).read_bytes()))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

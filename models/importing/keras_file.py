"""Whether a `.keras` file may be loaded: decided from its bytes, before Keras sees it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

import orjson

from models.errors import UnsafeModelFile

MAX_CONFIG_BYTES = 16 * 2**20
MAX_INFLATED_BYTES = 4 * 2**30
MAX_RATIO = 200
"""Of inflated to packed bytes: weights hardly pack at all, a bomb does."""
MAX_ENTRIES = 1000

_WEIGHTS = "model.weights.h5"
_ENTRIES = ("config.json", "metadata.json", _WEIGHTS)
_CODE = ("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
"""Classes that hold code, or fetch it from elsewhere."""
_MODULES = tuple(
    f"{root}.{module}"
    for root in ("keras", "keras.src")
    for module in (
        *("activations", "constraints", "dtype_policies", "initializers", "layers", "models", "ops", "quantizers"),
        *("random", "regularizers", "backend"),
    )
)
_RESAVE = "Save it anew with model.save('model.keras') in Keras 3, and send that."
_NO_CODE = "Build it from Keras's own layers and functions (keras.layers, keras.ops), and save it again."


def stored_file(imports: Path, sha256: str) -> Path:
    """Where the `.keras` file with this digest is kept."""
    return imports / f"{sha256}.keras"


def check_keras_file(path: Path) -> dict[str, Any]:
    """Checks that a file is what `model.save` writes, of bounded size and without code; returns its `config.json`.

    Raises:
        UnsafeModelFile: naming what is wrong, and the cure.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_entries(entries)
            config = _read_config(archive)
            if (damaged := archive.testzip()) is not None:
                raise UnsafeModelFile(f"its entry {damaged} is damaged", _RESAVE)
    except FileNotFoundError:
        raise UnsafeModelFile("it is not stored any more", "Send it again.") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise UnsafeModelFile(f"it is no whole .keras file (a ZIP archive): {error}", _RESAVE) from None
    check_config(config)
    return config


def _check_entries(entries: list[zipfile.ZipInfo]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise UnsafeModelFile(f"it has {len(entries):,} entries, and at most {MAX_ENTRIES:,} are taken", _RESAVE)
    for entry in entries:
        place = PurePosixPath(entry.filename)
        is_asset = place.parts[:1] == ("assets",)
        if place.is_absolute() or ".." in place.parts or not (entry.filename in _ENTRIES or is_asset):
            raise UnsafeModelFile(f"it holds {entry.filename!r}, which no .keras file does", _RESAVE)
    for name in _ENTRIES:
        if sum(entry.filename == name for entry in entries) != 1:
            raise UnsafeModelFile(f"it does not hold {name} once", _RESAVE)
    inflated, packed = (sum(getattr(entry, size) for entry in entries) for size in ("file_size", "compress_size"))
    if inflated > MAX_INFLATED_BYTES or inflated > MAX_RATIO * max(packed, 1) + MAX_CONFIG_BYTES:
        raise UnsafeModelFile(
            f"it unpacks from {packed:,} to {inflated:,} bytes",
            f"Expected at most {MAX_INFLATED_BYTES:,} bytes, and no more than {MAX_RATIO} times what is packed.",
        )


def _read_config(archive: zipfile.ZipFile) -> dict[str, Any]:
    # No size that an archive states is believed.
    with archive.open("config.json") as file:
        text = file.read(MAX_CONFIG_BYTES + 1)
    if len(text) > MAX_CONFIG_BYTES:
        raise UnsafeModelFile(f"its config.json has more than {MAX_CONFIG_BYTES:,} bytes", "Expected a smaller model.")
    try:
        config = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise UnsafeModelFile(f"its config.json is not JSON: {error.msg}", _RESAVE) from None
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        raise UnsafeModelFile("its config.json describes no model", _RESAVE)
    return config


def check_config(config: dict[str, Any]) -> None:
    """Refuses code: Lambda layers, classes and functions that are not Keras's own. What it was compiled with is not
    loaded, and not looked at."""
    for part in _parts({name: value for name, value in config.items() if name != "compile_config"}):
        kind, module = part["class_name"], part.get("module")
        settings = part.get("config")
        name = settings.get("name") if isinstance(settings, dict) else None
        called = f"{kind} layer {name!r}" if isinstance(name, str) else f"a {kind}"
        if kind in _CODE:
            raise UnsafeModelFile(f"{called} holds code, or fetches it from elsewhere", _NO_CODE)
        registered = part.get("registered_name")
        if isinstance(registered, str) and ">" in registered:
            raise UnsafeModelFile(f"{called} is a class of your own ({registered})", _NO_CODE)
        if not _is_keras(module, kind):
            raise UnsafeModelFile(f"{called} comes from {module}, which is not Keras's", _NO_CODE)


def _is_keras(module: Any, kind: str) -> bool:
    if module in (None, "keras"):
        return True
    # So Keras writes a function of its own that it found no shorter name for.
    if module == "builtins":
        return kind == "function"
    return any(module == allowed or str(module).startswith(f"{allowed}.") for allowed in _MODULES)


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object of a configuration that names a class, however deep."""
    waiting = [value]
    while waiting:
        held = waiting.pop()
        if isinstance(held, dict):
            if isinstance(held.get("class_name"), str):
                yield held
            waiting.extend(held.values())
        elif isinstance(held, list):
            waiting.extend(held)


def check_weights(path: Path) -> None:
    """Checks the HDF5 file inside a `.keras` file: no links to other files, nothing that unpacks without bounds.

    Raises:
        UnsafeModelFile: naming the entry.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_WEIGHTS) as file:
            _check_hdf5(file)
    except (zipfile.BadZipFile, OSError, EOFError, KeyError, RuntimeError, ValueError) as error:
        raise UnsafeModelFile(f"its weights cannot be read: {error}", _RESAVE) from None


def _check_hdf5(file: IO[bytes]) -> None:
    import h5py

    inflated = 0
    with h5py.File(file, "r") as weights:
        waiting: list[Any] = [weights]
        while waiting:
            group = waiting.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise UnsafeModelFile(f"its weights link {group.name}/{name} elsewhere", _RESAVE)
                held = group[name]
                if isinstance(held, h5py.Group):
                    waiting.append(held)
                    continue
                if held.external or held.is_virtual:
                    raise UnsafeModelFile(f"its weights {held.name} are in another file", _RESAVE)
                inflated += held.nbytes
                if inflated > MAX_INFLATED_BYTES:
                    raise UnsafeModelFile(
                        f"its weights unpack to more than {MAX_INFLATED_BYTES:,} bytes", "Expected a smaller model."
                    )

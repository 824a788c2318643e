"""The data folder of a home: uploaded files under the SHA-256 of their content, and files that people put there."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import orjson

from models.builtins import facts_of_builtin
from models.errors import Fault, InvalidSpec, UnknownDataset, UnreadableData
from models.facts import DataFacts
from models.rows import describe
from models.sources.limits import EXPANDED_LIMIT_BYTES

if TYPE_CHECKING:
    from models.raw import RawData
    from models.signature import FeatureKind
    from models.sources.profile import Profile
    from models.spec import TrainingSpec
    from models.spec.data import DatasetSpec

UPLOADS, PROFILES = "uploads", ".profiles"
CONTENT, PROFILE, ABOUT = "content", "profile.json", "about.json"
_ID = re.compile(r"[0-9a-f]{64}")
_FORM = 1
"""Of stored profiles: one that another version of this code has written is made anew."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An upload: its id is the SHA-256 of its content, its name what it was called when it first came."""

    id: str
    name: str
    bytes: int
    created_at: str


@dataclass(frozen=True, slots=True)
class DataFolder:
    """Files are found by id or by path; nothing outside the folder is ever read for a request.

    Importing this loads no library that reads files: an API process lists and finds without them.
    """

    root: Path
    expanded_limit_bytes: int = EXPANDED_LIMIT_BYTES

    @property
    def uploads(self) -> Path:
        return self.root / UPLOADS

    def stored(self) -> list[Stored]:
        """Every upload, newest first."""
        if not self.uploads.is_dir():
            return []
        found = [self._about(path.name) for path in self.uploads.iterdir() if _ID.fullmatch(path.name)]
        return sorted((one for one in found if one), key=lambda one: (one.created_at, one.id), reverse=True)

    def find(self, id_: str) -> Stored:
        """One upload. Raises `UnknownDataset`."""
        stored = self._about(id_) if _ID.fullmatch(id_) else None
        if stored is None:
            raise UnknownDataset(id_, [one.id for one in self.stored()])
        return stored

    def _about(self, id_: str) -> Stored | None:
        try:
            return Stored(**orjson.loads((self.uploads / id_ / ABOUT).read_bytes()))
        except FileNotFoundError:
            return None

    def path_of(self, dataset: DatasetSpec) -> Path:
        """The file that a specification names by id or path.

        Raises:
            InvalidSpec: when there is none, or its path leads out of the folder.
        """
        if dataset.id is not None:
            try:
                return self.uploads / self.find(dataset.id).id / CONTENT
            except UnknownDataset as unknown:
                raise InvalidSpec(
                    [Fault("#/dataset/id", "the id of an uploaded data set", describe(dataset.id), str(unknown))]
                ) from None
        assert dataset.path is not None  # one of the three is there
        return self._inside(dataset.path)

    def _inside(self, path: str) -> Path:
        """A file that people have put into the folder, by its path there."""

        def refuse(detail: str) -> InvalidSpec:
            expected = "a file, or a folder of images in class folders, in the data folder, by its path there"
            return InvalidSpec([Fault("#/dataset/path", expected, describe(path), detail)])

        parts = PurePosixPath(path).parts
        if not path or "\0" in path or path.startswith("/") or ".." in parts:
            raise refuse("the path must not lead out of the folder")
        if parts and (parts[0] in (UPLOADS, PROFILES) or any(part.startswith(".") for part in parts)):
            raise refuse("uploads are named by their id" if parts[0] == UPLOADS else "hidden files are not read")
        try:
            found = (self.root / path).resolve(strict=True)
        except (OSError, RuntimeError):
            raise refuse(f"no such file; put it under {self.root.name}/ in the home of the server") from None
        root = self.root.resolve()
        if not found.is_relative_to(root):
            raise refuse("the link leads out of the folder")
        if found == root or found.is_relative_to(root / UPLOADS):
            raise refuse("name a folder in it; uploads are named by their id")
        if not (found.is_file() or found.is_dir()):
            raise refuse("this is no file")
        return found

    def known_profile(self, dataset: DatasetSpec) -> Profile | None:
        """The profile of a file that has been inspected, and has not changed since. Raises as `path_of`."""
        from models.sources.profile import Profile

        path = self.path_of(dataset)
        try:
            document = orjson.loads(self._profile_path(path).read_bytes())
        except (FileNotFoundError, orjson.JSONDecodeError):
            return None
        if document["form"] != _FORM or document["state"] != self._state_at(dataset, path):
            return None
        return Profile.from_json(document["profile"])

    def profile(self, dataset: DatasetSpec) -> Profile:
        """The profile of a file, which is read where it is not known yet.

        Raises:
            InvalidSpec: when there is no such file, or it holds no data set.
        """
        known = self.known_profile(dataset)
        if known is not None:
            return known
        path = self.path_of(dataset)
        with _said_of(dataset):
            return self.inspect(path)

    def _state_at(self, dataset: DatasetSpec, path: Path) -> list[int | str]:
        with _said_of(dataset):
            return _state_of(path)

    def inspect(self, path: Path) -> Profile:
        """Reads a file and stores its profile. Raises `UnreadableData`."""
        from models.sources.reading import profile_file

        state = _state_of(path)
        profile = profile_file(path, expanded_limit_bytes=self.expanded_limit_bytes)
        document = {"form": _FORM, "state": state, "profile": profile.to_json()}
        target = self._profile_path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        aside.write_bytes(orjson.dumps(document))
        aside.rename(target)
        return profile

    def _profile_path(self, path: Path) -> Path:
        if path.name == CONTENT and path.parent.parent.name == UPLOADS:
            return path.with_name(PROFILE)
        name = hashlib.sha256(str(path.relative_to(self.root.resolve())).encode()).hexdigest()
        return self.root / PROFILES / f"{name}.json"

    def facts_of(self, spec: TrainingSpec) -> DataFacts:
        """The facts of the data that a specification names: built-in, uploaded or in the folder.

        Raises:
            InvalidSpec: when there is no such data, or it does not fit what the specification says of it.
        """
        if spec.dataset.builtin is not None:
            return facts_of_builtin(spec.dataset.builtin)
        from models.sources.facts import facts_of

        profile = self.profile(spec.dataset)
        facts = facts_of(profile, target=spec.target, features=spec.features, task=spec.task)
        self._check_size(profile, spec.preprocessing.image.resize)
        return facts

    def _check_size(self, profile: Profile, resize: tuple[int, int] | None) -> None:
        """Refuses a size at which images of several sizes would not fit into memory."""
        if resize is None or not profile.has_several_sizes:
            return
        (channels,) = (column.shape[-1] for column in profile.columns if column.shape)
        needed = 4 * profile.rows * resize[0] * resize[1] * channels
        if needed > self.expanded_limit_bytes:
            expected = f"a size at which {profile.rows:,} images take at most {self.expanded_limit_bytes:,} bytes"
            cure = "state a smaller one, or raise VITRINE_DATASET_EXPANDED_LIMIT_BYTES"
            raise InvalidSpec([Fault("#/preprocessing/image/resize", expected, f"{needed:,} bytes", cure)])

    def read(self, spec: TrainingSpec) -> tuple[RawData, DataFacts]:
        """The columns that a filled-in specification needs, its target last, and their facts. Raises as `facts_of`."""
        from models.sources.reading import Reading, read_raw

        facts = self.facts_of(spec).with_features(spec.features)
        profile = self.profile(spec.dataset)
        kinds: dict[str, FeatureKind] = dict(facts.kinds)
        for name in facts.ignored:
            if (kind := profile.column(name).kind) is not None:
                kinds[name] = kind
        size = spec.preprocessing.image.resize
        reading = Reading(kinds, facts.target, facts.task == "classification", image_size=size)
        limit = self.expanded_limit_bytes
        return read_raw(self.path_of(spec.dataset), profile, reading, expanded_limit_bytes=limit), facts

    def new_upload(self) -> Path:
        """A folder to write an upload into; `keep` puts it in place."""
        aside = self.uploads / f".{secrets.token_hex(8)}.writing"
        aside.mkdir(parents=True)
        return aside

    def keep(self, aside: Path, stored: Stored) -> bool:
        """Puts a whole upload in place under its id. Returns False, and throws it away, where that content is there."""
        (aside / ABOUT).write_bytes(orjson.dumps(_about_json(stored)))
        for path in [*aside.iterdir(), aside]:
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        try:
            aside.rename(self.uploads / stored.id)
        except OSError:
            # A folder that is not empty is in its place: the same content, whole.
            if self._about(stored.id) is None:
                raise
            shutil.rmtree(aside, ignore_errors=True)
            return False
        return True

    def remove(self, id_: str) -> None:
        """Removes an upload. Raises `UnknownDataset`."""
        stored = self.find(id_)
        aside = self.uploads / f".{secrets.token_hex(8)}.removing"
        (self.uploads / stored.id).rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def sweep(self, *, before: float) -> None:
        """Removes what uploads that broke off have left.

        Args:
            before: Unix seconds; what has changed since may be an upload that goes on in another process.
        """
        for leftover in (*self.uploads.glob(".*.writing"), *self.uploads.glob(".*.removing")):
            newest = max(path.stat().st_mtime for path in (leftover, *leftover.iterdir()))
            if newest < before:
                shutil.rmtree(leftover, ignore_errors=True)


@contextmanager
def _said_of(dataset: DatasetSpec) -> Iterator[None]:
    """Says what is wrong with a file in the place where a specification names it."""
    place = "#/dataset/id" if dataset.id is not None else "#/dataset/path"
    try:
        yield
    except UnreadableData as error:
        faults = [Fault(place, fault.expected, fault.received, fault.detail) for fault in error.faults]
        raise InvalidSpec(faults) from None


def _about_json(stored: Stored) -> dict[str, Any]:
    return {"id": stored.id, "name": stored.name, "bytes": stored.bytes, "created_at": stored.created_at}


def _state_of(path: Path) -> list[int | str]:
    """What changes when a file does, or any in a folder, short of reading it. Raises `UnreadableData`."""
    if path.is_dir():
        from models.sources.image_folder import files_in, state_of

        return [state_of(files_in(path))]
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]

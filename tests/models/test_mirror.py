"""The mirror against MLflow's own client, on SQLite: nothing missing, nothing twice, whatever fails in between."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from models.artifact import KERAS, Artifact
from models.database import open_database
from models.mirror import Mirror, MirrorLog
from models.registry import Registry
from models.tracking import Tracking, open_tracking

mlflow = pytest.importorskip("mlflow", reason="the extra `tracking` is not installed")

# MLflow uses what SQLAlchemy and others deprecate; nothing here can change that.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::sqlalchemy.exc.SADeprecationWarning")

PASSED = {"gate": "r2", "passed": True, "value": 0.5, "limit": 0.4}


class Died(BaseException):
    """The mirror's process ended here."""


@dataclass
class Mortal:
    """MLflow's client, of which the first call that `deaths` does not hold takes effect and never returns."""

    client: Any
    deaths: list[tuple[str, int]]
    calls: list[str] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            result = getattr(self.client, name)(*arguments, **keywords)
            self.calls.append(name)
            death = (name, self.calls.count(name))
            if death not in self.deaths:
                self.deaths.append(death)
                raise Died(name)
            return result

        return call


@dataclass
class World:
    """A registry, an MLflow, and the mirror between them."""

    folder: Path
    artifact: Artifact
    engine: sa.Engine
    uri: str
    away: bool = False

    def __post_init__(self) -> None:
        self.registry = Registry(self.engine)
        self.client = open_tracking(self.uri, self.folder / "artifacts")._client
        self.mirror = self.new_mirror(self.client)

    def new_mirror(self, client: Any) -> Mirror:
        location = (self.folder / "artifacts").as_uri()
        return Mirror(self.registry, MirrorLog(self.engine, self.uri), Tracking(client, location))

    def register(self, job: str, model: str = "diabetes") -> Path:
        directory = self.folder / "versions" / job
        shutil.copytree(self.artifact.directory, directory)
        self.registry.register(model=model, job=job, directory=str(directory), task="regression", gates=[PASSED])
        return directory

    def move(self, alias: str, version: int, model: str = "diabetes") -> None:
        self.registry.move_alias(model, alias, str(version), by="test", reason="test")

    def aliases(self, model: str = "diabetes") -> dict[str, int]:
        held = self.client.get_registered_model(model).aliases
        return {alias: int(version) for alias, version in held.items()}

    def runs(self) -> list[Any]:
        experiments = [each.experiment_id for each in self.client.search_experiments()]
        return sorted(self.client.search_runs(experiments), key=lambda run: run.data.tags["vitrine.version"])


@pytest.fixture
def world(tmp_path: Path, mlflow_database: Path, diabetes_artifact: Artifact) -> Iterator[World]:
    database = shutil.copy(mlflow_database, tmp_path / "mlflow.sqlite")
    engine = open_database(f"sqlite:///{tmp_path / 'vitrine.sqlite'}")
    yield World(tmp_path, diabetes_artifact, engine, f"sqlite:///{database}")
    engine.dispose()


def test_versions_are_seen_in_mlflow_with_runs_curves_artifacts_and_aliases(world: World) -> None:
    for job in ("job-1", "job-2"):
        world.register(job)
    world.move("champion", 1)
    world.move("champion", 2)
    world.move("challenger", 1)

    world.mirror.catch_up(verify=True)

    card = world.artifact.card
    first, second = world.runs()
    assert [run.info.status for run in (first, second)] == ["FINISHED", "FINISHED"]
    assert [run.info.run_name for run in (first, second)] == ["diabetes 1", "diabetes 2"]
    assert first.data.params["training.epochs"] == "15"
    assert first.data.params["architecture.layers"] == "[32]"
    assert first.data.metrics["test_r2"] == pytest.approx(card["evaluation"]["metrics"]["r2"])
    curve = world.client.get_metric_history(second.info.run_id, "val_loss")
    assert [(point.step, point.value) for point in sorted(curve, key=lambda point: point.step)] == [
        (epoch, pytest.approx(value)) for epoch, value in enumerate(card["training"]["curves"]["val_loss"], start=1)
    ]
    expected = {
        "vitrine.model": "diabetes",
        "vitrine.version": "2",
        "vitrine.job": "job-2",
        "vitrine.data_sha256": card["data"]["sha256"],
        "vitrine.gates": "passed",
        "vitrine.vitrine_version": card["library_versions"]["vitrine"],
    }
    assert expected.items() <= second.data.tags.items()
    files = {file.path for file in world.client.list_artifacts(second.info.run_id, "version")}
    assert files == {f"version/{name}" for name in [*world.artifact.hashes, "manifest.json"]}
    champion = world.client.get_model_version_by_alias("diabetes", "champion")
    assert (champion.run_id, champion.tags["vitrine.version"]) == (second.info.run_id, "2")
    downloaded = Path(world.client.download_artifacts(second.info.run_id, f"version/{KERAS}", str(world.folder)))
    assert downloaded.read_bytes() == (world.artifact.directory / KERAS).read_bytes()
    assert world.aliases() == {"champion": 2, "challenger": 1, "vitrine_1": 1, "vitrine_2": 2}


def test_moved_rolled_back_and_deleted_aliases_follow(world: World) -> None:
    for job in ("job-1", "job-2"):
        world.register(job)
    for alias, version in (("champion", 1), ("champion", 2), ("challenger", 2), ("latest", 1), ("v1", 2)):
        world.move(alias, version)
    world.mirror.catch_up(verify=True)
    before = world.aliases()

    world.registry.rollback("diabetes", by="test", reason="worse")
    with world.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM aliases WHERE alias = 'challenger'")
    world.mirror.catch_up(verify=False)

    # `latest` and `v1` are MLflow's own words.
    kept = {"vitrine_latest": 1, "vitrine_v1": 2, "vitrine_1": 1, "vitrine_2": 2}
    assert before == {"champion": 2, "challenger": 2} | kept
    assert world.aliases() == {"champion": 1} | kept


def test_a_pass_with_nothing_new_writes_nothing_and_does_not_ask_mlflow(world: World) -> None:
    world.register("job-1")
    world.move("champion", 1)
    world.mirror.catch_up(verify=True)
    deaths: list[tuple[str, int]] = []

    written = world.new_mirror(Mortal(world.client, deaths)).catch_up(verify=False)

    assert (written, deaths) == (0, [])


def test_a_mirror_that_dies_after_each_of_its_writes_in_turn_leaves_nothing_twice(world: World) -> None:
    world.register("job-1")
    world.move("champion", 1)
    deaths: list[tuple[str, int]] = []

    for _ in range(100):
        try:
            world.new_mirror(Mortal(world.client, deaths)).catch_up(verify=False)
            break
        except Died:
            continue

    written = {"create_run", "log_batch", "log_artifact", "create_model_version", "set_registered_model_alias"}
    assert written <= {name for name, _ in deaths}
    assert len(world.mirror.log.versions()) == 1
    (run,) = world.runs()
    curve = world.client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in curve] == list(range(1, len(world.artifact.card["training"]["curves"]["loss"]) + 1))
    assert [int(each.version) for each in world.client.search_model_versions("name = 'diabetes'")] == [1]
    assert world.aliases() == {"champion": 1, "vitrine_1": 1}


def test_numbers_that_others_have_taken_in_mlflow_are_mapped(world: World) -> None:
    theirs = world.client.create_run(world.client.create_experiment("theirs", str(world.folder / "theirs")))
    world.client.create_registered_model("diabetes")
    world.client.create_model_version("diabetes", theirs.info.artifact_uri, theirs.info.run_id)
    world.register("job-1")
    world.move("champion", 1)

    world.mirror.catch_up(verify=True)

    assert world.aliases() == {"champion": 2, "vitrine_1": 2}
    assert world.client.get_model_version("diabetes", "2").tags["vitrine.version"] == "1"


def test_what_others_delete_or_move_in_mlflow_is_put_right_and_their_own_is_left(world: World) -> None:
    for job in ("job-1", "job-2"):
        world.register(job)
    world.move("champion", 2)
    world.mirror.catch_up(verify=True)
    world.client.delete_model_version("diabetes", "1")
    world.client.set_registered_model_alias("diabetes", "champion", "2")
    world.client.set_registered_model_alias("diabetes", "theirs", "2")
    world.client.delete_registered_model_alias("diabetes", "champion")

    world.mirror.catch_up(verify=True)

    assert world.aliases() == {"champion": 2, "theirs": 2, "vitrine_1": 3, "vitrine_2": 2}
    assert len(world.runs()) == 2


def test_an_mlflow_that_was_emptied_is_filled_again(world: World, mlflow_database: Path) -> None:
    world.register("job-1")
    world.move("champion", 1)
    world.mirror.catch_up(verify=True)
    fresh = shutil.copy(mlflow_database, world.folder / "fresh.sqlite")

    emptied = open_tracking(f"sqlite:///{fresh}", world.folder / "fresh")
    Mirror(world.registry, world.mirror.log, emptied).catch_up(verify=True)

    assert emptied.aliases("diabetes") == {"champion": 1, "vitrine_1": 1}


def test_a_damaged_version_is_named_and_mirrored_when_it_is_whole_again(world: World) -> None:
    directory = world.register("job-1")
    world.register("job-2")
    world.move("champion", 1)
    whole = (directory / KERAS).read_bytes()
    (directory / KERAS).write_bytes(whole[:100])

    world.mirror.catch_up(verify=True)
    damaged, problems = world.aliases(), dict(world.mirror.problems)
    (directory / KERAS).write_bytes(whole)
    world.mirror.catch_up(verify=True)

    assert list(problems) == ["diabetes/1"]
    assert KERAS in problems["diabetes/1"]
    assert damaged == {"vitrine_2": 1}
    assert world.aliases() == {"champion": 2, "vitrine_1": 2, "vitrine_2": 1}
    assert world.mirror.problems == {}


def test_a_version_that_mlflow_refuses_does_not_hold_up_the_others(world: World) -> None:
    @dataclass
    class Refusing:
        client: Any

        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **keywords: Any) -> Any:
                if keywords.get("run_name") == "diabetes 1":
                    raise ValueError("refused")
                return getattr(self.client, name)(*arguments, **keywords)

            return call

    for job in ("job-1", "job-2"):
        world.register(job)

    mirror = world.new_mirror(Refusing(world.client))
    mirror.catch_up(verify=True)

    assert mirror.problems == {"diabetes/1": "ValueError: refused"}
    assert world.aliases() == {"vitrine_2": 1}


def test_an_mlflow_that_does_not_answer_ends_the_pass_and_the_next_goes_on_in_order(world: World) -> None:
    class Away:
        def __getattr__(self, name: str) -> Any:
            raise ConnectionError("away")

    for job in ("job-1", "job-2"):
        world.register(job)
    mirror = world.new_mirror(Away())

    with pytest.raises(ConnectionError):
        mirror.catch_up(verify=False)
    world.mirror.catch_up(verify=False)

    assert mirror.problems == {}
    assert world.aliases() == {"vitrine_1": 1, "vitrine_2": 2}

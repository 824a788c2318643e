"""A specification made of an earlier version's, and a fit that begins with its weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact import Artifact, open_artifact
from models.building import Reporter, build_version
from models.database import open_database
from models.errors import InvalidSpec, WarmStartImpossible
from models.registry import Registry
from models.retraining import merged, resolve_from
from models.spec import parse_spec


@pytest.fixture
def registry(tmp_path: Path, diabetes_artifact: Artifact) -> Registry:
    registry = Registry(open_database(f"sqlite:///{tmp_path / 'vitrine.sqlite'}"))
    directory = str(diabetes_artifact.directory)
    registry.register(model="diabetes", job="JOB", directory=directory, task="regression", gates=[])
    registry.move_alias("diabetes", "champion", "1", by="test", reason="")
    return registry


def test_objects_are_merged_key_by_key_and_everything_else_is_replaced() -> None:
    earlier = {"training": {"epochs": 50, "seed": 1, "early_stopping": {"patience": 5}}, "gates": {"min": {"r2": 0.1}}}

    result = merged(earlier, {"training": {"epochs": 3, "early_stopping": None}, "promote": "never"})

    assert result == {
        "training": {"epochs": 3, "seed": 1, "early_stopping": None},
        "gates": {"min": {"r2": 0.1}},
        "promote": "never",
    }


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ({"dataset": {"builtin": "iris"}}, {"dataset": {"path": "iris.csv"}}),
        ({"schedule": {"type": "plateau", "factor": 0.5}}, {"schedule": {"type": "cosine"}}),
    ],
)
def test_what_names_another_thing_takes_nothing_from_the_earlier_one(
    earlier: dict[str, Any], later: dict[str, Any]
) -> None:
    assert later == merged(earlier, later)


@pytest.mark.parametrize("version", ["champion", 1, "1"])
def test_from_takes_the_specification_of_a_version_by_number_or_alias(
    registry: Registry, diabetes_artifact: Artifact, version: int | str
) -> None:
    document = resolve_from({"model": "diabetes", "from": version, "training": {"epochs": 2}}, registry)

    spec, earlier = parse_spec(document), parse_spec(diabetes_artifact.card["spec"])
    assert spec == earlier.model_copy(
        update={"from_version": 1, "training": earlier.training.model_copy(update={"epochs": 2})}
    )
    assert 1 == spec.model_dump(mode="json")["from"]
    assert spec == parse_spec(spec.model_dump(mode="json"))


def test_a_specification_without_from_is_left_alone(registry: Registry) -> None:
    document = {"model": "diabetes", "dataset": {"builtin": "iris"}}

    assert document is resolve_from(document, registry)


@pytest.mark.parametrize(
    ("document", "pointer", "words"),
    [
        ({"model": "diabetes", "from": 2}, "#/from", "has no version or alias '2'. It has: 1, champion"),
        ({"model": "unknown", "from": "champion"}, "#/from", "There is no model 'unknown'. Models: diabetes"),
        ({"model": "diabetes", "from": True}, "#/from", "a version number or an alias"),
        ({"from": "champion"}, "#/model", "the name of the model"),
    ],
)
def test_from_that_names_no_version_is_refused_with_those_there_are(
    registry: Registry, document: dict[str, Any], pointer: str, words: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        resolve_from(document, registry)

    (fault,) = caught.value.faults
    assert pointer == fault.pointer
    assert words in fault.detail + fault.expected


def test_a_warm_start_needs_a_version_to_start_from() -> None:
    with pytest.raises(InvalidSpec, match=r"#/warm_start: expected false, or \"from\""):
        parse_spec({"model": "m", "dataset": {"builtin": "iris"}, "warm_start": True})


def warm(artifact: Artifact, **keys: Any) -> Any:
    return parse_spec({**artifact.card["spec"], "from": 3, "warm_start": True, **keys})


def weights_of(artifact: Artifact) -> list[np.ndarray]:
    """Of the layers that learn."""
    layers = [layer for layer in artifact.load_keras().layers if layer.trainable_variables]
    return [np.asarray(weight) for layer in layers for weight in layer.weights]


class Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.long
def test_a_warm_start_begins_with_the_weights_and_resumes_in_the_same_bits(
    diabetes_artifact: Artifact, tmp_path: Path
) -> None:
    tiny = {"learning_rate": 1e-30, "optimizer": "sgd", "epochs": 1, "early_stopping": None}
    build_version(warm(diabetes_artifact, training=tiny), tmp_path / "same", Reporter(), earlier=diabetes_artifact)
    spec = warm(diabetes_artifact, training={"epochs": 3, "early_stopping": None, "batch_size": 128})
    build_version(spec, tmp_path / "whole", Reporter(), earlier=diabetes_artifact)

    def die(report: Any) -> None:
        if report.epoch == 2:
            raise Killed

    checkpoints, seen = tmp_path / "checkpoints", []
    with pytest.raises(Killed):
        build_version(spec, tmp_path / "resumed", Reporter(epoch=die), checkpoints, earlier=diabetes_artifact)
    reporter = Reporter(epoch=lambda report: seen.append(report.epoch))
    build_version(spec, tmp_path / "resumed", reporter, checkpoints, earlier=diabetes_artifact)

    same, whole, resumed = (open_artifact(tmp_path / name) for name in ("same", "whole", "resumed"))
    for mine, theirs in zip(weights_of(same), weights_of(diabetes_artifact), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert [2, 3] == seen
    for mine, theirs in zip(weights_of(resumed), weights_of(whole), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert not all(map(np.array_equal, weights_of(whole), weights_of(diabetes_artifact)))
    assert whole.card["training"]["warm_start"] == {
        "version": 3,
        "model_sha256": diabetes_artifact.hashes["model.keras"],
    }
    assert diabetes_artifact.card["training"]["warm_start"] is None


@pytest.mark.parametrize(
    ("layers", "place", "difference"),
    [
        ([32, 8], 2, "Expected Dense with weights 32x1, 1, received Dense with weights 32x8, 8"),
        ([16], 1, "Expected Dense with weights 10x32, 32, received Dense with weights 10x16, 16"),
    ],
)
def test_a_warm_start_of_another_network_names_the_first_layer_that_differs(
    diabetes_artifact: Artifact, tmp_path: Path, layers: list[int], place: int, difference: str
) -> None:
    spec = warm(diabetes_artifact, architecture={"type": "mlp", "layers": layers})

    with pytest.raises(WarmStartImpossible) as caught:
        build_version(spec, tmp_path / "version", Reporter(), earlier=diabetes_artifact)

    assert place == caught.value.place
    assert difference in str(caught.value)

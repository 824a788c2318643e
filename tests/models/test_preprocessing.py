"""The layers before a network do what scikit-learn does, on the train rows alone, and survive saving and export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tables
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_diabetes
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler

from models.datasets import Dataset, load_builtin
from models.errors import InvalidDataset, InvalidSpec
from models.export import export_onnx
from models.preprocessing import preprocessed
from models.spec import parse_spec
from models.spec.preprocessing import PreprocessingSpec
from models.training import predict_raw

N_TRAIN = 300
ALL_PARTS = ["trend", "year", "season", "month", "day", "weekday", "hour"]
SCALERS = {"standard": StandardScaler(), "min-max": MinMaxScaler(), "robust": RobustScaler()}
ORDERS = tables.mixed_table(600)


@pytest.mark.parametrize("scaling", SCALERS)
@pytest.mark.parametrize("missing", ["mean", "median", "most-frequent", {"constant": 7.0}])
def test_numbers_are_filled_and_scaled_as_scikit_learn_does(scaling: str, missing: Any) -> None:
    table = punched_diabetes()
    held = numbers(table, scaling=scaling, missing=missing)

    found = encoded(held, scaling=scaling, missing=missing)

    strategy = {"mean": "mean", "median": "median", "most-frequent": "most_frequent"}.get(str(missing), "constant")
    imputer = SimpleImputer(strategy=strategy, fill_value=7.0 if strategy == "constant" else None)
    filled = imputer.fit(table[:N_TRAIN]).transform(table)
    expected = SCALERS[scaling].fit(filled[:N_TRAIN]).transform(filled)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5)


def test_indicator_is_the_median_and_a_column_that_says_where() -> None:
    table = punched_diabetes()

    found = encoded(numbers(table))

    missing = np.isnan(table)
    np.testing.assert_array_equal(found[:, 10:], missing[:, missing[:N_TRAIN].any(axis=0)])
    np.testing.assert_allclose(found[:, :10], encoded(numbers(table), missing="median"), atol=1e-6)


def test_outliers_are_clipped_at_quantiles_of_the_train_rows() -> None:
    table = np.nan_to_num(punched_diabetes(), nan=50.0)
    low, high = np.quantile(table[:N_TRAIN], [0.1, 0.8], axis=0)

    found = encoded(numbers(table), scaling="none", outliers={"clip": [0.1, 0.8]})

    np.testing.assert_allclose(found, np.clip(table, low, high), rtol=1e-5)


def test_a_feature_may_have_rules_of_its_own() -> None:
    table = punched_diabetes()
    rules: dict[str, Any] = {"scaling": "none", "missing": "mean", "features": {"x0": {"missing": {"constant": -1}}}}

    found = encoded(numbers(table, **rules), **rules)

    np.testing.assert_array_equal(found[np.isnan(table[:, 0]), 0], -1)
    np.testing.assert_allclose(found[np.isnan(table[:, 1]), 1], np.nanmean(table[:N_TRAIN, 1]), rtol=1e-5)


def test_categories_have_a_column_each_and_unseen_ones_none() -> None:
    city = ORDERS.columns["city"].values
    held = one_column("city", unseen="own-place")
    codes = np.append(held.inputs[:, 0], 4)[:, np.newaxis].astype(np.float32)

    found = encoded(held, rows=codes, unseen="own-place")

    names = np.where(city == None, "~missing", city.astype(str))  # noqa: E711 - of each element
    encoder = OneHotEncoder(sparse_output=False).fit(names[:N_TRAIN, np.newaxis])
    np.testing.assert_array_equal(found[:-1], encoder.transform(names[:, np.newaxis]))
    np.testing.assert_array_equal(found[-1], np.zeros(5))


@pytest.mark.parametrize("categorical", ["embedding", "hashing"])
def test_categories_of_one_code_share_a_vector(categorical: str) -> None:
    rules = {"categorical": categorical, "embedding": 3, "hash_buckets": 64}
    held = one_column("city", **rules)

    found = encoded(held, **rules)

    assert (600, 3) == found.shape
    for code in np.unique(held.inputs[~np.isnan(held.inputs)]):
        assert 1 == len(np.unique(found[held.inputs[:, 0] == code], axis=0))


def test_missing_category_becomes_the_one_that_is_named() -> None:
    rules: dict[str, Any] = {"features": {"city": {"missing": {"constant": "oslo"}}}}
    held = one_column("city", **rules)

    found = encoded(held, **rules)

    np.testing.assert_array_equal(found[:, 1] == 1, np.isin(held.inputs[:, 0], [1]) | np.isnan(held.inputs[:, 0]))
    with pytest.raises(InvalidDataset, match="which is none of its categories"):
        encoded(held, features={"city": {"missing": {"constant": "atlantis"}}})


def test_dates_become_their_parts_and_places_in_cycles() -> None:
    held = one_column("ordered")
    dates = ORDERS.columns["ordered"].values.astype("datetime64[D]")
    months = dates.astype("datetime64[M]").astype(int) % 12
    days = (dates - dates.astype("datetime64[M]")).astype(int)

    month = encoded(held, dates=["month"])
    day = encoded(held, dates=["day"])
    weekday = encoded(held, dates=["weekday"])
    trend = encoded(held, dates=["trend"])

    np.testing.assert_array_equal(months, month.argmax(axis=1))
    np.testing.assert_allclose(np.arctan2(day[:, 0], day[:, 1]) % (2 * np.pi), 2 * np.pi * days / 31, atol=1e-5)
    np.testing.assert_array_equal((dates.astype(int) + 3) % 7, weekday.argmax(axis=1))
    np.testing.assert_allclose(
        trend[:, 0], StandardScaler().fit(held.inputs[:N_TRAIN]).transform(held.inputs)[:, 0], atol=1e-3
    )


def test_text_is_the_mean_of_its_words_and_nothing_without_any() -> None:
    held = one_column("note")
    rows = np.array([[2, 3] + [0] * 5, [3, 2] + [0] * 5, [0] * 7], np.float32)
    assert rows.shape[1:] == held.inputs.shape[1:]

    vectors = encoded(held, rows=rows, flat=False)
    means = encoded(held, rows=rows)

    assert (3, 7, 16) == vectors.shape
    np.testing.assert_array_equal(vectors[:, 2:], 0)
    np.testing.assert_array_equal(means[0], means[1])
    np.testing.assert_array_equal(means[2], 0)
    assert np.abs(means[0]).min() > 0


def test_missing_steps_of_a_series_are_filled_by_channel_and_said() -> None:
    held = tables.dataset(tables.digit_series(missing=0.02), "digit", ("0", "1", "2"))

    found = encoded(held)

    table = held.inputs[:N_TRAIN].reshape(-1, 8)
    filled = np.where(np.isnan(held.inputs), np.nanmedian(table, axis=0), held.inputs)
    expected = StandardScaler().fit(filled[:N_TRAIN].reshape(-1, 8)).transform(filled.reshape(-1, 8))
    np.testing.assert_allclose(found[..., :8].reshape(-1, 8), expected, atol=1e-4)
    np.testing.assert_array_equal(found[..., 8:], np.isnan(held.inputs))


@pytest.mark.parametrize(
    "rules",
    [
        pytest.param({}, id="defaults"),
        pytest.param(
            {
                "scaling": "robust",
                "missing": "mean",
                "outliers": "clip",
                "categorical": "embedding",
                "unseen": "own-place",
                "dates": ALL_PARTS,
                "features": {"noise": {"scaling": "min-max"}, "ordered": {"missing": "median"}},
            },
            id="everything",
        ),
    ],
)
def test_saved_and_exported_they_say_the_same(tmp_path: Path, rules: dict[str, Any]) -> None:
    held = tables.dataset(ORDERS, "returned", ("no", "yes"), **rules)
    inputs, features = layers(held, flat=True, **rules)
    linear = keras.layers.Dense(1, name="logit")(features)
    model = keras.Model(inputs, keras.layers.Activation("sigmoid", name="output")(linear))
    model.save(tmp_path / "model.keras")

    loaded: Any = keras.saving.load_model(tmp_path / "model.keras", compile=False, safe_mode=True)
    report = export_onnx(loaded, held.signature, tmp_path / "model.onnx", held.inputs)

    np.testing.assert_array_equal(predict_raw(model, held.inputs), predict_raw(loaded, held.inputs))
    assert np.isfinite(predict_raw(model, held.inputs)).all()
    assert report.engine == "onnxruntime", report.reason


@pytest.mark.parametrize(
    ("preprocessing", "pointers"),
    [
        ({"outliers": {"clip": [0.9, 0.1]}}, ["#/preprocessing/outliers/clip"]),
        ({"missing": {"constant": "rome"}}, ["#/preprocessing/missing/constant"]),
        ({"categorical": "hashing"}, ["#/preprocessing/categorical"]),
        ({"dates": ["month"], "rare": 2}, ["#/preprocessing/dates", "#/preprocessing/rare"]),
        ({"features": {"size": {}}}, ["#/preprocessing/features/size"]),
        ({"features": {"age": {"text": {"words": 5}}}}, ["#/preprocessing/features/age/text"]),
        ({"features": {"age": {"missing": {"constant": "old"}}}}, ["#/preprocessing/features/age/missing/constant"]),
        ({"scaling": "log"}, ["#/preprocessing/scaling"]),
        ({"feature": {}}, ["#/preprocessing/feature"]),
    ],
)
def test_preprocessing_that_has_no_effect_is_refused(preprocessing: dict[str, Any], pointers: list[str]) -> None:
    document = {"model": "m", "dataset": {"builtin": "diabetes"}, "preprocessing": preprocessing}

    with pytest.raises(InvalidSpec) as raised:
        parse_spec(document)

    assert pointers == [fault.pointer for fault in raised.value.faults]


def test_filled_in_preprocessing_can_be_sent_again() -> None:
    spec = parse_spec({"model": "m", "dataset": {"builtin": "diabetes"}, "preprocessing": {"features": {"age": {}}}})

    assert spec == parse_spec(spec.model_dump(mode="json"))


def punched_diabetes() -> NDArray[np.float64]:
    """Diabetes, a twentieth of its values missing, `(442, 10)`."""
    table: NDArray[np.float64] = load_diabetes(return_X_y=True, scaled=False)[0]
    return np.where(np.random.default_rng(0).random(table.shape) < 0.05, np.nan, table)


def numbers(table: NDArray[np.float64], **rules: Any) -> Dataset:
    columns: dict[str, Any] = {f"x{i}": ("numeric", column) for i, column in enumerate(table.T)}
    return tables.dataset(tables.raw_data({**columns, "y": ("numeric", np.arange(len(table)) * 1.0)}), "y", **rules)


def one_column(name: str, **rules: Any) -> Dataset:
    column = ORDERS.columns[name]
    target = ("numeric", np.arange(ORDERS.n_rows) * 1.0)
    return tables.dataset(tables.raw_data({name: (column.kind, column.values), "y": target}), "y", **rules)


def layers(held: Dataset, *, flat: bool, **rules: Any) -> tuple[Any, Any]:
    keras.utils.set_random_seed(0)
    inputs = keras.Input(held.signature.input_shape)
    spec = PreprocessingSpec.model_validate(rules, strict=False)
    return inputs, preprocessed(inputs, held.signature, held.inputs[:N_TRAIN], spec, flat=flat)


def encoded(held: Dataset, *, rows: Any = None, flat: bool = True, **rules: Any) -> NDArray[np.float32]:
    """What a network would be given, fitted on the first rows."""
    inputs, features = layers(held, flat=flat, **rules)
    return predict_raw(keras.Model(inputs, features), held.inputs if rows is None else rows)


@pytest.mark.parametrize("size", [(8, 8), (4, 6), (20, 11)])
@pytest.mark.parametrize(("rescale", "low"), [("unit", 0.0), ("symmetric", -1.0)])
def test_images_are_resized_as_pillow_does_and_brought_to_one_scale(
    size: tuple[int, int], rescale: str, low: float
) -> None:
    held = load_builtin("digits")

    found = encoded(held, image={"resize": list(size), "rescale": rescale})

    height, width = size
    for image, row in zip(held.inputs[:20], found[:20], strict=True):
        resized = Image.fromarray(image[..., 0]).resize((width, height), Image.Resampling.BILINEAR)
        expected = np.asarray(resized) / 16 * (1 - low) + low
        np.testing.assert_allclose(row[..., 0], expected, atol=1e-6)


def test_settings_of_images_are_refused_where_there_are_none() -> None:
    with pytest.raises(InvalidSpec, match="#/preprocessing/image: expected nothing: no feature is image"):
        parse_spec({"model": "m", "dataset": {"builtin": "iris"}, "preprocessing": {"image": {"resize": [8, 8]}}})

"""Versions of mixed columns, of a text and of a series: trained on files, asked, explained by their raw features."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as parquet
import pytest
from sharing import made_version
from support import Server, free_port, install, point, running, succeeds, wait_for

from service.settings import Settings

sys.path.append(str(Path(__file__).parents[1] / "models"))
import tables

pytestmark = pytest.mark.long

ORDER: dict[str, Any] = {
    "age": 41,
    "city": "oslo",
    "gift": True,
    "ordered": "2024-03-02",
    "note": "The box came broken, alas!",
    "noise": 0.3,
}
MONDAY = "2024-03-04"


@pytest.fixture(scope="module")
def mixed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`vitrine serve` with `orders` (mixed columns), `moods` (a text) and `strokes` (a series with gaps)."""
    settings = Settings(home=tmp_path_factory.mktemp("home"), port=free_port(), refresh_ms=100)
    settings.prepare_home()
    for model, make in (
        ("orders", tables.mixed_artifact),
        ("moods", tables.text_artifact),
        ("strokes", tables.series_artifact),
    ):
        data, artifact = made_version(tmp_path_factory, make)
        shutil.copytree(data, settings.data_directory, dirs_exist_ok=True)
        point(settings, model, install(settings, artifact, model, f"JOB-{model}"))
    with running(settings, "serve") as server:
        wait_for(lambda: succeeds(server.client, "/health/ready"), seconds=300)
        yield server


def test_prediction_follows_the_rule_that_made_the_table(mixed_server: Server) -> None:
    rows = [
        ORDER,
        {**ORDER, "city": "paris", "gift": False, "ordered": MONDAY, "note": "Thanks, happy letter"},
        {name: None if name in ("age", "city", "note") else value for name, value in ORDER.items()},
    ]

    answer = mixed_server.client.post("/predict", json={"model": "orders", "inputs": rows}).json()

    sure, unlikely, unknown = (one["probabilities"]["yes"] for one in answer["predictions"])
    assert sure > 0.8
    assert unlikely < 0.2
    assert unlikely < unknown < sure


def test_wrong_values_are_named_with_what_was_expected(mixed_server: Server) -> None:
    row = {**ORDER, "city": "atlantis", "gift": "yes", "ordered": "soon"}

    answer = mixed_server.client.post("/predict", json={"model": "orders", "inputs": [row]})

    assert 422 == answer.status_code
    errors = {error["pointer"]: error["expected"] for error in answer.json()["errors"]}
    assert "one of 'lima', 'oslo', 'paris', 'rome' or null" == errors["#/inputs/0/city"]
    assert "true or false" == errors["#/inputs/0/gift"]
    assert errors["#/inputs/0/ordered"].startswith("a date in ISO 8601")


def test_attributions_are_of_raw_features_and_follow_the_rule(mixed_server: Server) -> None:
    explanation = explained(mixed_server.client, "orders", [ORDER], target="yes", output="logit")

    (target,) = explanation["explanations"][0]["targets"]
    shares = {share["feature"]: share for share in target["attributions"]}
    assert "exact" == explanation["receipt"]["method"]
    assert ORDER == {name: share["value"] for name, share in shares.items()}
    # Each adds to the log-odds by the rule; the noise adds nothing.
    for name in ("city", "gift", "ordered", "note"):
        assert shares[name]["attribution"] > 0.3
    assert abs(shares["noise"]["attribution"]) < 0.3
    assert abs(target["efficiency_residual"]) < 1e-5


def test_attribution_of_each_feature_turns_with_its_value(mixed_server: Server) -> None:
    turned = {"city": "paris", "gift": False, "ordered": MONDAY, "note": "Thanks, happy letter"}
    rows = [ORDER, *({**ORDER, name: value} for name, value in turned.items())]

    explanation = explained(mixed_server.client, "orders", rows, target="yes", output="logit")

    first, *others = (by_feature(row) for row in explanation["explanations"])
    for name, shares in zip(turned, others, strict=True):
        assert shares[name] < first[name] - 0.5


def test_missing_value_and_given_date_are_shown_as_they_were_sent(mixed_server: Server) -> None:
    row = {**ORDER, "age": None, "ordered": "2024-03-02T09:31:07Z"}

    explanation = explained(mixed_server.client, "orders", [row])

    (target,) = explanation["explanations"][0]["targets"]
    shares = {share["feature"]: share["value"] for share in target["attributions"]}
    assert shares["age"] is None
    assert "2024-03-02T09:31:07Z" == shares["ordered"]


@pytest.mark.parametrize("method", ["kernel", "permutation", "partition", "occlusion", "shap.exact"])
def test_methods_that_evaluate_explain_mixed_columns(mixed_server: Server, method: str) -> None:
    explanation = explained(mixed_server.client, "orders", [ORDER], target="yes", method=method, deadline_ms=20_000)

    shares = by_feature(explanation["explanations"][0])
    assert {*ORDER} == {*shares}
    assert shares["gift"] > 0


@pytest.mark.parametrize("model", ["orders", "moods", "strokes"])
def test_methods_that_take_gradients_are_refused_with_the_reason(mixed_server: Server, model: str) -> None:
    row = {"orders": ORDER, "moods": "great box", "strokes": np.zeros((8, 8)).tolist()}[model]

    answer = mixed_server.client.post(
        "/explain", json={"model": model, "inputs": [row], "method": "expected-gradients"}
    )

    assert 422 == answer.status_code
    assert "/problems/method-does-not-fit" == answer.json()["type"]
    assert "and this one takes" in answer.json()["detail"]


def test_text_is_explained_word_by_word(mixed_server: Server) -> None:
    text = "The parcel came: happy!"

    explanation = explained(mixed_server.client, "moods", [text], target="good")

    (target,) = explanation["explanations"][0]["targets"]
    shares = target["attributions"]
    assert ["The", "parcel", "came", "happy"] == [share["token"] for share in shares]
    assert all(text[slice(*share["span"])] == share["token"] for share in shares)
    assert "happy" == max(shares, key=lambda share: share["attribution"])["token"]


def test_text_is_explained_by_runs_of_words_where_it_is_asked(mixed_server: Server) -> None:
    options = {"spans": 2, "masking": "padding"}

    explanation = explained(mixed_server.client, "moods", ["The parcel came broken"], method="exact", options=options)

    (target,) = explanation["explanations"][0]["targets"]
    assert ["The parcel", "came broken"] == [share["token"] for share in target["attributions"]]
    assert options == explanation["receipt"]["options"]


def test_text_of_no_words_is_refused(mixed_server: Server) -> None:
    answer = mixed_server.client.post("/explain", json={"model": "moods", "inputs": ["?!"]})

    assert 422 == answer.status_code
    assert "at least one token" in answer.json()["detail"]


def test_series_is_explained_by_windows_of_its_channels(mixed_server: Server) -> None:
    explanation = explained(
        mixed_server.client, "strokes", [a_digit()], method="permutation", options={"windows": 2}, top_k=5
    )

    (target,) = explanation["explanations"][0]["targets"]
    assert 5 == len(target["attributions"])
    for share in target["attributions"]:
        start, end = share["window"]
        expected = [line[share["channel"]] for line in a_digit()[start:end]]
        assert expected == share["value"]


def test_texts_and_series_are_explained_as_tensors_over_v2(mixed_server: Server) -> None:
    texts = ["The parcel came: happy!", "Broken"]
    native = explained(mixed_server.client, "moods", texts, target="good", method="exact")

    moods = explained_over_v2(mixed_server.client, "moods", "BYTES", texts, [2], target="good", method="exact")

    shares = [row["targets"][0]["attributions"] for row in native["explanations"]]
    assert [2, 1, 4] == moods["attributions"]["shape"]
    assert [share["attribution"] for share in shares[0]] == moods["attributions"]["data"][:4]
    # The second text has one word: what follows is no word of it.
    assert [shares[1][0]["attribution"], None, None, None] == moods["attributions"]["data"][4:]
    assert ["The", "parcel", "came", "happy", "Broken", "", "", ""] == moods["tokens"]["data"]
    assert [*(edge for share in shares[0] for edge in share["span"]), 0, 6] == moods["spans"]["data"][:10]

    options = {"windows": 2}
    native = explained(mixed_server.client, "strokes", [a_digit()], method="permutation", options=options)
    flat = [value for line in a_digit() for value in line]
    shape = [1, len(a_digit()), len(a_digit()[0])]

    strokes = explained_over_v2(
        mixed_server.client, "strokes", "FP32", flat, shape, method="permutation", options=options
    )

    (target,) = native["explanations"][0]["targets"]
    windows, channels = strokes["windows"]["data"], shape[2]
    assert [1, 1, len(windows) // 2, channels] == strokes["attributions"]["shape"]
    starts = windows[::2]
    for share in target["attributions"]:
        place = starts.index(share["window"][0])
        assert share["window"] == windows[2 * place : 2 * place + 2]
        assert share["attribution"] == strokes["attributions"]["data"][place * channels + share["channel"]]


@pytest.mark.parametrize(
    ("model", "row", "title"),
    [
        ("orders", ORDER, "city = oslo"),
        ("moods", "A great box", "coloured by attributions"),
        ("strokes", "digit", "attributions of their 8 windows"),
    ],
)
def test_each_is_drawn(mixed_server: Server, model: str, row: Any, title: str) -> None:
    body = {"model": model, "inputs": [a_digit() if row == "digit" else row], "deadline_ms": 3000}

    picture = mixed_server.client.post("/explain", json=body, headers={"Accept": "image/svg+xml"})
    again = mixed_server.client.get(
        f"/explanations/{picture.headers['X-Explanation-Id']}", headers={"Accept": "image/svg+xml"}
    )

    assert title in picture.text
    assert picture.text == again.text


@pytest.mark.parametrize(("model", "row"), [("orders", ORDER), ("moods", "A great box, thanks"), ("strokes", "digit")])
def test_recorded_explanation_is_replayed_to_the_bit(mixed_server: Server, model: str, row: Any) -> None:
    made = explained(mixed_server.client, model, [a_digit() if row == "digit" else row], top_k=2, deadline_ms=3000)

    replay = mixed_server.client.post(f"/explanations/{made['id']}/replay").json()

    assert replay["identical"], replay["differs_in"]
    assert 0.0 == replay["max_difference"]


def test_global_explanation_names_categories_dates_and_what_is_missing(mixed_server: Server) -> None:
    job = mixed_server.client.post(
        "/explain/global", json={"model": "orders", "dataset": "test", "max_rows": 40, "target": "yes"}
    )
    place = job.headers["Location"]
    document = wait_for(lambda: finished(mixed_server.client, place), seconds=300)

    (target,) = document["targets"]
    features = {feature["feature"]: feature for feature in target["features"]}
    assert {*ORDER} == {*features}
    cities = [group["values"] for group in features["city"]["dependence"]]
    assert {("oslo", "oslo"), ("rome", "rome")} <= set(map(tuple, cities))
    assert features["ordered"]["dependence"][0]["values"][0].startswith("202")
    assert features["note"]["dependence"] is None
    table = parquet.read_table(
        io.BytesIO(mixed_server.client.get(place, headers={"Accept": "application/vnd.apache.parquet"}).content)
    )
    assert {"true", "false"} <= set(table["value"].to_pylist())
    for plot in ("bar", "beeswarm", "dependence"):
        query = {"plot": plot, "feature": "city"} if plot == "dependence" else {"plot": plot}
        assert 200 == mixed_server.client.get(place, params=query, headers={"Accept": "image/png"}).status_code


def test_words_of_many_texts_are_not_put_together(mixed_server: Server) -> None:
    answer = mixed_server.client.post("/explain/global", json={"model": "moods"})

    assert 422 == answer.status_code
    (error,) = answer.json()["errors"]
    assert "the words of one text are not those of another" in error["expected"]
    assert "POST /explain" in error["detail"]


def test_card_says_what_each_feature_takes(mixed_server: Server) -> None:
    card = mixed_server.client.get("/models/orders/versions/champion").json()

    features = {feature["name"]: feature for feature in card["signature"]["features"]}
    assert ["numeric", "categorical", "boolean", "date", "text", "numeric"] == [
        feature["kind"] for feature in features.values()
    ]
    assert ["lima", "oslo", "paris", "rome"] == features["city"]["vocabulary"]
    assert features["age"]["nullable"]
    assert "onnxruntime" == card["export"]["engine"]


def explained(client: httpx.Client, model: str, rows: list[Any], **request: Any) -> dict[str, Any]:
    # The process for shap's explainers starts with the first of them, and imports for many seconds.
    body = {"model": model, "inputs": rows, "deadline_ms": 5000, **request}
    answer = client.post("/explain", json=body, timeout=240)
    assert 200 == answer.status_code, answer.text
    return answer.json()


def explained_over_v2(
    client: httpx.Client, model: str, datatype: str, data: list[Any], shape: list[int], **parameters: Any
) -> dict[str, Any]:
    """The tensors of an explanation, by their names."""
    (described,) = client.get(f"/v2/models/{model}").json()["inputs"]
    tensor = {"name": described["name"], "datatype": datatype, "shape": shape, "data": data}
    body = {"inputs": [tensor], "parameters": {"deadline_ms": 5000, **parameters}}
    answer = client.post(f"/v2/models/{model}/explain", json=body)
    assert 200 == answer.status_code, answer.text
    return {output["name"]: output for output in answer.json()["outputs"]}


def by_feature(row: dict[str, Any]) -> dict[str, float]:
    (target,) = row["targets"]
    return {share["feature"]: share["attribution"] for share in target["attributions"]}


def a_digit() -> list[list[float | None]]:
    """The first digit, its third line without its fourth value."""
    rows = tables.digit_series().columns["rows"].values[0].tolist()
    rows[2][3] = None
    return rows


def finished(client: httpx.Client, place: str) -> dict[str, Any] | None:
    answer = client.get(place)
    assert answer.status_code in (200, 202), answer.text
    return answer.json() if answer.status_code == 200 else None

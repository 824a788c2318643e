"""`GET /models/{m}/versions/{v}/surrogate`, and what the terminal shows of an evaluation."""

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import httpx
import numpy as np
import pytest
from commands import vitrine
from PIL import Image
from support import Server, install

from models.artifact import CARD, MANIFEST, Artifact, writing
from models.datasets import load_builtin, split_dataset
from vitrine import Client


def surrogate(server: Server, model: str, version: str = "champion", accept: str = "*/*") -> httpx.Response:
    return server.client.get(f"/models/{model}/versions/{version}/surrogate", headers={"Accept": accept})


def test_the_tree_reproduces_its_fidelity_from_raw_rows(server: Server) -> None:
    """The tree as JSON, followed by hand over test rows, against what the server predicts for them."""
    document = surrogate(server, "breast-cancer").json()
    dataset = load_builtin("breast_cancer")
    rows = dataset.inputs[split_dataset(dataset, test=0.2, validation=0.2).test]
    names = dataset.signature.feature_names

    def follow(row: np.ndarray) -> str:
        node = document["root"]
        while "feature" in node:
            node = node["yes" if row[names.index(node["feature"])] <= node["threshold"] else "no"]
        return node["label"]

    predicted = [
        each["label"]
        for each in server.client.post(
            "/predict", json={"model": "breast-cancer", "inputs": rows.astype(float).tolist()}
        ).json()["predictions"]
    ]

    agreement = np.mean([follow(row) == label for row, label in zip(rows, predicted, strict=True)])
    assert (document["model"], document["version"]) == ("breast-cancer", 1)
    assert pytest.approx(document["fidelity"]["accuracy"]) == agreement
    assert agreement > 0.8


def test_the_tree_is_also_text_and_pictures(server: Server) -> None:
    text = surrogate(server, "diabetes", accept="text/plain")
    svg = surrogate(server, "diabetes", accept="image/svg+xml")
    png = surrogate(server, "diabetes", accept="image/png")

    assert text.headers["Content-Type"].startswith("text/plain")
    assert text.text.startswith("diabetes v1 as a decision tree: R2 0.")
    assert "progression " in text.text
    description = ElementTree.fromstring(svg.content).findtext("{http://www.w3.org/2000/svg}desc", "")
    assert description.startswith("A decision tree for progression.")
    assert 800 == Image.open(io.BytesIO(png.content)).width


@pytest.mark.parametrize(
    ("model", "version", "accept", "status", "problem"),
    [
        ("nope", "champion", "*/*", 404, "unknown-model"),
        ("diabetes", "99", "*/*", 404, "unknown-version"),
        ("diabetes", "champion", "text/html", 406, "not-acceptable"),
    ],
)
def test_what_is_not_there_is_said(
    server: Server, model: str, version: str, accept: str, status: int, problem: str
) -> None:
    answer = surrogate(server, model, version, accept)

    assert (status, f"/problems/{problem}") == (answer.status_code, answer.json()["type"])


def test_a_version_without_a_tree_says_why(server: Server, diabetes_artifact: Artifact, tmp_path: Path) -> None:
    with writing(tmp_path / "old") as aside:
        for file in diabetes_artifact.directory.iterdir():
            if file.name != MANIFEST:
                (aside / file.name).write_bytes(file.read_bytes())
        card = {name: value for name, value in diabetes_artifact.card.items() if name != "surrogate"}
        (aside / CARD).write_text(json.dumps(card))
    from models.artifact import open_artifact

    install(server.settings, open_artifact(tmp_path / "old"), "before-trees", "JOB-before-trees")

    answer = surrogate(server, "before-trees", "1")

    assert (404, "/problems/no-surrogate") == (answer.status_code, answer.json()["type"])
    assert "train it anew" in answer.json()["detail"]


def test_the_client_has_the_tree_in_all_its_forms(server: Server) -> None:
    with Client(str(server.client.base_url)) as client:
        document = client.surrogate("digits")
        text = client.surrogate_text("digits", 1)
        picture = client.surrogate_picture("digits", kind="svg", width=400)

    assert document["labels"] == [str(digit) for digit in range(10)]
    assert "image[" in text
    assert picture.startswith(b"<")


def test_the_terminal_shows_an_evaluation_and_the_tree(server: Server, tmp_path: Path) -> None:
    url = str(server.client.base_url)

    shown = vitrine("models", "evaluation", "breast-cancer", url=url)
    tree = vitrine("models", "surrogate", "breast-cancer", url=url)
    drawn = vitrine("models", "surrogate", "breast-cancer", "--svg", str(tmp_path / "tree.svg"), url=url)
    as_json = vitrine("models", "evaluation", "breast-cancer", "--json", url=url)

    assert 0 == shown.returncode, shown.stderr
    for words in ("breast-cancer version 1", "roc_auc", "gradient boosting", "majority", "calibration", "pgd"):
        assert words in shown.stdout
    assert "as a decision tree" in tree.stdout
    assert (tmp_path / "tree.svg").read_bytes().startswith(b"<")
    assert "tree.svg" in drawn.stdout
    assert "robustness" in json.loads(as_json.stdout)

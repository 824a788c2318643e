"""Images over HTTP: uploaded or put into the data folder, trained on, predicted and explained, at every size."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from support import Server, wait_for

pytestmark = pytest.mark.long

N_IMAGES = 200
SIZES = [8, 16, 24]
SPEC: dict[str, Any] = {
    "architecture": {"type": "cnn", "layers": [8]},
    "training": {"epochs": 8, "early_stopping": None, "learning_rate": 0.01},
}
RESIZE = {"image": {"resize": [8, 8], "rescale": "symmetric"}}


def digit(i: int, size: int) -> np.ndarray:
    """One of scikit-learn's digits, from 0 to 240, on so many pixels."""
    bunch: Any = load_digits()
    pixels = (bunch.images[i] * 15).astype(np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.NEAREST))


def label(i: int) -> str:
    bunch: Any = load_digits()
    return str(bunch.target[i])


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def zip_of_several_sizes() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(N_IMAGES):
            archive.writestr(f"{label(i)}/{i}.png", png(digit(i, SIZES[i % len(SIZES)])))
    return buffer.getvalue()


def upload(system: Server, content: bytes) -> dict[str, Any]:
    response = system.client.post("/datasets", files={"file": ("f", content)}, timeout=300)
    assert 201 == response.status_code, response.text
    return response.json()


def refused(response: httpx.Response) -> list[tuple[str, str]]:
    assert 422 == response.status_code, response.text
    return [(error["pointer"], error["expected"]) for error in response.json()["errors"]]


def trained(system: Server, spec: dict[str, Any]) -> dict[str, Any]:
    """The card of the version that a job ends in."""
    accepted = system.client.post("/train", json={**SPEC, **spec}, timeout=300)
    assert 202 == accepted.status_code, accepted.text

    def finished() -> Any:
        document = system.client.get(f"/train/{accepted.json()['job']}").json()
        return document if document["status"] in ("succeeded", "failed") else None

    done = wait_for(finished, seconds=500)
    assert ("succeeded", True) == (done["status"], done["promoted"]), done["error"]
    ask = {"model": spec["model"], "inputs": [[0]]}
    wait_for(lambda: system.client.post("/predict", json=ask).status_code == 422, seconds=500)
    return system.client.get(f"/models/{spec['model']}/versions/champion").json()


def answer(system: Server, path: str, model: str, images: list[np.ndarray], **keys: Any) -> dict[str, Any]:
    response = system.client.post(
        path, json={"model": model, "inputs": [image.tolist() for image in images], **keys}, timeout=300
    )
    assert 200 == response.status_code, response.text
    return response.json()


def test_zip_of_images_of_several_sizes_is_learned_at_the_stated_one(system: Server) -> None:
    sent = upload(system, zip_of_several_sizes())
    spec = {"model": "photos", "dataset": {"id": sent["id"]}}
    without = system.client.post("/train", json={**SPEC, **spec}, timeout=300)
    reported = system.client.get(f"/datasets/{sent['id']}", params={"target": "label"}, timeout=300).json()["report"]

    card = trained(system, {**spec, "preprocessing": RESIZE})
    predicted = answer(system, "/predict", "photos", [digit(i, 8) for i in range(60)])["predictions"]
    explained = answer(system, "/explain", "photos", [digit(0, 8)], method="expected-gradients")
    too_large = system.client.post("/predict", json={"model": "photos", "inputs": [digit(0, 16).tolist()]})
    too_bright = system.client.post("/predict", json={"model": "photos", "inputs": [(digit(0, 8) * 16.0).tolist()]})

    assert ("images", N_IMAGES, 3) == (sent["format"], sent["rows"], sent["report"]["reading"]["different_sizes"])
    assert [("#/preprocessing/image/resize", "a height and a width")] == refused(without)
    assert N_IMAGES == sum(reported["by_target"]["labels"].values())
    assert [[None, None, 1]] == [column["shape"] for column in reported["columns"] if "shape" in column]
    assert N_IMAGES == sum(card["data"]["rows"].values())
    right = [label(i) == one["label"] for i, one in enumerate(predicted)]
    assert np.mean(right) > 0.5
    heatmap = explained["explanations"][0]["targets"][0]["heatmap"]
    assert ("image", [8, 8]) == (heatmap["feature"], heatmap["shape"])
    assert [("#/inputs/0", "an image of 8 x 8 x 1 numbers from 0 to 255")] == refused(too_large)
    assert "a number from 0 to 255" == refused(too_bright)[0][1]


def test_arrays_of_one_size_are_resized_inside_the_model(system: Server) -> None:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        X=np.stack([digit(i, 16) for i in range(N_IMAGES)]),
        y=np.array([label(i) for i in range(N_IMAGES)]),
    )
    sent = upload(system, buffer.getvalue())

    card = trained(
        system,
        {"model": "arrays", "dataset": {"id": sent["id"]}, "features": {"X": "image"}, "preprocessing": RESIZE},
    )
    predicted = answer(system, "/predict", "arrays", [digit(i, 16) for i in range(60)])["predictions"]
    explained = answer(system, "/explain", "arrays", [digit(0, 16)], method="expected-gradients")
    too_small = system.client.post("/predict", json={"model": "arrays", "inputs": [digit(0, 8).tolist()]})

    assert ("onnxruntime", "onnxruntime") == (card["export"]["engine"], card["gradient"]["engine"]), card["gradient"]
    right = [label(i) == one["label"] for i, one in enumerate(predicted)]
    assert np.mean(right) > 0.5
    assert [16, 16] == explained["explanations"][0]["targets"][0]["heatmap"]["shape"]
    assert [("#/inputs/0", "an image of 16 x 16 x 1 numbers from 0 to 255")] == refused(too_small)


def test_folder_of_images_is_trained_on_by_its_path(system: Server) -> None:
    for i in range(120):
        place = system.settings.data_directory / "digits" / label(i) / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(png(digit(i, 8)))

    card = trained(system, {"model": "by-folder", "dataset": {"path": "digits"}})

    assert ({"path": "digits"}, 120) == (card["spec"]["dataset"], sum(card["data"]["rows"].values()))
    assert 64 == len(card["data"]["file_sha256"])

"""Every specification that docs/training.md shows is accepted as it stands there."""

import json
import re
from typing import Any

import pytest

from benchmarks.kinds_of_data import DOCUMENT, IMPORT, examples
from benchmarks.made_data import FILES
from models.sources.folder import DataFolder
from models.spec import parse_spec
from models.spec.importing import parse_import

BLOCKS = [
    json.loads(block)
    for block in re.findall(r"^```json\n(.*?)^```", DOCUMENT.read_text(), flags=re.MULTILINE | re.DOTALL)
]
A_FILE = {"model": "own", "file": "0" * 64}
LOANS = "ssn,zip,sex,income,defaulted\n" + "".join(
    f"{i},0{i % 7}100,{'fm'[i % 2]},{1000 + 37 * i % 900},{('no', 'yes')[i % 3 == 0]}\n" for i in range(60)
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataFolder:
    """The files that the document names."""
    folder = tmp_path_factory.mktemp("data")
    for name, write in FILES.items():
        write(folder / name)
    (folder / "loans.csv").write_text(LOANS)
    return DataFolder(folder)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.get('model', next(iter(block)))}")
def test_specification_is_accepted(data: DataFolder, block: dict[str, Any]) -> None:
    if "given" in block or block == import_example():
        parse_import(A_FILE | block, data.facts_of)
    elif "space" in block:
        parse_spec({"model": "m", "dataset": {"builtin": "digits"}, "search": block}, data.facts_of)
    elif "id" in block["dataset"]:
        # What is uploaded has no id before it is; here it is the one file that is named nowhere else.
        parse_spec({**block, "dataset": {"path": "loans.csv"}}, data.facts_of)
    else:
        parse_spec(block, data.facts_of)


def test_there_is_an_example_for_each_kind_of_data_with_its_gates() -> None:
    found = examples()

    assert [
        "Numbers, and two labels",
        "Numbers, and a value",
        "A mixed table",
        "Images",
        "Series",
        "Texts",
        IMPORT,
        "A search",
    ] == [example.kind for example in found]
    assert all(example.spec["gates"]["fidelity"] for example in found)
    assert all(example.spec in BLOCKS for example in found)


def import_example() -> dict[str, Any]:
    return next(example.spec for example in examples() if example.kind == IMPORT)

"""What the documents say is what runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from support import PATIENT, Server

from service.settings import PREFIX, Settings
from vitrine import Client, VitrineError

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def readme_requests() -> list[tuple[str, str]]:
    """Path and body of each curl line in the README."""
    requests = []
    for block in re.findall(r"^curl .*?(?=^```)", README, flags=re.MULTILINE | re.DOTALL):
        words = shlex.split(block.replace("\\\n", " "))
        address = next(word for word in words if word.startswith("http://"))
        requests.append((address.removeprefix("http://127.0.0.1:8000"), words[words.index("-d") + 1]))
    return requests


def test_the_readme_has_an_example_each_of_predict_explain_and_train() -> None:
    assert [path for path, _ in readme_requests()] == ["/predict", "/explain", "/train"]


@pytest.mark.parametrize(("path", "body"), readme_requests())
def test_the_readme_s_examples_are_answered(server: Server, path: str, body: str) -> None:
    response = server.client.post(path, content=body, headers={"Content-Type": "application/json"})

    assert response.status_code in (200, 202), response.text


@pytest.mark.parametrize(
    "document",
    ["README.md", "CONTRIBUTING.md", "SECURITY.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))],
)
def test_every_link_to_a_file_leads_somewhere(document: str) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / document).read_text())

    assert [link for link in links if not (ROOT / document).parent.joinpath(link).exists()] == []


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("file", sorted((ROOT / "docs").glob("*.md")), ids=lambda file: file.name)
def test_every_link_to_a_section_leads_somewhere(file: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", file.read_text())

    assert [(to, name) for to, name in links if name not in anchors(file.parent / to if to else file)] == []


def test_every_section_of_the_runbook_that_a_cure_names_is_there() -> None:
    sources = [*(ROOT / "service").rglob("*.py"), *(ROOT / "deploy").rglob("*.yml")]
    named = {name for file in sources for name in re.findall(r"runbook\.md#([a-z0-9-]+)", file.read_text())}

    assert named
    assert set() == named - anchors(ROOT / "docs" / "runbook.md")


def test_every_command_that_is_documented_exists() -> None:
    from typer.main import get_command

    from service.__main__ import cli

    documents = [ROOT / "README.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")]
    named = {name for file in documents for name in re.findall(r"`vitrine ([a-z]+)", file.read_text())}

    assert set(getattr(get_command(cli), "commands")) == named  # noqa: B009


def test_every_setting_is_documented_and_nothing_else() -> None:
    named = set(re.findall(r"`(VITRINE_[A-Z_]+[A-Z])`", (ROOT / "docs" / "settings.md").read_text()))

    assert {PREFIX + name.upper() for name in Settings.model_fields} == named


def test_the_python_client_predicts_explains_and_says_what_is_wrong(server: Server) -> None:
    with Client(str(server.client.base_url)) as vitrine:
        (prediction,) = vitrine.predict("diabetes", [PATIENT])
        explanation = vitrine.explain("diabetes", [PATIENT], top_k=2)
        picture = vitrine.picture("diabetes", PATIENT, width=400)
        with pytest.raises(VitrineError) as caught:
            vitrine.predict("diabetes", [PATIENT[:3]])

    assert prediction == explanation["explanations"][0]["prediction"]
    assert picture.startswith(b"\x89PNG")
    assert (caught.value.errors[0]["pointer"], caught.value.status) == ("#/inputs/0", 422)

"""Gates judged again, when another version has become the champion since."""

from __future__ import annotations

from models.artifact import Artifact
from models.errors import DatasetChanged
from models.gates.gate import Champion, Verdict, outputs_of
from models.gates.not_worse import GATE, judge_champion
from models.parts import dataset_of
from models.registry import is_outdated
from models.sources.folder import DataFolder
from models.spec import read_spec


def judge_again(artifact: Artifact, gates: list[Verdict], champion: Champion | None, data: DataFolder) -> list[Verdict]:
    """The verdicts on a version that is in place; that on the champion is made anew where another one is champion now.

    Everything else was judged on what a version holds, which does not change. Where the data has changed meanwhile,
    the version cannot be compared any more, and the gate fails: it is not promoted over a champion it never met.
    """
    number = champion.version if champion else None
    if not is_outdated(gates, number):
        return gates
    try:
        dataset, split = dataset_of(artifact, data)
    except DatasetChanged as change:
        said = {"passed": False, "champion": number, "words": f"Not compared with the champion there is now: {change}"}
        return [{**gate, **said} if gate["gate"] == GATE else gate for gate in gates]
    outputs = outputs_of(artifact)(dataset.inputs[split.test])
    verdict = judge_champion(read_spec(artifact.card["spec"]), dataset, split, outputs, champion)
    return [verdict if gate["gate"] == GATE else gate for gate in gates]

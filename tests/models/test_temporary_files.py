"""What a process that trains leaves behind where it is killed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TRAIN_AND_DIE = """
import os, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import tables
from explain.gradients import KerasGradient
from models.inference import keras_outputs
from models.outputs import target_model

artifact = tables.series_artifact(Path(sys.argv[2]), Path(sys.argv[2]) / "version")
model, signature = artifact.load_keras(), artifact.signature
keras_outputs(model, signature)
KerasGradient(target_model(model, signature, "probability"), 8)
print("alive", flush=True)
os._exit(9)
"""
"""It ends as if it were killed: nothing is tidied up."""


@pytest.mark.soak
def test_training_and_gradients_leave_no_file_when_they_are_killed(tmp_path: Path) -> None:
    temporary, data = tmp_path / "temporary", tmp_path / "data"
    temporary.mkdir()
    data.mkdir()

    done = subprocess.run(
        [sys.executable, "-c", TRAIN_AND_DIE, str(Path(__file__).parent), str(data)],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (9, "alive\n") == (done.returncode, done.stdout), done.stderr
    assert [] == [path.name for path in temporary.iterdir() if "autograph" in path.name]

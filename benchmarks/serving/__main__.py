"""`python -m benchmarks.serving [table] [growth] [open-loop] [in-process]`: how fast predictions are served.

All parts by default. Progress goes to the standard error, markdown to the standard output. Nothing is downloaded: the
servers beside ours are in `.venv-peers`, where `make bench-serving` installs them.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.serving.ending import end_on_sigterm
from benchmarks.serving.servers import ALONE, TOGETHER
from benchmarks.serving.subjects import make_subjects
from benchmarks.tables import describe_machine

PARTS = ("table", "growth", "open-loop", "in-process")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--servers", nargs="+", choices=[*TOGETHER, *ALONE], default=[*TOGETHER, *ALONE])
    parser.add_argument("--rounds", type=int, default=3, help="of the table and of the open loop")
    parser.add_argument("--seconds", type=int, default=2, help="for one cell")
    parser.add_argument("--home", type=Path, help="keeps the trained versions; default: a temporary folder")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"expected parts of {', '.join(PARTS)}; received {', '.join(sorted(unknown))}")
    end_on_sigterm()
    machine = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC. {describe_machine()}."
    print(f"{machine}\n", flush=True)
    folder = nullcontext(options.home) if options.home else tempfile.TemporaryDirectory()
    with folder as home, tempfile.TemporaryDirectory(prefix="serving-") as scratch:
        for part in options.parts or PARTS:
            # Some servers work in folders of their own.
            print(f"{run_part(part, options, Path(home).resolve(), Path(scratch))}\n", flush=True)
    return 0


def run_part(part: str, options: argparse.Namespace, home: Path, scratch: Path) -> str:
    """The report of one part, in markdown."""
    subjects = make_subjects(home)
    if part == "table":
        from benchmarks.serving.table import measure_table, report

        results, servers = measure_table(
            subjects, options.servers, scratch, rounds=options.rounds, seconds=options.seconds
        )
        return report(results, servers, subjects)
    if part == "growth":
        from benchmarks.serving.growth import measure_growth

        return measure_growth(subjects, scratch, seconds=options.seconds)
    if part == "open-loop":
        from benchmarks.serving.disturbed import measure_disturbed

        return measure_disturbed(subjects, scratch, rounds=options.rounds)
    from benchmarks.serving.in_process import measure_in_process

    return measure_in_process(subjects)


if __name__ == "__main__":
    raise SystemExit(main())

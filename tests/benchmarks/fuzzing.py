"""Run numbered cases in processes of their own for some time, and print what went wrong."""

import collections
import json
import subprocess
import sys
import time
from collections.abc import Collection, Sequence

_MOST_CHARACTERS = 2000


def run_processes(
    command: Sequence[str],
    *,
    first: int,
    cases: int,
    minutes: float,
    expected: Collection[str],
) -> None:
    """Run a module again and again, each time with the next cases.

    A process prints `[number, name, outcome]` as JSON for each of its cases. One that ends early
    is a finding of its own; the next process goes on behind it.

    Args:
        command: Module and arguments of `python -m`; `--first` and `--cases` are added.
        first: Number of the first case.
        cases: Cases of a process.
        minutes: Time after which no further process starts; there is at least one.
        expected: Outcomes that are no findings.
    """
    counts: collections.Counter[str] = collections.Counter()
    end, following = time.monotonic() + 60 * minutes, first
    while following == first or time.monotonic() < end:
        numbers = ["--first", str(following), "--cases", str(cases)]
        done = subprocess.run(
            [sys.executable, "-m", *command, *numbers], capture_output=True, text=True, check=False
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line[:1] == "["]
        for number, name, outcome in lines:
            counts[outcome if outcome in expected else "finding"] += 1
            if outcome not in expected:
                _print(f"case {number} ({name}): {outcome}")
        if done.returncode:
            counts["finding"] += 1
            said = done.stderr[-_MOST_CHARACTERS:]
            _print(f"case {following + len(lines)} ended its process: {done.returncode}: {said}")
        following += len(lines) + (1 if done.returncode else 0)
        _print(f"{following - first} cases: {dict(counts)}")


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201

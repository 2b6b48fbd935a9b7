"""What pages for users say models cost is what was measured: docs/reference/model-costs.md."""

import re
from pathlib import Path

from tests.docs.test_commands import REPOSITORY

DOCS = REPOSITORY / "docs"


def rows_of(page: Path, heading: str) -> dict[str, list[str]]:
    """Return the cells of the table with a heading, by the model in the first one."""
    _, found, table = page.read_text("utf-8").partition(heading)
    assert found
    lines = table.split("\n\n")[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {re.findall("`([^`]+)`", cells[0])[0]: cells for cells in rows if "`" in cells[0]}


MEASURED = rows_of(
    DOCS / "reference/model-costs.md", "| model | parameters | CPU-s | ratio | memory |"
)


def seconds_of(model: str) -> str:
    """Return the measured median."""
    return MEASURED[model][2].split(" ")[0]


def test_choosing_a_model() -> None:
    rows = rows_of(DOCS / "how-to/choose-a-model.md", "| model | CPU-s | ratio | memory |")
    assert rows.keys() == MEASURED.keys()
    for model, cells in rows.items():
        assert cells[1:] == [seconds_of(model), *MEASURED[model][3:5]]


def test_readme() -> None:
    rows = rows_of(
        REPOSITORY / "README.md", "| model | stems | quality | CPU-s for 1 s of stereo |"
    )
    checked = set()
    for cells in rows.values():
        models = [name for name in re.findall("`([^`]+)`", cells[0]) if name in MEASURED]
        if models:
            assert cells[3].split(", ") == [seconds_of(model) for model in models]
        checked |= set(models)
    assert {"default", "sfi-conv-tasnet-small", "spleeter-2stems", "scnet"} <= checked

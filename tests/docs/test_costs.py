"""What pages for users say models cost is what was measured: docs/reference/model-costs.md."""

import re
from pathlib import Path

import pytest

from sfisep_core.pretrained.details import show_model
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


def test_details_of_bundled_models() -> None:
    default = show_model("default").cost
    assert default.startswith(f"{seconds_of('default')} CPU-s for 1 s of stereo at 44.1 kHz, ")
    assert f", {MEASURED['default'][5].split(' ')[0]} at 8 kHz" in default
    for model in ("sfi-conv-tasnet-small", "instrumental-unet", "instrumental-conv-tasnet"):
        cells = MEASURED[model]
        assert show_model(model).cost == (
            f"{cells[3]} of what `default` takes at 44.1 kHz, {cells[6]} at 8 kHz (one thread)"
        )


@pytest.mark.parametrize("model", ["default", "sfi-conv-tasnet-small"])
def test_scores_are_those_of_the_card(model: str) -> None:
    card = " ".join((DOCS / "reference/model-default.md").read_text("utf-8").split())
    scores = re.findall(r" (\d+\.\d)[, ]", show_model(model).score)
    before = {"default": "in which a stem sounds: ", "sfi-conv-tasnet-small": "-small` "}[model]
    assert f"{before}{', '.join(scores[1:])} (" in card
    assert scores[0] == "44.1"


def test_ratios_in_words() -> None:
    home = (DOCS / "index.md").read_text("utf-8")
    scnet, large, hdemucs = (
        round(float(MEASURED[model][3])) for model in ("scnet", "scnet-large", "hdemucs")
    )
    assert f"at {scnet} and {large} times the cost" in home
    for model, times in (("scnet", scnet), ("scnet-large", large), ("hdemucs", hdemucs)):
        assert show_model(model).cost.startswith(f"{times} times what `default` takes, at 44.1 kHz")


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

"""Links of the pages outside the site; mkdocs checks those within it."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md"])
def test_linked_files_exist(page: str) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", (REPOSITORY / page).read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (REPOSITORY / link).exists()] == []
    assert local or page != "README.md"

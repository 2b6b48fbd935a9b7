"""The log of a run: one JSON object a line."""

import json
from pathlib import Path
from typing import Any


class RunLog:
    """Append events to a JSONL file.

    Args:
        path: The file; it is continued if it exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **event: Any) -> None:
        """Append one event; written at once, so that a killed run keeps its log."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")

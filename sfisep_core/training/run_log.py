"""The log of a run: one JSON object a line."""

import json
from pathlib import Path
from typing import Any

from sfisep_core.errors import TrainingError


class RunLog:
    """Append events to a JSONL file.

    Args:
        path: The file; it is continued if it exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, **event: Any) -> None:
        """Append one event; written at once, so that a killed run keeps its log.

        Raises:
            TrainingError: It cannot be written.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        except OSError as error:
            msg = f"training: log {self.path}: cannot be written: {error.strerror}"
            raise TrainingError(msg) from error

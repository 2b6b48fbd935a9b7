"""The log of a run: one JSON object per line, and optionally TensorBoard's files."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sfisep_core.errors import ConfigError, TrainingError

_NAME = "log.jsonl"


class RunLog:
    """Append events to `log.jsonl` in the folder of a run.

    Args:
        out: The folder, created if missing. An existing log is continued.
        enabled: False for processes that do not write.
        tensorboard: Also write numbers of events as TensorBoard scalars to
            `<out>/tensorboard`.

    Raises:
        ConfigError: The folder cannot be written to, or TensorBoard is not installed.
    """

    def __init__(self, out: Path, *, enabled: bool = True, tensorboard: bool = False) -> None:
        self.path = out / _NAME
        self._enabled = enabled
        self._scalars: Any = None
        if not enabled:
            return
        try:
            out.mkdir(parents=True, exist_ok=True)
            self.path.open("a").close()
        except OSError as error:
            msg = f"run folder {out}: cannot be written to: {error.strerror}; choose another folder"
            raise ConfigError(msg) from error
        if tensorboard:
            self._scalars = _summary_writer(out / "tensorboard")

    def close(self) -> None:
        """Finish TensorBoard's files."""
        if self._scalars is not None:
            self._scalars.close()

    def write(self, *, event: str, step: int, **values: Any) -> None:
        """Append one event; written at once, so that a killed run keeps its log.

        Raises:
            TrainingError: It cannot be written.
        """
        if not self._enabled:
            return
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"event": event, "step": step, **values}) + "\n")
        except OSError as error:
            msg = (
                f"training: log {self.path}: cannot be written: {error.strerror}: make room, and "
                "go on with --resume"
            )
            raise TrainingError(msg) from error
        if self._scalars is not None and event != "start":
            for name, value in _numbers(values, event):
                self._scalars.add_scalar(name, value, step)


def _numbers(values: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}/{key}")
        elif isinstance(value, int | float):
            yield f"{prefix}/{key}", float(value)


def _summary_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        msg = (
            "--tensorboard: TensorBoard is not installed: run `pip install 'sfisep[tensorboard]'`, "
            "or leave it out"
        )
        raise ConfigError(msg) from error
    return SummaryWriter(str(folder))

import logging
import os
import sys
from collections.abc import Callable, Iterator

import pytest

# Rich decides when it is imported how to draw. The tests read plain text, wherever they run.
for _name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS"):
    os.environ.pop(_name, None)
os.environ["TERM"] = "dumb"


@pytest.fixture
def run_sfisep(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Run the command line in this process and return its exit code; its lines may be long."""
    from sfisep_cli import render
    from sfisep_cli.app import main

    # They look for the width of the terminal when they are made, in whichever test that is.
    for console in (render.console, render.output):
        monkeypatch.setattr(console, "_width", 300)

    logger = logging.getLogger("sfisep_core")
    level, handlers, hook = logger.level, list(logger.handlers), sys.excepthook

    def run(*arguments: object) -> int:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        assert isinstance(stopped.value.code, int)
        return stopped.value.code

    yield run
    # The command line owns its process: it sets up the log and the traceback for good.
    logger.setLevel(level)
    logger.handlers[:] = handlers
    sys.excepthook = hook

"""Every command line in the README and the documentation is one that the program takes."""

import logging
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from sfisep_cli.app import app

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted([REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")])
PROGRAM = "sfisep"
# Stand for what the reader puts in.
PLACEHOLDERS = {"COMMAND"}
ENDS = {"&&", "|", ";", ">", "<", "&"}


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """Options such as --quiet set up the log when they are parsed."""
    logger = logging.getLogger("sfisep_core")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers


def blocks_of(page: Path) -> Iterator[str]:
    """Yield the lines of a page's blocks of shell."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        yield from block.replace("\\\n", " ").splitlines()


def mentions_of(page: Path) -> Iterator[str]:
    """Yield the code in a page's text."""
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose))


def calls_in(lines: Callable[[Path], Iterator[str]]) -> list[Any]:
    """Return the words of each call of the program, as parameters named after page and words."""
    calls = set()
    for page in PAGES:
        for line in lines(page):
            words = shlex.split(line, comments=True) if PROGRAM in line else []
            for number, word in enumerate(words):
                rest = words[number + 1 :]
                ends = [i for i, other in enumerate(rest) if other in ENDS]
                rest = rest[: min(ends, default=len(rest))]
                if word == PROGRAM and rest and rest[0] not in PLACEHOLDERS:
                    calls.add((str(page.relative_to(REPOSITORY)), shlex.join(rest)))
    return [pytest.param(line, id=f"{page}: {line}") for page, line in sorted(calls)]


def command_of(words: list[str]) -> tuple[Any, typer.Context, list[str]]:
    """Return the command that words name, its parent's context, and the other words."""
    command: Any = typer.main.get_command(app)
    context = typer.Context(command, info_name=PROGRAM)
    while hasattr(command, "get_command") and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"there is no command {words[0]}"
        command, words = found, words[1:]
    return command, context, words


@pytest.mark.parametrize("line", calls_in(blocks_of))
def test_command_lines_are_valid(line: str) -> None:
    command, context, words = command_of(shlex.split(line))
    if words or not hasattr(command, "get_command"):
        command.make_context(command.name, words, parent=context)


@pytest.mark.parametrize("line", calls_in(mentions_of))
def test_options_that_are_mentioned_exist(line: str) -> None:
    command, context, words = command_of(shlex.split(line))
    known = {name for param in command.get_params(context) for name in (*param.opts, "-h")}
    known |= {name for param in command.get_params(context) for name in param.secondary_opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known


def test_wrong_lines_are_noticed() -> None:
    with pytest.raises(Exception, match="No such option"):
        test_command_lines_are_valid("separate song.wav --no-such")
    for line in ("no-such song.wav", "models no-such a"):
        with pytest.raises(AssertionError, match="there is no command no-such"):
            test_command_lines_are_valid(line)
    with pytest.raises(AssertionError):
        test_options_that_are_mentioned_exist("separate --no-such")

import io

import pytest
from rich.console import Console

from sfisep_cli import render


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 100 columns is sent."""
    monkeypatch.setenv("TERM", "xterm")
    sent = io.StringIO()
    console = Console(file=sent, force_terminal=True, width=100, highlight=False)
    monkeypatch.setattr(render, "console", console)
    return sent


def test_progress_shows_share_and_label_as_they_are(terminal: io.StringIO) -> None:
    with render.progress_bar(quiet=False) as show_progress:
        show_progress(9.0, 10.0, "first")
        show_progress(0.5, 2.0, "[b]song[/b].wav")
    assert "[b]song[/b].wav" in terminal.getvalue()
    assert " 25%" in terminal.getvalue()


def test_message_stays_above_the_progress_bar(terminal: io.StringIO) -> None:
    with render.progress_bar(quiet=False) as show_progress:
        show_progress(1, 2, "song")
        render.show_message("step [1]")
    assert "step [1]\n" in terminal.getvalue()


def test_quiet_shows_no_progress(terminal: io.StringIO) -> None:
    with render.progress_bar(quiet=True) as show_progress:
        show_progress(1, 2, "song")
    assert terminal.getvalue() == ""

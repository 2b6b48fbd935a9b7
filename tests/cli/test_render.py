import io
import logging
import re

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


def test_log_file_receives_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = io.StringIO()
    monkeypatch.setattr(render, "console", Console(file=sent, width=100))
    now = 1000.0
    monkeypatch.setattr(render.time, "monotonic", lambda: now)
    with render.progress_bar(quiet=False) as show_progress:
        for done in range(101):
            now = 1000.0 + done
            show_progress(done, 200, f"track {done}")
    assert sent.getvalue() == "track 60: 30%, 0:02:20 left\n"


def test_log_file_of_quiet_work_stays_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = io.StringIO()
    monkeypatch.setattr(render, "console", Console(file=sent, width=100))
    monkeypatch.setattr(render, "_SECONDS_BETWEEN_LINES", 0.0)
    with render.progress_bar(quiet=True) as show_progress:
        show_progress(1, 2, "song")
    assert sent.getvalue() == ""


def test_time_left_is_that_of_the_mean_pace() -> None:
    pace = render.Pace()
    assert pace.seconds_left(now=0.0) is None
    pace.note(100, 200, now=10.0)  # a run that goes on begins at its hundredth step
    assert pace.seconds_left(now=11.0) is None
    pace.note(110, 200, now=30.0)  # ten steps in 20 s: 90 more take 180 s
    assert pace.seconds_left(now=30.0) == 180.0
    assert pace.seconds_left(now=35.0) == 175.0  # it goes on while nothing is reported
    pace.note(120, 200, now=60.0)  # 20 steps in 50 s
    assert pace.seconds_left(now=60.0) == 200.0
    assert pace.seconds_left(now=900.0) == 0.0


def test_time_left_begins_anew_with_other_work() -> None:
    pace = render.Pace()
    pace.note(0, 10, now=0.0)
    pace.note(5, 10, now=50.0)
    pace.note(0, 4, now=100.0)
    assert pace.seconds_left(now=100.0) is None
    pace.note(1, 4, now=101.0)
    assert pace.seconds_left(now=101.0) == 3.0


def test_long_label_leaves_room_for_the_bar(terminal: io.StringIO) -> None:
    with render.progress_bar(quiet=False) as show_progress:
        show_progress(1, 2, "2 of 5: " + "very " * 30 + "long.wav")
    lines = re.sub(r"\x1b\[[^A-Za-z]*[A-Za-z]", "", terminal.getvalue())
    assert "2 of 5: very" in lines
    assert "…" in lines
    assert " 50%" in lines
    assert "-:--:-- left" in lines


def test_entries_break_descriptions_between_words_and_facts_never(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = io.StringIO()
    monkeypatch.setattr(render, "output", Console(file=sent, width=30))
    name = "a-name-that-is-longer-than-the-terminal"
    entries = [((name, "8 kHz"), "see docs/reference/model-default.md for more"), (("b", ""), "")]
    render.show_entries(entries, ("name", "rate"))
    assert sent.getvalue().splitlines() == [
        f"{'name':{len(name)}}  rate",
        f"{name}  8 kHz",
        "    see",
        "    docs/reference/model-default.md",
        "    for more",
        "b",
    ]


def test_names_from_outside_do_nothing_to_the_terminal(
    terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "output", render.console)
    name = "\x1b]0;owned\x07\x9b2J\u202e" + "x" * 10_000
    render.show_error(name)
    render.show_message(name)
    render.show_output(name)
    render.show_entries([((name,), name)], ["name"])
    render.show_table([name], [[name]], target=render.console)
    handler = render._TerminalHandler()
    handler.emit(logging.LogRecord("sfisep_core", logging.WARNING, "", 0, "%s", (name,), None))
    with render.progress_bar(quiet=False) as show_progress:
        show_progress(1, 2, name)
    sent = terminal.getvalue()
    assert sent.count(r"\x1b]0;owned\x07\x9b2J\u202e") >= 6
    assert "\x1b]0" not in sent
    assert not any(letter in sent for letter in "\x07\x9b\u202e")
    assert len(sent) < 9 * 2100

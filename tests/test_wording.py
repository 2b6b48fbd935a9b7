"""Text from outside is shown on one line, without control characters, and short."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfisep_core.errors import DatasetError
from sfisep_core.foundation.interrupts import StoppedBySignal
from sfisep_core.wording import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("song.wav", "song.wav"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x9b31m", "\\x9b31m"),  # one character that begins a sequence, too
        ("a\nerror: b\r", "a\\nerror: b\\r"),
        ("\u202egpj.wav", "\\u202egpj.wav"),  # shown from right to left
        ("\u2028", "\\u2028"),
        ("\udcff\ud800", "\\xff\\ud800"),  # a byte that is no UTF-8, and half a character
        ("\U000e0041", "\\U000e0041"),
        ("naïve 曲\u3000名 \u0645\u06cc\u200c\u062e 👩\u200d🎤", None),
    ],
)
def test_control_characters_are_escaped_and_languages_are_not(text: str, shown: str | None) -> None:
    assert printable(text) == (text if shown is None else shown)


def test_long_text_keeps_beginning_and_end() -> None:
    text = printable(f"file {'x' * 10**6}: expected less: shorten it")
    assert len(text) == 2000
    assert text.startswith("file xxx")
    assert text.endswith("xxx: expected less: shorten it")
    assert len(printable("\x1b" * 10**6)) == 2000


@given(st.text(max_size=30))
def test_what_can_be_shown_stays_the_same(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    assert "\x1b" not in shown
    shown.encode()  # has no surrogates


@pytest.mark.parametrize("pickled", [False, True])
def test_every_error_can_be_shown(pickled: bool) -> None:
    error = DatasetError("track \x1b[2J" + "x" * 5000)
    if pickled:
        error = pickle.loads(pickle.dumps(error))  # noqa: S301  # as between processes
    assert str(error).startswith("track \\x1b[2Jxxx")
    assert len(str(error)) == 2000
    assert str(StoppedBySignal("\x07", signal_number=2)) == "\\x07"

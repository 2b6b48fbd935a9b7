"""A signal ends the process wherever it arrives."""

import signal
import sys
import time
from collections.abc import Callable

import pytest

from sfisep_core.foundation.exit_signals import cleaned_up_after_signals


class Finalized:
    """An object whose finalizer does something."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action

    def __del__(self) -> None:
        self.action()


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_signal_in_a_finalizer_is_not_lost(
    number: signal.Signals, expected: type[BaseException]
) -> None:
    passed = False
    with pytest.raises(expected) as caught, cleaned_up_after_signals():  # noqa: PT012
        Finalized(lambda: signal.raise_signal(number))
        passed = True  # Python has dropped the first
        time.sleep(10)
    assert passed
    if expected is SystemExit:
        assert caught.value.args == (128 + number,)


def test_other_losses_are_told_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: told.append(lost.exc_type))
    with cleaned_up_after_signals():
        Finalized(lambda: 1 / 0)
        Finalized(sys.exit)
    assert told == [ZeroDivisionError, SystemExit]
    Finalized(lambda: [][0])
    assert told[2:] == [IndexError]

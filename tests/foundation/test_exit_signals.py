"""A signal ends the process wherever it arrives."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable

import pytest

from sfisep_core.foundation.exit_signals import cleaned_up_after_signals, raise_received
from sfisep_core.foundation.interrupts import catch_interrupts


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


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
@pytest.mark.parametrize("then", [RuntimeError, SystemExit, None])
def test_signal_that_a_library_makes_another_error_of_counts(
    number: signal.Signals,
    expected: type[BaseException],
    then: type[BaseException] | None,
) -> None:
    def swallow() -> None:
        try:
            signal.raise_signal(number)
        except BaseException:
            if then is not None:
                raise then from None

    with pytest.raises(expected) as caught, cleaned_up_after_signals():
        swallow()
    if expected is SystemExit:
        assert caught.value.args == (128 + number,)
    raise_received()  # forgotten


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_is_raised_again_where_any_error_is_caught(number: signal.Signals) -> None:
    with (  # noqa: PT012
        pytest.raises((SystemExit, KeyboardInterrupt)),
        cleaned_up_after_signals(),
    ):
        raise_received()  # nothing came
        with contextlib.suppress(BaseException):
            signal.raise_signal(number)
        raise_received()
        pytest.fail("the work goes on")


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with cleaned_up_after_signals():
            signal.raise_signal(signal.SIGHUP)
        with catch_interrupts() as interrupts:
            signal.raise_signal(signal.SIGHUP)
        assert interrupts.received == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

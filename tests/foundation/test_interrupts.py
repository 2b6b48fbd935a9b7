import os
import signal
import threading

import pytest

from sfisep_core.foundation.interrupts import StoppedBySignal, catch_interrupts


def send(number: int) -> None:
    os.kill(os.getpid(), number)
    # A handler runs between two bytecodes of the main thread.
    for _ in range(1000):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_are_collected_and_handlers_put_back(number: int) -> None:
    before = signal.getsignal(number)
    with catch_interrupts() as interrupts:
        assert interrupts.received == 0
        send(number)
        assert interrupts.received == number
    assert signal.getsignal(number) is before


def test_second_interrupt_stops_at_once_where_it_is_the_users() -> None:
    with catch_interrupts() as interrupts:
        send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)
    with catch_interrupts(twice_stops=False) as interrupts:
        send(signal.SIGINT)
        send(signal.SIGINT)
        assert interrupts.received == signal.SIGINT


def test_immediate_ends_at_a_signal() -> None:
    with catch_interrupts() as interrupts:
        with (
            pytest.raises(StoppedBySignal, match="go on so") as caught,
            interrupts.immediate("go on so"),
        ):
            send(signal.SIGTERM)
        assert caught.value.signal_number == signal.SIGTERM
        with pytest.raises(StoppedBySignal), interrupts.immediate("go on so"):
            pytest.fail("a signal that has come in before ends the block, too")


def test_other_threads_get_none() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def run() -> None:
        with catch_interrupts() as interrupts:
            found.append((interrupts.received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [(0, before)]

"""Do independent pieces of work in several processes."""

import itertools
import logging
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NoReturn, TypeVar

from sfisep_core.errors import DatasetError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Record = tuple[str, int, str]  # logger, level, message

# Longer than the longest call into a library that a signal has to wait for.
_PATIENCE_SECONDS = 10.0

# What the other end of a connection raises when its process is gone.
_ENDED = (EOFError, OSError)


def run_in_workers(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    jobs: int,
    killed: Callable[[_Item], _Result] | None = None,
) -> Generator[tuple[_Item, _Result], None, None]:
    """Apply a function to every item, in any order.

    Closing the generator, or an exception in it, ends the processes; what they were doing is
    cleaned up as after an exception. They also end by themselves when this process is gone. What
    they log is logged here.

    Args:
        function: Of a module, so that the processes find it.
        items: What can be pickled.
        jobs: Processes, 1 or more; 1 works in this one.
        killed: Gives the result of an item whose process was killed, and another process goes on
            with the others; None raises an error instead.

    Yields:
        An item and its result, as soon as there is one.

    Raises:
        DatasetError: A process was killed.
        Exception: What the function raised.
    """
    if min(jobs, len(items)) <= 1:
        for item in items:
            yield item, function(item)
        return
    # Not forked: a fork copies locks that threads of this process hold.
    context = multiprocessing.get_context("spawn")
    waiting = iter(items)
    processes: list[SpawnProcess] = []
    busy: dict[Connection, _Item] = {}

    def start(some: Iterable[_Item]) -> None:
        started = []
        with _interrupts_held():
            for item in some:
                ours, theirs = context.Pipe()
                process = context.Process(target=_work, args=(function, theirs), daemon=True)
                process.start()
                processes.append(process)
                theirs.close()  # the process holds it: its end is then seen here
                busy[ours] = item
                started.append(ours)
        for connection in started:
            _send(connection, busy[connection])

    try:
        start(itertools.islice(waiting, jobs))
        while busy:
            for connection in [c for c in wait(list(busy)) if isinstance(c, Connection)]:
                item = busy.pop(connection)
                try:
                    reply = connection.recv()
                except _ENDED as error:
                    connection.close()
                    if killed is None:
                        msg = (
                            "a worker process was killed, as happens where memory runs out: run "
                            "the same command again with fewer --jobs; what is done is not done "
                            "again"
                        )
                        raise DatasetError(msg) from error
                    result = killed(item)
                    start(itertools.islice(waiting, 1))
                else:
                    result = _result(*reply)
                    following = next(waiting, None)
                    if following is None:
                        connection.close()
                    else:
                        busy[connection] = following
                        _send(connection, following)
                yield item, result
    finally:
        for connection in busy:
            connection.close()
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(_PATIENCE_SECONDS)
            process.kill()
            process.join()


def _send(connection: Connection, item: object) -> None:
    with suppress(*_ENDED):  # receiving will tell
        connection.send(item)


def _result(result: Any, records: list[_Record]) -> Any:
    """Log what a process logged, and give its result, or raise what it raised."""
    for name, level, message in records:
        logging.getLogger(name).log(level, "%s", message)
    if isinstance(result, Exception):
        raise result
    return result


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Start processes that ignore Ctrl-C, which a terminal sends to all: this process decides."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # started with the first process, it would unblock them
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(function: Callable[[_Item], _Result], connection: Connection) -> None:
    """Serve items until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    log = _Log()
    logger = logging.getLogger("sfisep_core")
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    with suppress(*_ENDED):
        while True:
            item = connection.recv()
            try:
                result: object = function(item)
            except Exception as error:
                result = error
            connection.send((result, log.take()))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # on its way out: nothing is to be cut short


def _stop(*_: object) -> NoReturn:
    """Leave as after an exception, so that temporary files are removed."""
    raise SystemExit(128 + signal.SIGTERM)


class _Log(logging.Handler):
    """Keep messages for the process that shows them."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[_Record] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append((record.name, record.levelno, record.getMessage()))

    def take(self) -> list[_Record]:
        """Give the messages since the last call."""
        records, self._records = self._records, []
        return records

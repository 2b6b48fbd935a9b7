"""Apply a function to independent items in several local processes."""

import itertools
import logging
import multiprocessing
import signal
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, TypeVar

from sfisep_core.errors import WorkerError
from sfisep_core.foundation.exit_signals import leave, raise_received
from sfisep_core.foundation.interrupts import ctrl_c_blocked
from sfisep_core.foundation.parents import end_with_parent

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Record = tuple[str, int, str]  # logger, level, message

Reply = tuple[Any, list[_Record]]
"""The result or the exception of a function, and the messages that it logged."""

# Longer than any call into a library, which delays signals.
_PATIENCE_SECONDS = 10.0
# The same after the parent has ended.
_ORPHAN_SECONDS = 3.0

# Exceptions of a connection whose other process has ended.
_ENDED = (EOFError, OSError)


def run_in_processes(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    workers: int,
    killed: Callable[[_Item], _Result] | None = None,
) -> Generator[tuple[_Item, _Result], None, None]:
    """Apply a function to every item, see `jobs.run_jobs`.

    Args:
        function: A module-level function.
        items: Values that can be pickled.
        workers: Number of processes, 1 or more.
        killed: Builds the result of an item whose process was killed; None raises an error.

    Yields:
        An item and its result.

    Raises:
        WorkerError: A process was killed.
        Exception: Any exception of the function.
    """
    # Not forked, because a fork copies locks held by threads of this process.
    context = multiprocessing.get_context("spawn")
    waiting = iter(items)
    processes: list[SpawnProcess] = []
    busy: dict[Connection, _Item] = {}

    def start(some: Iterable[_Item]) -> None:
        started = []
        with ctrl_c_blocked():
            for item in some:
                ours, theirs = context.Pipe()
                process = context.Process(target=_serve, args=(theirs,), daemon=True)
                process.start()
                processes.append(process)
                theirs.close()  # only the process holds it then, so its end is detected here
                busy[ours] = item
                started.append(ours)
        for connection in started:
            send(connection, busy[connection])

    def send(connection: Connection, item: _Item) -> None:
        with suppress(*_ENDED):  # receiving reports the error
            connection.send((function, item))

    try:
        start(itertools.islice(waiting, workers))
        while busy:
            for connection in [c for c in wait(list(busy)) if isinstance(c, Connection)]:
                item = busy.pop(connection)
                try:
                    reply = connection.recv()
                except _ENDED as error:
                    connection.close()
                    result = result_of_killed(item, killed, error)
                    start(itertools.islice(waiting, 1))
                else:
                    result = result_of(reply)
                    following = next(waiting, None)
                    if following is None:
                        connection.close()
                    else:
                        busy[connection] = following
                        send(connection, following)
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


def result_of(reply: Reply) -> Any:
    """Log a worker's messages, and return its result or raise its exception."""
    result, records = reply
    for name, level, message in records:
        logging.getLogger(name).log(level, "%s", message)
    if isinstance(result, Exception):
        raise result
    return result


def result_of_killed(
    item: _Item, killed: Callable[[_Item], _Result] | None, cause: BaseException
) -> _Result:
    """Return the result of an item whose worker was killed.

    Raises:
        WorkerError: `killed` is None.
    """
    if killed is None:
        msg = (
            "a worker process was killed, as happens where memory runs out: run the same command "
            "again with fewer --jobs; what is done is not done again"
        )
        raise WorkerError(msg) from cause
    return killed(item)


class Worker:
    """Applies functions in a worker process, and collects their log messages."""

    def __init__(self) -> None:
        self._log = _Log()
        logger = logging.getLogger("sfisep_core")
        logger.addHandler(self._log)
        logger.setLevel(logging.INFO)
        logger.propagate = False

    def work(self, function: Callable[[Any], Any], item: object) -> Reply:
        """Apply a function to an item."""
        try:
            result: object = function(item)
        except Exception as error:
            raise_received()
            result = error
        return result, self._log.take()


def _serve(connection: Connection) -> None:
    """Apply functions to items until the other end is closed.

    The functions come with the items, because receiving one imports its module: that may take long,
    and the parent end meanwhile.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, leave)
    end_with_parent(patience=_ORPHAN_SECONDS)
    worker = Worker()
    with suppress(*_ENDED):
        while True:
            connection.send(worker.work(*connection.recv()))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # do not interrupt the clean-up


class _Log(logging.Handler):
    """Collect messages for the process that shows them."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[_Record] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._records.append((record.name, record.levelno, record.getMessage()))

    def take(self) -> list[_Record]:
        """Return the messages since the last call."""
        records, self._records = self._records, []
        return records

"""Processes that end when their parent ends."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable

_LOOK_AGAIN_SECONDS = 1.0


def when_parent_ends(act: Callable[[], None], *, parent_id: int | None = None) -> None:
    """Call a function in a separate thread once the process that started this one has ended.

    Args:
        act: The function.
        parent_id: Process ID of the parent, which may have ended by now; None takes the present
            one. Processes of `multiprocessing` know theirs.
    """
    # The parent of a forked worker is the fork server; multiprocessing knows the real parent.
    parent = multiprocessing.parent_process()
    number = os.getppid() if parent_id is None else parent_id

    def watch() -> None:
        if parent is not None:
            parent.join()
        else:
            while os.getppid() == number:
                time.sleep(_LOOK_AGAIN_SECONDS)
        act()

    threading.Thread(target=watch, daemon=True).start()


def end_with_parent(*, patience: float | None = None, parent_id: int | None = None) -> None:
    """End this process, as with SIGTERM, once its parent has ended.

    Args:
        patience: Seconds after which the process is forced to end; None waits until SIGTERM is
            handled, which a call into a library delays.
        parent_id: See `when_parent_ends`.
    """

    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        if patience is not None:
            time.sleep(patience)
            os._exit(128 + signal.SIGTERM)

    when_parent_ends(end, parent_id=parent_id)

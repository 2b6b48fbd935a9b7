"""Processes that do not outlive the one that started them."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable

_LOOK_AGAIN_SECONDS = 1.0


def when_parent_ends(act: Callable[[], None]) -> None:
    """Call a function, in a thread of its own, once the process that started this one is gone.

    Args:
        act: What to do then.
    """
    # A process of a fork server is the child of that server; multiprocessing knows for whom.
    parent, number = multiprocessing.parent_process(), os.getppid()

    def watch() -> None:
        if parent is not None:
            parent.join()
        else:
            while os.getppid() == number:
                time.sleep(_LOOK_AGAIN_SECONDS)
        act()

    threading.Thread(target=watch, daemon=True).start()


def end_with_parent(*, patience: float | None = None) -> None:
    """End this process as SIGTERM does once its parent is gone.

    Args:
        patience: Seconds after which it ends whatever it is in; None waits until SIGTERM is heard.
            A call into a library is not interrupted by a signal.
    """

    def end() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        if patience is not None:
            time.sleep(patience)
            os._exit(128 + signal.SIGTERM)

    when_parent_ends(end)

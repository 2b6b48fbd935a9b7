"""Start one process per GPU on this machine, with PyTorch's elastic launcher.

If a process dies, the launcher stops the others and starts all of them again; they resume from the
last checkpoint. Errors that the user has to fix are not retried: the first process with such an
error writes it to a folder that all share, and restarted processes end at once.
"""

import json
import logging
import os
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sfisep_core.errors import TrainingError
from sfisep_core.foundation.parents import end_with_parent
from sfisep_core.foundation.temporary_folders import temporary_folder
from sfisep_core.wording import counted

_FOLDER = "SFISEP_LAUNCH_FOLDER"
_LAUNCHER = "SFISEP_LAUNCHER"
# Longer than a step takes, and a checkpoint after it. Connecting to a launcher that has ended goes
# on for half an hour, whatever signals come.
_ORPHAN_SECONDS = 60.0


def has_launcher() -> bool:
    """Tell whether `launch` has started this process."""
    return _FOLDER in os.environ


def end_with_launcher() -> None:
    """End this process, as with SIGTERM, once the launcher that has started it has ended.

    To be called before anything that takes long: the launcher may be killed at any time.
    """
    if _LAUNCHER in os.environ:
        end_with_parent(patience=_ORPHAN_SECONDS, parent_id=int(os.environ[_LAUNCHER]))


def leave() -> NoReturn:
    """Exit a launched process whose work is done without Python's finalisation.

    Threads of the process group may still exist then, and a thread that requests the GIL during
    finalisation aborts the process, so that the launcher would restart all.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def report_failure(message: str, *, exit_code: int) -> bool:
    """Report the error of a launched process to its launcher.

    Args:
        message: The error.
        exit_code: Exit code of the process.

    Returns:
        Whether there is a launcher; if not, the process must show the error itself.
    """
    folder = os.environ.get(_FOLDER)
    if folder is None:
        return False
    report = json.dumps({"message": message, "exit_code": exit_code})
    Path(folder, f"{os.environ.get('RANK', '0')}.json").write_text(report, encoding="utf-8")
    return True


def earlier_failure() -> int | None:
    """Return the exit code of an error reported by an earlier launched process, or None."""
    folder = os.environ.get(_FOLDER)
    reports = _read_reports(Path(folder)) if folder is not None else []
    return reports[0][1] if reports else None


def launch(arguments: Sequence[str], *, processes: int, max_restarts: int) -> int:
    """Run a Python command line in several processes, and wait for them.

    Args:
        arguments: Arguments of `python`, e.g. `-m`, `package`, `command`.
        processes: Number of processes.
        max_restarts: Maximum number of restarts after a process died.

    Returns:
        Exit code: 0, or 128 + the number of the signal that stopped the processes.

    Raises:
        LaunchError: A process reported an error (see `exit_code`), or died too often.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from sfisep_core.training import local_rendezvous

    local_rendezvous.register()
    # Its long warnings and tables are replaced by the one-line message below.
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    # Of a container's share, where the system tells it.
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    threads = max(1, cores // processes)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    interface = local_rendezvous.loopback_interface()
    if interface is not None:  # Gloo takes the one of the machine's name, which others can reach
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    with temporary_folder() as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend=local_rendezvous.BACKEND,
            max_restarts=max_restarts,
            signals_to_handle="SIGTERM,SIGINT,SIGHUP",
            logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
        )
        os.environ[_FOLDER], os.environ[_LAUNCHER] = str(folder), str(os.getpid())
        try:
            elastic_launch(config, sys.executable)(*arguments)
        except SignalException as error:
            return 128 + int(error.sigval)
        except ChildFailedError as error:
            reports = _read_reports(folder)
            if reports:
                raise LaunchError(*reports[0]) from error
            rank, failure = error.get_first_failure()
            cause = (
                f"was killed by signal {-failure.exitcode}"
                if failure.exitcode < 0
                else f"ended with exit code {failure.exitcode}"
            )
            msg = (
                f"training process {rank} of {processes} {cause}, after "
                f"{counted(max_restarts, 'restart')}; "
                "memory may have run out: try fewer processes or a smaller batch_size"
            )
            raise LaunchError(msg, 1) from error
        finally:
            del os.environ[_FOLDER], os.environ[_LAUNCHER]
    return 0


class LaunchError(TrainingError):
    """The processes of a run ended with an error.

    Attributes:
        exit_code: Exit code for the launcher.
    """

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def _read_reports(folder: Path) -> list[tuple[str, int]]:
    reports = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    return [(str(report["message"]), int(report["exit_code"])) for report in reports]

"""Apply a function to independent items on the machines of a Ray cluster."""

import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from sfisep_core.errors import ConfigError, DeviceError, WorkerError
from sfisep_core.foundation.interrupts import signals_deferred
from sfisep_core.foundation.workers import Reply, Worker, result_of, result_of_killed

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# An item whose worker dies is retried once: the machine may have failed, or the item is the cause.
_TRIES = 2
_CONNECT_SECONDS = 10.0
# What a client of gRPC says first, with no settings; a server answers with its own.
_HTTP2_SETTINGS = b"\x04"
_HTTP2_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _HTTP2_SETTINGS + bytes(5)
_HTTP2_FRAME_HEAD = 9  # bytes
# Maximum delay of a signal.
_LOOK_AGAIN_SECONDS = 0.2
# The first version with tokens: without one, anybody who can reach a port can run programs.
_FIRST_VERSION = (2, 52)
# Applies to all systems, in spite of its name: with "0" a cluster has only this machine, and
# listens on the loopback address.
_CLUSTERS_ALLOWED = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


def run_on_ray(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    workers: int,
    on_gpu: bool,
    killed: Callable[[_Item], _Result] | None = None,
) -> Generator[tuple[_Item, _Result], None, None]:
    """Apply a function to every item with Ray, see `jobs.run_jobs`.

    Files are read and written by the workers, so paths must be valid on all machines. The cluster
    is that of the environment variable RAY_ADDRESS. Without it, a cluster that only this machine
    can reach is started, and ended afterwards.

    Args:
        function: Function of a module that is installed on the machines.
        items: Values that can be pickled.
        workers: Number of workers. A worker uses one CPU, and optionally one GPU.
        on_gpu: Whether each uses a GPU, the only one that is visible to it.
        killed: Builds the result of an item whose worker died twice; None raises an error.

    Yields:
        An item and its result.

    Raises:
        ConfigError: Ray is not installed, or too old.
        DeviceError: The cluster does not exist, or has no GPU.
        WorkerError: A worker was killed, or does not have the working directory.
        Exception: Any exception of the function.
    """
    with _cluster(workers) as ray:
        from ray.exceptions import RayActorError

        # Workers beyond the cluster's capacity would wait forever.
        workers = min(workers, _room(ray, "GPU" if on_gpu else "CPU"))
        actor = ray.remote(num_cpus=1, num_gpus=int(on_gpu), max_restarts=0)(_RayWorker)
        waiting = [(item, 1) for item in reversed(items)]
        busy: dict[Any, tuple[Any, _Item, int]] = {}
        idle = [actor.remote() for _ in range(workers)]
        folder = os.getcwd()
        try:
            while waiting or busy:
                while waiting and idle:
                    worker, (item, tries) = idle.pop(), waiting.pop()
                    busy[worker.run.remote(folder, function, item)] = (worker, item, tries)
                with signals_deferred():  # Ray would lose their exit codes
                    ready, _ = ray.wait(list(busy), num_returns=1, timeout=_LOOK_AGAIN_SECONDS)
                if not ready:
                    continue
                (done,) = ready
                worker, item, tries = busy.pop(done)
                try:
                    with signals_deferred():
                        reply = ray.get(done)
                except RayActorError as error:
                    idle.append(actor.remote())
                    if tries < _TRIES:
                        waiting.append((item, tries + 1))
                        continue
                    result = result_of_killed(item, killed, error)
                else:
                    idle.append(worker)
                    result = result_of(reply)
                yield item, result
        finally:
            for worker in [*idle, *(worker for worker, _, _ in busy.values())]:
                ray.kill(worker)


@contextmanager
def _cluster(workers: int) -> Iterator[Any]:
    """Connect to the cluster within the block, and yield the module `ray`.

    A connection that the program itself has opened with `ray.init` is kept.
    """
    _check_version()
    address = os.environ.get("RAY_ADDRESS") or None
    if address is None and "ray" not in sys.modules:
        _keep_to_this_machine()
    import ray
    from ray.exceptions import RayError

    if ray.is_initialized():
        yield ray
        return
    if address is None and os.environ.get(_CLUSTERS_ALLOWED) != "0":
        msg = (
            "engine ray: this program has imported Ray before, and a cluster that is started here "
            "would listen to other machines: call ray.init() first, or set RAY_ADDRESS"
        )
        raise ConfigError(msg)
    # Ray installs its own handler of SIGTERM, which ends the process.
    with signals_deferred():
        try:
            if address:
                _check_address(address)
            ray.init(
                address=address,
                num_cpus=None if address else workers,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
        except SystemExit as error:
            raise SystemExit(128 + signal.SIGTERM) from error
        except (ConnectionError, OSError, ValueError, RuntimeError, RayError) as error:
            where = f"at RAY_ADDRESS={address}" if address else "to start on this machine"
            msg = f"engine ray: expected a Ray cluster {where}, got {error}"
            raise DeviceError(msg) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_version() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        installed = version("ray")
    except PackageNotFoundError as error:
        msg = "engine ray: Ray is not installed: pip install 'sfisep[ray]', or leave --engine out"
        raise ConfigError(msg) from error
    numbers = tuple(int(number) for number in re.findall(r"\d+", installed)[:2])
    if numbers < _FIRST_VERSION:
        first = ".".join(map(str, _FIRST_VERSION))
        msg = (
            f"engine ray: expected Ray {first} or later, which lets nobody in without a token, got "
            f"{installed}: pip install --upgrade 'sfisep[ray]'"
        )
        raise ConfigError(msg)


def _keep_to_this_machine() -> None:
    """Restrict a cluster that is started here to the loopback address, with a token.

    Ray reads these variables once, on import.
    """
    os.environ[_CLUSTERS_ALLOWED] = "0"
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        import secrets  # with hashing: 10 ms that no other command should wait for

        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _check_address(address: str) -> None:
    """Raise an OSError unless HTTP/2 is spoken at an address, as Ray would retry for minutes.

    Signals would wait for it. With TLS only a connection is tried.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal()):
        return
    place = host.strip("[]"), int(port)
    with socket.create_connection(place, _CONNECT_SECONDS) as connection:
        if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
            return
        connection.sendall(_HTTP2_GREETING)
        answer = b""
        while len(answer) < _HTTP2_FRAME_HEAD and (received := connection.recv(16)):
            answer += received
    if answer[3:4] != _HTTP2_SETTINGS:
        msg = f"an answer that is not Ray's: {answer[:16]!r}"
        raise ConnectionError(msg)


def _room(ray: Any, kind: str) -> int:
    """Return the number of workers for which the cluster has capacity.

    Raises:
        DeviceError: There is none.
    """
    room = int(ray.cluster_resources().get(kind, 0))
    if room < 1:
        name = "GPUs" if kind == "GPU" else "processors"
        msg = f"engine ray: expected a cluster with {name}, found none: choose another --device"
        raise DeviceError(msg)
    return room


class _RayWorker:
    """A worker in a Ray process."""

    def __init__(self) -> None:
        self._worker = Worker()

    def run(self, folder: str, function: Callable[[Any], Any], item: object) -> Reply:
        """Apply a function to an item in the caller's working directory."""
        try:
            os.chdir(folder)
        except OSError as error:
            msg = (
                f"engine ray: expected the folder {folder} on {socket.gethostname()}, got "
                f"{error.strerror}: work in one that all machines of the cluster share"
            )
            return WorkerError(msg), []
        return self._worker.work(function, item)

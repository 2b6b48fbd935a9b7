import importlib.metadata
import os
import socket
import sys
import threading
from types import ModuleType, SimpleNamespace

import pytest

from sfisep_core.errors import ConfigError, DeviceError
from sfisep_core.foundation import ray_workers
from sfisep_core.foundation.jobs import Execution, run_jobs

ON_RAY = Execution(engine="ray", jobs=2)


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A Ray that is imported, and with which nothing was begun."""
    ray, exceptions = ModuleType("ray"), ModuleType("ray.exceptions")
    monkeypatch.setattr(ray, "is_initialized", lambda: False, raising=False)
    monkeypatch.setattr(exceptions, "RayError", type("RayError", (Exception,), {}), raising=False)
    monkeypatch.setattr(exceptions, "RayActorError", type("X", (Exception,), {}), raising=False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", exceptions)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.60.0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv(ray_workers._CLUSTERS_ALLOWED, raising=False)
    return ray


def test_no_jobs_need_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_workers, "_check_version", lambda: pytest.fail("asked for Ray"))
    assert list(run_jobs(abs, [], ON_RAY)) == []


@pytest.mark.parametrize("version", ["2.51.9", "2.9.0", "1.99"])
def test_versions_that_ask_for_no_token_are_refused(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    with pytest.raises(ConfigError, match=f"expected Ray 2.52 or later, .*, got {version}: pip"):
        list(run_jobs(abs, [1], ON_RAY))


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", fail)
    with pytest.raises(ConfigError, match=r"Ray is not installed: pip install 'sfisep\[ray\]'"):
        list(run_jobs(abs, [1], ON_RAY))


@pytest.mark.usefixtures("fake_ray")
def test_cluster_that_others_could_reach_is_not_started() -> None:
    with pytest.raises(ConfigError, match=r"imported Ray before, .*: call ray.init\(\) first"):
        list(run_jobs(abs, [1], ON_RAY))


@pytest.mark.usefixtures("fake_ray")
def test_cluster_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    message = "expected a Ray cluster at RAY_ADDRESS=127.0.0.1:1, got .*refused"
    with pytest.raises(DeviceError, match=message):
        list(run_jobs(abs, [1], ON_RAY))


@pytest.mark.usefixtures("fake_ray")
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "timed out"),  # as of a machine that hangs
        (b"", "not Ray's: b''"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "not Ray's: b'HTTP/1.1 404 "),
    ],
)
def test_address_of_something_else_is_told(
    answer: bytes | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray itself would try again for a quarter of an hour, and signals wait for it."""
    monkeypatch.setattr(ray_workers, "_CONNECT_SECONDS", 0.2 if answer is None else 10.0)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                while connection.recv(1000) and answer is None:
                    pass
                connection.sendall(answer or b"")

        thread = threading.Thread(target=serve)
        thread.start()
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(DeviceError, match=f"expected a Ray cluster at .*{message}"):
            list(run_jobs(abs, [1], ON_RAY))
        thread.join()


def test_no_room_is_told(fake_ray: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_ray, "is_initialized", lambda: True)
    resources = SimpleNamespace(get=lambda kind, none: {"CPU": 4.0}.get(kind, none))
    monkeypatch.setattr(fake_ray, "cluster_resources", lambda: resources, raising=False)
    with pytest.raises(DeviceError, match="expected a cluster with GPUs, found none: choose"):
        list(run_jobs(abs, [1], ON_RAY, on_gpu=True))


def test_cluster_of_this_machine_is_kept_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (ray_workers._CLUSTERS_ALLOWED, "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    ray_workers._keep_to_this_machine()
    assert os.environ[ray_workers._CLUSTERS_ALLOWED] == "0"
    assert (os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"])) == ("token", 64)


def test_directory_that_a_machine_does_not_have() -> None:
    worker = object.__new__(ray_workers._RayWorker)  # its log is not to be that of the tests
    reply, records = worker.run("/nowhere/at all", abs, -1)
    assert "expected the folder /nowhere/at all on" in str(reply)
    assert records == []

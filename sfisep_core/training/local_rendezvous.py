"""Let the processes of one machine find each other, unseen by all others."""

import socket
import sys

from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not so marked
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)

BACKEND = "sfisep-local"
"""Name of this rendezvous in a launcher's configuration, see `register`."""

LOOPBACK = "127.0.0.1"


def register() -> None:
    """Make `BACKEND` known to PyTorch's launcher."""
    rendezvous_handler_registry.register(BACKEND, _create)


def loopback_interface() -> str | None:
    """Return the name of the network interface of this machine alone; None if it is not known."""
    return {"linux": "lo", "darwin": "lo0"}.get(sys.platform)


class _LocalRendezvous(RendezvousHandler):
    """The rendezvous of a launcher that starts all processes of a run.

    PyTorch's own stores listen on all interfaces and ask for no password, and its launcher
    unpickles what is in them: whoever could reach the port could run programs here.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._rounds = 0
        listener = socket.create_server((LOOPBACK, 0))
        self._port = listener.getsockname()[1]
        self._store = TCPStore(
            LOOPBACK,
            self._port,
            is_master=True,
            wait_for_workers=False,
            master_listen_fd=listener.detach(),
        )

    def get_backend(self) -> str:
        """Return the name of the rendezvous."""
        return BACKEND

    @property
    def use_agent_store(self) -> bool:
        """Whether the started processes use the launcher's store."""
        return True

    def next_rendezvous(self) -> RendezvousInfo:
        """Begin a round: the processes are started, all of them."""
        self._rounds += 1
        # Keys of processes that died do not matter to those that are started in their place.
        store = PrefixStore(f"{self._run_id}/{self._rounds}", self._store)
        return RendezvousInfo(store, 0, 1, RendezvousStoreInfo(LOOPBACK, self._port))

    def is_closed(self) -> bool:
        """Whether there is to be no further round."""
        return False

    def set_closed(self) -> None:
        """Do nothing: there is nobody else to tell."""

    def num_nodes_waiting(self) -> int:
        """Return the number of other launchers that wait to join: none can."""
        return 0

    def get_run_id(self) -> str:
        """Return the identity of the run."""
        return self._run_id

    def shutdown(self) -> bool:
        """Do nothing: the store ends with this object."""
        return True


def _create(parameters: RendezvousParameters) -> RendezvousHandler:
    return _LocalRendezvous(parameters.run_id)

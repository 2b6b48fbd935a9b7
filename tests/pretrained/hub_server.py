"""A server on loopback that speaks the hub's API as far as a download needs it, and misbehaves."""

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

# What a request can be answered with instead: a status, other bytes, "cut" after half of the
# body, or "stall" until the test lets it go on.
Fault = int | bytes | str


class Hub:
    """Repositories and plain files, the faults to come, and all requests so far.

    Requests are of the kinds "tree", "head", "file" (of a repository) and "plain".
    """

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], dict[str, bytes]] = defaultdict(dict)
        self.plain: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = defaultdict(list)
        self.always: dict[str, Fault] = {}
        self.requests: list[tuple[str, str]] = []  # kind, path with query
        self.headers: list[dict[str, str]] = []
        self.stalled = threading.Event()
        self.go_on = threading.Event()
        self.lfs = True
        self.headers_of_files: dict[str, str | None] = {}  # in place of the right ones
        self.port = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def count(self, kind: str) -> int:
        return sum(found == kind for found, _ in self.requests)

    def fault(self, kind: str) -> Fault | None:
        queue = self.faults[kind]
        return queue.pop(0) if queue else self.always.get(kind)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        try:
            self.route()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def route(self) -> None:
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        if path.startswith("/api/models/"):
            kind = "tree"
        elif path.startswith("/plain/"):
            kind = "plain"
        else:
            kind = "head" if "/resolve/" in path else "file"
        self.hub.requests.append((kind, self.path))
        self.hub.headers.append({name.lower(): value for name, value in self.headers.items()})
        fault = self.hub.fault(kind)
        if isinstance(fault, int):
            self.send(fault, b"sorry")
            return
        if fault == "stall":
            self.hub.stalled.set()
            self.hub.go_on.wait(60)
        if kind == "tree":
            self.tree(path, parse_qs(parts.query), fault)
        elif kind == "head":
            self.head(path)
        else:
            self.file(path, fault)

    def send(self, status: int, body: bytes, *, cut: bool = False, **headers: str) -> None:
        self.send_response(status)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        given = self.hub.headers_of_files if self.path.startswith("/plain/") else {}
        for name, value in {"Content-Length": str(len(body)), **named, **given}.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut or given:
            self.close_connection = True

    def found(self, path: str, mark: str) -> tuple[tuple[str, str], str]:
        repository, _, rest = path.strip("/").partition(mark)
        revision, _, name = rest.partition("/")
        return (repository, revision), name

    def tree(self, path: str, query: dict[str, list[str]], fault: Fault | None) -> None:
        key, _ = self.found(path.removeprefix("/api/models/"), "/tree/")
        if key not in self.hub.repositories:
            self.send(404, b"{}", X_Error_Code="RevisionNotFound")
            return
        if isinstance(fault, bytes):
            self.send(200, fault)
            return
        entries: list[dict[str, object]] = [{"type": "directory", "oid": "0" * 40, "path": "runs"}]
        for name, content in self.hub.repositories[key].items():
            entry: dict[str, object] = {
                "type": "file",
                "oid": "1" * 40,
                "size": len(content),
                "path": name,
            }
            if self.hub.lfs:
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
            entries.append(entry)
        start = int(query.get("cursor", ["0"])[0])
        headers = {}
        if start + 2 < len(entries):
            following = f"{self.hub.address}{quote(path)}?recursive=True&cursor={start + 2}"
            headers["Link"] = f'<{following}>; rel="next"'
        self.send(200, json.dumps(entries[start : start + 2]).encode(), **headers)

    def head(self, path: str) -> None:
        key, name = self.found(path, "/resolve/")
        content = self.hub.repositories.get(key, {}).get(name)
        if content is None:
            self.send(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=key[1])
            return
        # As the hub does, to another host, where the large files are.
        there = f"http://localhost:{self.hub.port}/store/{quote(f'{key[0]}/at/{key[1]}/{name}')}"
        self.send(
            302,
            b"",
            Location=there,
            X_Repo_Commit=key[1],
            X_Linked_Size=str(len(content)),
            X_Linked_Etag=f'"{hashlib.sha256(content).hexdigest()}"',
        )

    def file(self, path: str, fault: Fault | None) -> None:
        if path.startswith("/plain/"):
            content = self.hub.plain.get(path.removeprefix("/plain/"))
        else:
            key, name = self.found(path.removeprefix("/store/"), "/at/")
            content = self.hub.repositories.get(key, {}).get(name)
        if content is None:
            self.send(404, b"nothing here")
            return
        if isinstance(fault, bytes):
            content = fault
        wanted = self.headers.get("Range")
        if wanted is None:
            self.send(200, content, cut=fault == "cut")
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        covered = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self.send(206, content[start:], cut=fault == "cut", Content_Range=covered)


@contextmanager
def running_hub() -> Iterator[Hub]:
    """Run a server for the block."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        server.server_close()
        thread.join()


def use_hub(monkeypatch: pytest.MonkeyPatch, hub: Hub, cache: str) -> None:
    """Direct this process and those that it starts to the server and to a cache of their own."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("SFISEP_WEIGHTS_URL", hub.address)
    monkeypatch.setenv("SFISEP_CACHE", cache)
    # Whatever the library would write to the user's home shows up here.
    monkeypatch.setenv("HF_HOME", f"{cache}-home")

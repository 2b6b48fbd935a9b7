"""A headless browser that tests steer, over Chromium's DevTools protocol."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
MISSING = f"needs one of {', '.join(NAMES)}"

_SECONDS = 60.0
# The browser reads the protocol from file 3 and writes it to file 4.
_START = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
_FREE_ABOVE = 10


class Page:
    """A page of the browser, in real time."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._buffer = b""
        self._number = 0
        self._session: str | None = None
        self.log: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol, and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            pass
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def open(self, address: str, *, width: int, height: int = 900) -> None:
        """Open an address in a window of this size, and wait until it is loaded."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, code: str) -> Any:
        """Evaluate JavaScript, await a promise, and return its value."""
        answer = self.call(
            "Runtime.evaluate",
            expression=code,
            awaitPromise=True,
            returnByValue=True,
            userGesture=True,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until JavaScript is true."""
        end = time.monotonic() + _SECONDS
        while not self.run(condition):
            assert time.monotonic() < end, f"{condition} never came true"
            time.sleep(0.02)

    def press(self, key: str, *, code: str = "", shift: bool = False) -> None:
        """Press a key."""
        event = {"key": key, "code": code or key, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", **event)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def drag(self, *places: tuple[float, float]) -> None:
        """Press the mouse at the first place, release it at the last: one place is a click."""
        kinds = ["mousePressed", *["mouseMoved"] * (len(places) - 1), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [*places, places[-1]], strict=True):
            button = {"button": "left", "buttons": 1, "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            received = os.read(self._receive, 1 << 16)
            assert received, "the browser has ended"
            self._buffer += received
        text, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(text)
        if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.log.append(json.dumps(message["params"]))
        return message


@contextmanager
def browser_page(profile: Path) -> Iterator[Page]:
    """Start a browser without network, and yield a page of it.

    Args:
        profile: Folder for its data.
    """
    assert BROWSER is not None
    to_browser, from_browser = os.pipe(), os.pipe()
    # Copies out of the way of the numbers that they have to get.
    theirs = [
        fcntl.fcntl(end, fcntl.F_DUPFD, _FREE_ABOVE) for end in (to_browser[0], from_browser[1])
    ]
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", _START, *map(str, theirs)),
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--remote-debugging-pipe",
            f"--user-data-dir={profile}",
        ],
        pass_fds=theirs,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    ours = to_browser[1], from_browser[0]
    try:
        for end in (to_browser[0], from_browser[1], *theirs):
            os.close(end)
        page = Page(*ours)
        yield page
        page._session = None
        page.call("Browser.close")
        process.wait(_SECONDS)
    finally:
        process.kill()
        process.wait()
        for end in ours:
            os.close(end)

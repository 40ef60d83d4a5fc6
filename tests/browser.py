"""Drives a real Chromium through its DevTools protocol, for tests of pages.

The tests have a driver of their own, because the few calls of the protocol need no WebDriver binary
of the same version as the browser.
`websocket-client` comes with the Kubernetes client of the development group.
"""

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
needed = pytest.mark.skipif(not PROGRAM, reason="Chromium is not installed")
_START_S = 40.0
_ANSWER_S = 40.0
_KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, " ": 32, "ArrowLeft": 37, "ArrowUp": 38}
_KEYS |= {"ArrowRight": 39, "ArrowDown": 40}


class Page:
    """One page of a browser, controlled over the WebSocket of its DevTools protocol."""

    def __init__(self, address: str) -> None:
        import websocket

        self._socket = websocket.create_connection(address, timeout=_ANSWER_S, suppress_origin=True)
        self._numbers = itertools.count(1)
        self.complaints: list[str] = []
        """Errors of scripts, violations of the security policy and other entries of the log."""
        self.events: list[str] = []
        """Names of the events that the browser sent, oldest first."""
        for domain in ("Page", "DOM", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("id") == number:
                if "error" in message:
                    raise AssertionError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message.get("method", ""))
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.complaints.append(json.dumps(message["params"]))

    def open(self, url: str) -> None:
        """Load a page. What its scripts show later is awaited with `wait`."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState == 'complete' && location.href != 'about:blank'")

    def run(self, script: str) -> Any:
        """Evaluate a JavaScript expression and return its value; a promise is awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 20.0) -> None:
        """Wait until a JavaScript expression is true, or fail after the given number of seconds."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({script})"):
            if time.monotonic() > end:
                text = self.run("document.body.innerText")
                raise AssertionError(f"not within {seconds} s: {script}. The page says:\n{text}")
            time.sleep(0.05)

    def wait_for_event(self, name: str) -> None:
        """Wait until the browser has reported an event, or fail after 20 seconds."""
        end = time.monotonic() + 20
        while name not in self.events:
            assert time.monotonic() < end, f"not within 20 s: {name}"
            self.run("0")  # events arrive with the answers of calls
            time.sleep(0.05)

    def text(self, selector: str) -> str:
        """Return the visible text of the first element that matches a CSS selector."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def choose(self, selector: str, *files: Path) -> None:
        """Choose files, or a folder, in the file input that matches a CSS selector."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def drop(self, selector: str, *paths: Path) -> None:
        """Drop files and folders on the element that matches a CSS selector."""
        box = self.run(
            f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()"
        )
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call(
                "Input.dispatchDragEvent", type=kind, x=box["x"] + 9, y=box["y"] + 9, data=data
            )

    def press(self, key: str) -> None:
        """Press a key: one character, or a name such as `Tab`."""
        code = _KEYS.get(key) or ord(key.upper())
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else None)
        shared = {"key": key, "windowsVirtualKeyCode": code}
        kind = "keyDown" if text else "rawKeyDown"
        extra = {"text": text} if text else {}
        self.call("Input.dispatchKeyEvent", type=kind, **shared, **extra)
        self.call("Input.dispatchKeyEvent", type="keyUp", **shared)

    def click(self, selector: str) -> None:
        """Click in the middle of an element with the mouse, which moves the focus there."""
        box = self.run(
            f"(({{x, y, width, height}}) => [x + width / 2, y + height / 2])"
            f"(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
        )
        button = {"button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], **button)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drag with the left mouse button between two points, in CSS pixels of the window."""
        middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
        steps = (
            ("mousePressed", start, 1),
            ("mouseMoved", middle, 1),
            ("mouseMoved", end, 1),
            ("mouseReleased", end, 0),
        )
        for kind, (x, y), buttons in steps:
            button = {"button": "left", "buttons": buttons, "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def look(self, width: int = 1200, height: int = 800, scheme: str = "light") -> None:
        """Set the size of the window in CSS pixels and the preferred colour scheme.

        A window that is narrower than 600 pixels emulates a phone with a touch screen.
        """
        phone = width < 600
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def picture(self, first: str, last: str, file: Path) -> None:
        """Write a picture of the page from one element to another, named by CSS selectors."""
        boxes = self.run(
            f"[{json.dumps(first)}, {json.dumps(last)}].map((one) =>"
            " document.querySelector(one).getBoundingClientRect().toJSON())"
        )
        top = boxes[0]["top"] + self.run("scrollY")
        height = boxes[1]["bottom"] - boxes[0]["top"]
        width = self.run("document.documentElement.clientWidth")
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(shot["data"]))

    def refused(self) -> list[str]:
        """Return what failed or was refused, but for answers of the server."""
        return [text for text in self.complaints if '"source": "network"' not in text]

    def close(self) -> None:
        self._socket.close()


@contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """Run a headless browser with an empty profile in `folder` and yield its page."""
    assert PROGRAM
    command = [PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-dev-shm-usage", "--disable-background-networking"]
    # A camera that shows a test pattern, which every page may use.
    command += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    command += ["--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
    with (folder / "log").open("wb") as log:
        browser = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        page = Page(_address(folder / "DevToolsActivePort", browser))
        try:
            yield page
        finally:
            page.close()
    finally:
        browser.terminate()
        try:
            browser.wait(10)
        except subprocess.TimeoutExpired:
            browser.kill()
            browser.wait(10)


def _address(file: Path, browser: subprocess.Popen[bytes]) -> str:
    """Return the WebSocket address of the first page, from the file with the browser's port."""
    end = time.monotonic() + _START_S
    while not (file.exists() and file.read_text().strip()):
        assert browser.poll() is None and time.monotonic() < end, "Chromium did not start"
        time.sleep(0.05)
    port = file.read_text().split()[0]
    while time.monotonic() < end:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=10) as answer:
            pages = [target for target in json.load(answer) if target["type"] == "page"]
        if pages:
            return str(pages[0]["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError("Chromium opened no page")

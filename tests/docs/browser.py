"""A headless Chromium on two pipes, spoken to in its own protocol: looking at a page needs no further package.

Source of the messages: the Chrome DevTools Protocol, https://chromedevtools.github.io/devtools-protocol/ (`Page`,
`Network`, `Runtime`, `Log`, `Target`, `Emulation`). With --remote-debugging-pipe the browser reads JSON, ended by a
zero byte, from file descriptor 3 and writes it to 4.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome-headless-shell")
VARIABLE = "TERRAFIRMA_CHROMIUM"
PATIENCE_S = 60.0
"""An answer that takes longer is an error."""
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--mute-audio", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--enable-unsafe-swiftshader", "--host-resolver-rules=MAP * ~NOTFOUND", "--remote-debugging-pipe",
)  # fmt: skip
"""No name is looked up, whatever a page or the browser itself may ask for; WebGL is drawn by the processor."""

Message = dict[str, Any]


class BrowserError(RuntimeError):
    """The browser did not do what it was told."""


def find() -> str | None:
    """The browser that TERRAFIRMA_CHROMIUM names, or the first of the usual names that is installed."""
    named = os.environ.get(VARIABLE)
    return shutil.which(named) if named else next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    """One browser process: call() sends and waits; what it reports on its own is kept in `events`."""

    def __init__(self, path: str, profile: str) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (theirs_in, theirs_out)]  # clear of 3 and 4

        def place() -> None:
            os.dup2(high[0], 3)
            os.dup2(high[1], 4)

        self.process = subprocess.Popen(
            [path, *ARGUMENTS, f"--user-data-dir={profile}", "about:blank"], preexec_fn=place, pass_fds=(3, 4),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for fd in (theirs_in, theirs_out, *high):
            os.close(fd)
        self.read_fd, self.write_fd = ours_in, ours_out
        self.rest = b""
        self.number = 0
        self.answers: dict[int, Message] = {}
        self.events: list[Message] = []

    def call(self, method: str, session: str = "", **params: Any) -> Message:
        """What the browser answers. Raises BrowserError if it refuses, or says nothing for a minute."""
        number = self.send(method, session, **params)
        until = time.monotonic() + PATIENCE_S
        while number not in self.answers:
            if time.monotonic() > until:
                raise BrowserError(f"{method}: no answer in {PATIENCE_S:.0f} s")
            self.listen(0.2)
        answer = self.answers.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message')}")
        return dict(answer["result"])

    def send(self, method: str, session: str = "", **params: Any) -> int:
        self.number += 1
        message: Message = {"id": self.number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.write_fd, data) :]
        return self.number

    def listen(self, seconds: float) -> None:
        """Take in what comes within `seconds`; returns as soon as something came."""
        if not select.select([self.read_fd], [], [], seconds)[0]:
            return
        data = os.read(self.read_fd, 1 << 20)
        if not data:
            raise BrowserError("the browser ended")
        *whole, self.rest = (self.rest + data).split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                self.answers[message["id"]] = message
            else:
                self.events.append(message)

    def evaluate(self, session: str, expression: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is awaited."""
        answer = self.call(
            "Runtime.evaluate", session, expression=expression, returnByValue=True, awaitPromise=True
        )  # fmt: skip
        if "exceptionDetails" in answer:
            raise BrowserError(str(answer["exceptionDetails"].get("exception", {}).get("description")))
        return answer["result"].get("value")

    def close(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.read_fd)
        os.close(self.write_fd)


@contextmanager
def opened(path: str) -> Iterator[Browser]:
    """A browser with an empty profile, ended whatever happens."""
    with tempfile.TemporaryDirectory(prefix="look-", ignore_cleanup_errors=True) as profile:
        browser = Browser(path, profile)
        try:
            yield browser
        finally:
            browser.close()

"""Pages in a browser: what is told of what it reports; and, where TERRAFIRMA_CHROMIUM names one, a real browser."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent


def load(name: str) -> ModuleType:
    """A script of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


browser, look = load("browser"), load("look")

GOOD = """<!doctype html><meta name="viewport" content="width=device-width"><title>x</title>
<p id="here">words</p><a href="#here">up</a>
<div style="overflow-x: auto"><div style="width: 900px">a table</div></div>"""


def request(url: str) -> dict[str, object]:
    return {"method": "Network.requestWillBeSent", "params": {"requestId": "1", "request": {"url": url}}}


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (request("https://fonts.org/a.css"), ["asks another machine: https://fonts.org/a.css"]),
        (request("file:///a.css"), []),
        (request("data:image/png;base64,"), []),
        (
            {"method": "Network.webSocketCreated", "params": {"url": "ws://a.org/"}},
            ["asks another machine: ws://a.org/"],
        ),
        ({"method": "Runtime.exceptionThrown", "params": {"exceptionDetails": {"text": "oh"}}}, ["script: oh"]),
        ({"method": "Runtime.consoleAPICalled", "params": {"type": "log", "args": [{"value": "all is well"}]}}, []),
    ],
)
def test_what_a_browser_reports_is_told(event: dict[str, object], told: list[str]) -> None:
    assert look.told([event]) == told


def test_pages_for_a_server_are_not_opened_from_the_disk(tmp_path: Path) -> None:
    for name in ("b.html", "404.html", "a.css"):
        (tmp_path / name).write_text("")
    assert look.pages([str(tmp_path)]) == [(tmp_path / "b.html").resolve()]


def test_without_a_browser_it_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(browser.VARIABLE, "no_such_browser")
    assert look.main(["a.html"]) == 0
    assert "Not looked" in capsys.readouterr().out


BAD = {
    '<img src="missing.png">': "broken picture",
    '<script src="https://elsewhere.invalid/a.js"></script>': "asks another machine",
    '<p style="width: 2000px; background: red">wide</p>': "px wide in a window of",
    "<script>throw new Error('oh')</script>": "script: Error: oh",
    '<a href="#nowhere">x</a>': "a link to nothing: #nowhere",
}


@pytest.mark.skipif(browser.VARIABLE not in os.environ, reason=f"{browser.VARIABLE} names no browser")
def test_a_browser_finds_what_is_wrong_with_a_page(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    good, bad = tmp_path / "good.html", tmp_path / "bad.html"
    good.write_text(GOOD)
    bad.write_text(GOOD + "".join(BAD))
    chromium = browser.find()
    assert chromium is not None
    with browser.opened(chromium) as opened:
        seen = look.look(opened, good, 420, out)
        assert seen.found == [] and (out / seen.picture).read_bytes().startswith(b"\x89PNG")
        found = "\n".join(look.look(opened, bad, 420, out).found)
        bad.write_text("<p>a page that no telephone was thought of for</p>")
        (unsized,) = look.look(opened, bad, 420, out).found
    assert all(sentence in found for sentence in BAD.values()), found
    assert "no <meta name=viewport>" in unsized

"""Pages and reports in a real browser, at the width of a desk and of a telephone.

    python tests/docs/look.py build/docs runs/report/report.html runs/view/view.html out=runs/look

Each HTML file, or each in a folder, is opened from the disk at 1400 and 420 px. Told are: errors that the page's
scripts report, what could not be loaded, every request that would leave this machine (none can: no name is looked
up), pictures that are broken, links within the page that lead nowhere, and what reaches out of the window. `out` has a
picture of each page at each width to look at, and look.json with all that was found. Exit code 1 if anything was.

The browser is the one that TERRAFIRMA_CHROMIUM names, or an installed Chromium (`apt-get install
chromium-headless-shell`); without one the script says so and ends with 0. About 2 s a page and width.
"""

from __future__ import annotations

import base64
import itertools
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from browser import VARIABLE, Browser, Message, find, opened

WIDTHS = {1400: 900, 420: 860}
"""width -> height of the window [px]."""
PHONE = 600
"""Narrower windows are a telephone's, which draws a page of no stated width at 980 px and shows it small."""
QUIET_S = 0.4
"""A page on which nothing was loaded for as long is complete."""
LONGEST_S = 30.0
TALLEST_PX = 8000
"""A picture of a longer page is cut here."""
SERVED = ("404.html",)
"""Its links begin at a server's root: from the disk they lead nowhere, and nobody opens it there."""
HERE = ("file:", "data:", "blob:", "about:")

LOADED = "document.readyState === 'complete' && location.protocol === 'file:'"
LAYOUT = """(() => {
  const root = document.documentElement, wide = [];
  for (const e of document.querySelectorAll("body *")) {
    const box = e.getBoundingClientRect();
    if (box.width === 0 || box.right <= innerWidth + 1) continue;
    let hidden = false;   // what scrolls in a box of its own, or is off the screen on purpose
    for (let p = e; p && p !== document.body; p = p.parentElement) {
      const style = getComputedStyle(p);
      hidden = hidden || style.position === "fixed" || (p !== e && style.overflowX !== "visible");
    }
    const name = `${e.tagName.toLowerCase()}.${String(e.className.baseVal ?? e.className)}`;
    if (!hidden) wide.push(`${name} ${Math.round(box.right)} px`);
  }
  return {
    width: root.scrollWidth, inner: innerWidth, height: Math.max(root.scrollHeight, innerHeight),
    wide: wide.slice(0, 5),
    text: document.body.innerText.trim().length,
    broken: [...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src.slice(0, 120)),
    missing: [...document.querySelectorAll('a[href^="#"]')].map(a => decodeURIComponent(a.hash.slice(1)))
      .filter(id => id && !document.getElementById(id) && !document.getElementsByName(id).length),
  };
})()"""
"""What the browser says of the finished page."""


@dataclass
class Looked:
    """One page at one width."""

    page: str
    width: int
    found: list[str] = field(default_factory=list)
    """What is wrong with it."""
    requests: int = 0
    """Files and data that the page had loaded, all from this machine."""
    picture: str = ""


def pages(words: Sequence[str]) -> list[Path]:
    """The HTML files that are named, and those in named folders."""
    found: list[Path] = []
    for path in map(Path, words):
        found += sorted(p for p in path.rglob("*.html") if p.name not in SERVED) if path.is_dir() else [path]
    return [path.resolve() for path in found]


def look(browser: Browser, path: Path, width: int, out: Path) -> Looked:
    """Open the page, and tell what is wrong with it."""
    looked = Looked(str(path), width)
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    try:
        for domain in ("Page", "Network", "Runtime", "Log"):
            browser.call(f"{domain}.enable", session)
        browser.call(
            "Target.setAutoAttach", session, autoAttach=True, waitForDebuggerOnStart=False, flatten=True
        )  # workers' requests are told, too
        browser.call(
            "Emulation.setDeviceMetricsOverride", session, width=width, height=WIDTHS[width], deviceScaleFactor=1,
            mobile=width < PHONE,
        )  # fmt: skip
        browser.events.clear()
        browser.call("Page.navigate", session, url=path.as_uri())
        wait(browser, session)
        events = browser.events.copy()
        looked.requests = sum(e["method"] == "Network.requestWillBeSent" for e in events)
        looked.found += told(events)
        layout = browser.evaluate(session, LAYOUT)
        looked.found += laid_out(layout, width)
        name = "_".join(path.with_suffix("").parts[-3:])
        looked.picture = f"{name}_{width}.png"
        (out / looked.picture).write_bytes(picture(browser, session, width, min(layout["height"], TALLEST_PX)))
    finally:
        browser.call("Target.closeTarget", targetId=target)
    return looked


def wait(browser: Browser, session: str) -> None:
    """Until the page has loaded, nothing more comes, and it is drawn."""
    begin = quiet = time.monotonic()
    count = 0
    while time.monotonic() - begin < LONGEST_S:
        browser.listen(0.05)
        for event in browser.events[count:]:
            if event["method"] == "Target.attachedToTarget":
                worker = event["params"]["sessionId"]
                browser.send("Network.enable", worker)
                browser.send("Runtime.enable", worker)
        if len(browser.events) != count:
            count, quiet = len(browser.events), time.monotonic()
        if time.monotonic() - quiet > QUIET_S and browser.evaluate(session, LOADED):
            break
    browser.evaluate(session, "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def told(events: Sequence[Message]) -> list[str]:
    """What the browser reported while it loaded the page."""
    found, asked = [], {}
    for event in events:
        method, params = event["method"], event["params"]
        if method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            asked[params["requestId"]] = url
            if not url.startswith(HERE):
                found.append(f"asks another machine: {url[:150]}")
        elif method == "Network.webSocketCreated":
            found.append(f"asks another machine: {params['url'][:150]}")
        elif method == "Network.loadingFailed" and not params.get("canceled"):
            found.append(f"not loaded: {asked.get(params['requestId'], '?')[:150]} ({params['errorText']})")
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            found.append(f"script: {details.get('exception', {}).get('description', details['text'])[:200]}")
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            found.append(
                f"console: {' '.join(str(a.get('value', a.get('description'))) for a in params['args'])[:200]}"
            )
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            found.append(f"log: {params['entry']['text'][:200]} {params['entry'].get('url', '')[:120]}")
    return found


def laid_out(layout: dict[str, Any], width: int) -> list[str]:
    """What is wrong with the page as it stands in a window of this width [px]."""
    found = []
    if layout["inner"] > width:
        found.append(f"drawn {layout['inner']} px wide in a window of {width} px: it has no <meta name=viewport>")
    if layout["width"] > layout["inner"]:
        found.append(f"{layout['width']} px wide in a window of {layout['inner']} px")
    found += [f"reaches out of the window: {element}" for element in layout["wide"]]
    found += [f"broken picture: {source}" for source in layout["broken"]]
    found += [f"a link to nothing: #{name}" for name in layout["missing"]]
    if not layout["text"]:
        found.append("no text at all")
    return found


def picture(browser: Browser, session: str, width: int, height: int) -> bytes:
    clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
    answer = browser.call("Page.captureScreenshot", session, format="png", clip=clip, captureBeyondViewport=True)
    return base64.b64decode(answer["data"])


def main(words: Sequence[str]) -> int:
    chromium = find()
    if chromium is None:
        print(f"Not looked: no Chromium is installed, and {VARIABLE} names none.")
        return 0
    options = dict(word.split("=", 1) for word in words if "=" in word)
    out = Path(options.get("out", "runs/look"))
    out.mkdir(parents=True, exist_ok=True)
    chosen = pages([word for word in words if "=" not in word])
    if not chosen:
        print("Which pages? Name HTML files, or folders with some.")
        return 2
    seen: list[Looked] = []
    with opened(chromium) as browser:
        version = browser.call("Browser.getVersion")["product"]
        for path, width in itertools.product(chosen, WIDTHS):
            seen.append(look(browser, path, width, out))
            for line in seen[-1].found:
                print(f"{path} at {width} px: {line}", flush=True)
    (out / "look.json").write_text(json.dumps({"browser": version, "pages": [asdict(s) for s in seen]}, indent=1))
    wrong = sum(bool(looked.found) for looked in seen)
    print(f"{version}: {len(chosen)} pages, {len(seen)} views, {wrong} with something wrong; pictures in {out}.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

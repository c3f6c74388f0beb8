"""Does a built page ask another machine for anything?  python tests/docs/offline.py build/docs

Scripts, styles, fonts, pictures, frames and media must lie beside the pages; a link that a person clicks may lead
anywhere. `make docs` runs it after each build.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path

FETCHED = {
    "script": ("src",),
    "link": ("href",),
    "img": ("src", "srcset"),
    "source": ("src", "srcset"),
    "iframe": ("src",),
    "video": ("src", "poster"),
    "audio": ("src",),
    "object": ("data",),
    "embed": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
    "form": ("action",),
}
"""element -> the attributes that a browser fetches by itself, or sends to."""

HARMLESS = {"canonical", "alternate"}
"""`rel` of links that no browser fetches."""

ELSEWHERE = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"""(?:url\(\s*|@import\s+)['"]?((?:https?:)?//[^'")\s]+)""", re.IGNORECASE)
LOADERS = ('class="mermaid"', 'data-md-component="source"')
"""What makes the theme's own script fetch a library, or a repository's figures. Its one other reason, browsers without
ResizeObserver, has been gone since 2020."""


class Page(HTMLParser):
    """Collects what the browser would fetch from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if not set((given.get("rel") or "").split()) & HARMLESS:
            wanted = [given.get(name) or "" for name in FETCHED.get(tag, ())]
            self.found += [f"<{tag}> {value}" for value in wanted if ELSEWHERE.match(value)]
        self.found += [f"style= {url}" for url in IN_STYLE.findall(given.get("style") or "")]


def requests(path: Path) -> list[str]:
    """What the HTML or CSS file `path` would fetch from another machine."""
    text = path.read_text(errors="replace")
    found = (
        [f"css {url}" for url in IN_STYLE.findall(text)] if path.suffix in (".css", ".svg") or "<style" in text else []
    )
    if path.suffix == ".html":
        page = Page()
        page.feed(text)
        found += page.found + [f"{mark}, for which the theme's script does" for mark in LOADERS if mark in text]
    return found


def main(folder: str) -> int:
    paths = sorted(p for p in Path(folder).rglob("*") if p.suffix in (".html", ".css", ".svg"))
    found = [f"{path}: {request}" for path in paths for request in requests(path)]
    print("\n".join(found) or f"{len(paths)} files, none of which asks another machine for anything.")
    return 1 if found or not paths else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

"""The scripts behind `make docs` and `make docs-test`, and what the pages must keep to for them."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {"bash", "yaml", "xml", "python", "text", "json", "toml"}


def load(name: str) -> ModuleType:
    """A script of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


blocks, offline, run_pages = load("blocks"), load("offline"), load("run_pages")

PAGE = """# A page
<!-- docs-test: setup
mkdir made
-->
<!-- docs-test: file a/prior.yaml -->
```yaml
terms: []
```
```bash
# a remark
terrafirma train a=1 \\
    b=2
cat <<EOF > x
one
EOF
```
<!-- docs-test: skip: needs a robot -->
```bash
terrafirma run driver=can
```
    $ terrafirma verify bundle=b
"""


def test_steps_come_in_the_order_of_the_page_with_their_lines() -> None:
    found = [(s.kind, s.line, s.text.splitlines()[0], s.note) for s in blocks.steps(PAGE)]
    assert found == [
        ("setup", 3, "mkdir made", ""),
        ("file", 6, "terms: []", "a/prior.yaml"),
        ("run", 11, "terrafirma train a=1 \\", ""),
        ("run", 13, "cat <<EOF > x", ""),
        ("skip", 19, "terrafirma run driver=can", "needs a robot"),
        ("run", 21, "terrafirma verify bundle=b", ""),
    ]
    assert blocks.steps(PAGE)[3].text == "cat <<EOF > x\none\nEOF"


def test_lines_that_a_test_types_are_not_typed_again() -> None:
    (step,) = blocks.steps("<!-- docs-test: by tests/test_x.py -->\n\n    $ terrafirma run\n")
    assert (step.kind, step.text) == ("by", "tests/test_x.py")


@pytest.mark.parametrize("comment", ["skip", "skip:", "needs"])
def test_nothing_is_left_out_without_a_reason(comment: str) -> None:
    with pytest.raises(blocks.PageError, match="says nothing"):
        blocks.steps(f"<!-- docs-test: {comment} -->\n```bash\nls\n```\n")


def test_a_comment_that_no_block_follows_is_an_error() -> None:
    with pytest.raises(blocks.PageError, match="no block follows"):
        blocks.steps("<!-- docs-test: skip: why -->\nA sentence.\n")


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_of_the_page_is_typed_or_left_out_with_a_reason(path: Path) -> None:
    """No command hides in an indented block or in one of another language, where nobody would type it."""
    text = path.read_text()
    steps = blocks.steps(text)
    typed = {s.text.split("\n")[0] for s in steps}
    inside, language = False, ""
    for number, line in enumerate(text.splitlines(), start=1):
        fence = blocks.FENCE.match(line)
        if fence is not None:
            inside, language = not inside, fence[2]
            assert not inside or language in LANGUAGES, f"line {number}: a block of '{language}'"
        elif inside and language not in ("bash", "python"):
            assert not re.match(r"\s*(\$ )?terrafirma \w", line), f"line {number}: a command in a block of '{language}'"
        elif not inside and re.match(r"    +(\$ )?(terrafirma|docker|pip|make|python) ", line):
            by_test = line.strip().startswith("$ ") and any(s.kind == "by" for s in steps)
            assert by_test or line.strip().removeprefix("$ ") in typed, f"line {number}: a command that nobody types"


def test_long_stages_are_run_quickly_and_others_as_they_stand() -> None:
    assert run_pages.shortened("terrafirma train task=t out=o") == "terrafirma train quick=true task=t out=o"
    for same in ("terrafirma train task=t quick=true", "terrafirma run bundle=b", "terrafirma train --help"):
        assert run_pages.shortened(same) == same


def test_a_page_ends_at_its_first_failure_and_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```bash\nsleep 60 & echo $! > PLACE\necho said; false\necho never\n```\n".replace(
            "PLACE", str(tmp_path / "pid")
        )
    )
    monkeypatch.setattr(run_pages, "ROOT", tmp_path)
    outcomes = run_pages.run_page(page)
    assert [o.state for o in outcomes] == ["ok", "failed"] and "said" in outcomes[1].note
    assert not Path("/proc", (tmp_path / "pid").read_text().strip(), "exe").exists()
    assert "said" in capsys.readouterr().out


HARMLESS = """<a href="https://elsewhere.org">x</a><link rel="canonical" href="https://me.org/">
<img src="a.png"><script src="b.js"></script>"""


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.org/a.js"></script>',
        '<link rel="stylesheet" href="//fonts.org/css">',
        '<img src="http://images.org/a.png">',
        "<style>@import 'https://fonts.org/a.css';</style>",
        '<p style="background: url(https://images.org/a.png)">',
        '<pre class="mermaid">',
    ],
)
def test_what_a_browser_would_fetch_from_elsewhere_is_found(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.html"
    page.write_text(HARMLESS)
    assert offline.requests(page) == []
    page.write_text(HARMLESS + text)
    assert len(offline.requests(page)) == 1

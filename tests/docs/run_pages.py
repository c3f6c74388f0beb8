"""Types every command of README and docs, page by page, each page in an empty folder:  make docs-test

    python tests/docs/run_pages.py                      # all pages
    python tests/docs/run_pages.py README.md docs/stress.md
    python tests/docs/run_pages.py list=true            # what would be done, and what would not, with the reasons

The stages that take long are run with `quick=true`: where a page does not show it, it is put in, and the output says
so. What a page takes for granted (a policy, a video) is made by commands in its comments, which tests/docs/blocks.py
reads. A page ends at its first command that does not end with 0. The last lines are a table of the pages;
runs/docs-test/report.json has all.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from blocks import Step, steps

ROOT = Path(__file__).parents[2]
LIMIT_S = 1500
"""A command that takes longer has failed."""
FAULT, AGAIN = 5, 2
"""Exit code of a hardware fault, and how often a command is tried again after one: on a busy machine emulated motors
answer too late, and the watchdog is right to bark."""
PATIENCE_S = 3.0
"""Time that a process left in the background has to end when it is asked to."""

LONG = re.compile(
    r"\bterrafirma (bench|demo|evaluate|export|finetune|identify|pretrain|stress|synthesize|train|trials)\b"
    r"(?![^\n]*(?:\bquick=|--help|--cfg|--info))"
)


@dataclass
class Outcome:
    """What came of one command."""

    page: str
    line: int
    command: str
    state: str
    """ok, failed, or skipped."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Processor time, which other work on the machine changes little."""
    note: str = ""
    """Why it was skipped, or the end of what it printed."""


def pages(words: list[str]) -> list[Path]:
    if words:
        return [Path(word).resolve() for word in words]
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def shortened(command: str) -> str:
    """The command with quick=true after each stage that takes long."""
    return LONG.sub(lambda found: f"{found[0]} quick=true", command)


class Folder:
    """The empty folder of one page, and the processes that its commands leave behind."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.groups: list[int] = []

    def run(self, command: str) -> tuple[int, str]:
        """Exit code and the end of the output. What the command left in the background goes on until close()."""
        environment = dict(os.environ, TF_CHECKOUT=str(ROOT), OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"))
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        environment["PYTHONPATH"] = str(ROOT)  # this checkout, whichever one is installed
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", command], cwd=self.path, env=environment, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
            self.groups.append(done.pid)
            try:
                code = done.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                code = 124
            output.seek(0)
            return code, output.read()[-3000:]

    def close(self) -> None:
        """End what is left, politely and then not."""
        for group, end in itertools.product(self.groups, (signal.SIGTERM, signal.SIGKILL)):
            until = time.monotonic() + PATIENCE_S
            try:
                os.killpg(group, end)
                while time.monotonic() < until:
                    os.killpg(group, 0)
                    time.sleep(0.02)
            except ProcessLookupError:
                continue


def do(step: Step, folder: Folder, page: str) -> Outcome:
    """Take one step of a page."""
    if step.kind == "file":
        path = folder.path / step.note
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step.text)
        return Outcome(page, step.line, f"[file {step.note}]", "ok")
    if step.kind == "skip":
        return Outcome(page, step.line, step.text, "skipped", note=step.note)
    if step.kind == "needs" and not os.environ.get(step.note):
        return Outcome(page, step.line, step.text, "skipped", note=f"{step.note} is not set")
    command = f"cd {ROOT} && python -m pytest -q {step.text}" if step.kind == "by" else shortened(step.text)
    begin, before = time.monotonic(), cpu_seconds()
    code, output = folder.run(command)
    for _ in range(AGAIN):
        if code == FAULT and os.getloadavg()[0] > (os.cpu_count() or 1):
            print(f"{page}:{step.line}  a fault while others hold this machine; once more", flush=True)
            code, output = folder.run(command)
    state = "ok" if code == 0 else "failed"
    spent = time.monotonic() - begin, cpu_seconds() - before
    return Outcome(page, step.line, command, state, *spent, "" if code == 0 else output)


def cpu_seconds() -> float:
    """Processor time of all commands so far that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_page(path: Path) -> list[Outcome]:
    """All steps of a page, until one fails."""
    page, outcomes = str(path.relative_to(ROOT)), []
    with tempfile.TemporaryDirectory(prefix="docs-test-") as place:
        folder = Folder(Path(place))
        try:
            for step in steps(path.read_text()):
                outcome = do(step, folder, page)
                outcomes.append(outcome)
                told(outcome, step)
                if outcome.state == "failed":
                    break
        finally:
            folder.close()
    return outcomes


def told(outcome: Outcome, step: Step) -> None:
    shown = " ".join(outcome.command.split())
    mark = " [quick=true put in]" if outcome.command != step.text and step.kind in ("run", "needs") else ""
    why = f"  ({outcome.note})" if outcome.state == "skipped" else ""
    hidden = " [setup]" if step.kind == "setup" else ""
    spent = f"{outcome.seconds:6.1f} s {outcome.cpu_seconds:6.1f} s of CPU"
    print(f"{outcome.page}:{outcome.line}  {outcome.state:<7} {spent}  {shown}{mark}{hidden}{why}", flush=True)
    if outcome.state == "failed":
        print(outcome.note, flush=True)


def summary(outcomes: list[Outcome]) -> list[str]:
    """A line a page: commands run, skipped and failed, minutes, and minutes of processor time."""
    lines = []
    for page in dict.fromkeys(o.page for o in outcomes):
        of = [o for o in outcomes if o.page == page]
        count = {state: sum(o.state == state for o in of) for state in ("ok", "skipped", "failed")}
        minutes, cpu = sum(o.seconds for o in of) / 60, sum(o.cpu_seconds for o in of) / 60
        lines.append(
            f"{page:<32} {count['ok']:3} ok {count['skipped']:3} skipped {count['failed']:3} failed"
            f" {minutes:6.1f} min {cpu:6.1f} min of CPU"
        )
    return lines


def main(words: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the folder's processes are ended on the way out
    chosen = pages([word for word in words if "=" not in word])
    if "list=true" in words:
        for path in chosen:
            for step in steps(path.read_text()):
                place, text = f"{path.relative_to(ROOT)}:{step.line}", " ".join(step.text.split())
                print(f"{place}  {step.kind}  {step.note}  {text[:120]}")
        return 0
    outcomes = [outcome for path in chosen for outcome in run_page(path)]
    print("", *summary(outcomes), sep="\n")
    report = ROOT / "runs" / "docs-test" / "report.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    return 1 if any(outcome.state == "failed" for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

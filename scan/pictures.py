"""Takes the pictures in docs/pictures, from real runs on this machine: `make pictures`.

Each run uses examples/rdkit with copies of the example molecules, a few of them broken. It needs Chromium and the
packages of tests/browser/requirements.txt.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
PICTURES: Final = ROOT / "docs" / "pictures"
_COMMAND: Final = Path(sys.executable).with_name("parcelq")
_COPIES: Final = 4
"""How often the molecules are repeated in the file, so that the run takes long enough to be seen."""
_BROKEN: Final = {1_203: "c1ccccc(=O", 1_204: "CC(=O)Oc1ccccc1C(=O)(=O)O", 5_810: "C1CC", 12_007: "not a molecule"}
_WIDTH: Final = 1100
_HEIGHT: Final = 1080


def main() -> None:
    """Run, and take all pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="parcelq-") as folder:
        place = Path(folder)
        write_source(place / "molecules.smi")
        shutil.copy(ROOT / "examples" / "rdkit" / "score.py", place / "score.py")
        console = subprocess.Popen([_COMMAND, "console"], cwd=place, stdout=subprocess.PIPE, text=True)
        try:
            assert console.stdout
            take(place, console.stdout.readline().strip())
        finally:
            console.terminate()
            console.wait(30)
    for picture in sorted(PICTURES.iterdir()):
        print(f"{picture.relative_to(ROOT)}  {picture.stat().st_size:,} bytes")


def write_source(path: Path) -> None:
    """Write the molecules, with broken ones in between."""
    lines = (ROOT / "examples" / "molecules.smi").read_text().splitlines() * _COPIES
    for number, smiles in _BROKEN.items():
        lines[number - 1] = f"{smiles} broken-{number}"
    path.write_text("\n".join(lines) + "\n")


def take(place: Path, url: str) -> None:
    """Take the pictures of a run in a folder, and of the console at an address."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme="light")
        run = started(place, "run", "molecules.smi", "--step", "score.py")
        take_running(page, url, run)
        texts = (
            "$ parcelq run molecules.smi --step score.py",
            printed(run),
            "$ parcelq jobs",
            printed(started(place, "jobs")),
        )
        draw_terminal("\n".join(texts), PICTURES / "terminal.svg")
        page.goto(url)
        page.get_by_role("link", name="molecules.smi").click()
        page.locator("#reasons summary").first.click()
        page.screenshot(path=PICTURES / "console-job.png")
        report = (place / "results" / "molecules.smi.report.html").as_uri()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.goto(report)
            page.locator("#map button:not(.done)").first.click()
            page.mouse.move(0, 0)
            page.screenshot(path=PICTURES / f"report-{scheme}.png", full_page=True)
        browser.close()


def take_running(page: Any, url: str, process: subprocess.Popen[bytes]) -> None:
    """Take a picture of the list of jobs while one runs."""
    while process.poll() is None:
        page.goto(url)
        time.sleep(1.5)
        if re.search(r"running\s+[2-7]\d\.\d%\s+\d", page.inner_text("main")):
            page.screenshot(
                path=PICTURES / "console-running.png", clip={"x": 0, "y": 0, "width": _WIDTH, "height": 260}
            )
            page.get_by_role("link", name="molecules.smi").click()
            page.wait_for_selector("#map")
            page.screenshot(path=PICTURES / "console-live.png", clip={"x": 0, "y": 0, "width": _WIDTH, "height": 720})
            return
    raise SystemExit("the run ended before a picture of it was taken")


def started(place: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a command on a terminal of its own."""
    command = ["script", "--quiet", "--return", "--command", " ".join([str(_COMMAND), *arguments]), "/dev/null"]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm-256color"}
    return subprocess.Popen(command, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment)


def printed(process: subprocess.Popen[bytes]) -> str:
    """Return the final content of a command's terminal, with colours."""
    out, _ = process.communicate(timeout=600)
    text = re.sub(r"\x1b\[\d*[AKJ]|\x1b\[\?25[lh]", "", out.decode().replace("\r\n", "\n"))
    return "\n".join(line.rpartition("\r")[2] for line in text.split("\n")).strip()


def draw_terminal(text: str, path: Path) -> None:
    """Draw what a terminal shows as SVG."""
    from rich.console import Console
    from rich.text import Text

    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=110, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(text))
        drawn = console.export_svg(title="parcelq", unique_id="parcelq")
    path.write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL))  # it would be loaded from elsewhere


if __name__ == "__main__":
    main()

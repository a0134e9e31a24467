"""Takes the pictures in docs/pictures, from real runs on this machine: `make pictures`.

Most pictures show a run of examples/rdkit over several copies of examples/molecules.smi with a few broken molecules.

The pictures of a stack show an emulated stack that runs examples/protein-weight. The program needs Chromium and the
packages in tests/browser/requirements.txt.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
EXAMPLES: Final = ROOT / "examples"
PICTURES: Final = ROOT / "docs" / "pictures"
_COMMAND: Final = Path(sys.executable).with_name("parcelq")
_COPIES: Final = 4
"""How often the molecules are repeated in the file, so that the run takes long enough to be seen."""
_BROKEN: Final = {1_203: "c1ccccc(=O", 1_204: "CC(=O)Oc1ccccc1C(=O)(=O)O", 5_810: "C1CC", 12_007: "not a molecule"}
_PROTEINS: Final = {"yeast.fasta": 3, "human.fasta": 10, "plants.fasta": 400}
"""Maps the name of each file for the stack to how often the file repeats the proteins of examples."""
_UNKNOWN: Final = {("human.fasta", 71): "X", ("human.fasta", 1_203): "X", ("human.fasta", 1_890): "BZ"}
"""Maps a file and the number of a record in it to letters that are not amino acids and are added to the record."""
_WIDTH: Final = 1100
_HEIGHT: Final = 1080


def main() -> None:
    """Run the examples, and take all pictures."""
    from playwright.sync_api import sync_playwright

    PICTURES.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory(prefix="parcelq-") as folder, sync_playwright() as driver:
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = driver.chromium.launch(executable_path=chromium, args=options)
        page = browser.new_page(viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme="light")
        for name, take in {"machine": take_machine, "stack": take_stack}.items():
            place = Path(folder) / name
            place.mkdir()
            take(place, page)
        browser.close()
    for picture in sorted(PICTURES.iterdir()):
        print(f"{picture.relative_to(ROOT)}  {picture.stat().st_size:,} bytes")


def take_machine(place: Path, page: Any) -> None:
    """Take the pictures of a run on this machine: the console during and after the run, the terminal, the report."""
    lines = (EXAMPLES / "molecules.smi").read_text().splitlines() * _COPIES
    for number, smiles in _BROKEN.items():
        lines[number - 1] = f"{smiles} broken-{number}"
    (place / "molecules.smi").write_text("\n".join(lines) + "\n")
    shutil.copy(EXAMPLES / "rdkit" / "score.py", place)
    # Installs the step's packages, so that the terminal shows no path of this machine.
    subprocess.run([_COMMAND, "try", "--step", "score.py", "molecules.smi"], cwd=place, check=True, capture_output=True)
    with begun(place, "console") as printed:
        run = started(place, "run", "molecules.smi", "--step", "score.py")
        wait_for_middle(page, printed["url"], "molecules.smi")
        shoot(page, "console-running", height=280)
        page.get_by_role("link", name="molecules.smi").click()
        page.wait_for_selector("#map")
        shoot(page, "console-live", height=720)
        texts = (
            "$ parcelq run molecules.smi --step score.py",
            printed_by(run),
            "$ parcelq jobs",
            printed_by(started(place, "jobs")),
        )
        draw_terminal("\n".join(texts), PICTURES / "terminal.svg")
        page.goto(printed["url"])
        page.get_by_role("link", name="molecules.smi").click()
        page.locator("#reasons summary").first.click()
        shoot(page, "console-job")
    page.goto((place / "results" / "molecules.smi.report.html").as_uri())
    page.locator("#map button:not(.done)").first.click()
    page.mouse.move(0, 0)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=PICTURES / f"report-{scheme}.png", full_page=True)
    page.emulate_media(color_scheme="light")
    estimate = ("estimate", "molecules.smi", "--step", "score.py", "--sample", "500", "--html", "estimate.html")
    subprocess.run([_COMMAND, *estimate], cwd=place, capture_output=True, check=True, timeout=600)
    page.goto((place / "estimate.html").as_uri())
    page.screenshot(path=PICTURES / "estimate.png", full_page=True)


def take_stack(place: Path, page: Any) -> None:
    """Take the pictures of jobs of a stack: the list of jobs, and the page of a job with failed records."""
    proteins = re.findall("^>[^>]*", (EXAMPLES / "proteins.fasta").read_text(), re.MULTILINE)
    options = ("--workflow", str(EXAMPLES / "protein-weight"), "--parcel-size", "100", "--batch-size", "100")
    with begun(place, "emulate", "--keep") as emulated:
        environment = emulated["environment"]
        with begun(place, "console", "--stack", emulated["stack"], **environment) as printed:
            for name, copies in _PROTEINS.items():
                records = proteins * copies
                for (file, number), letters in _UNKNOWN.items():
                    if file == name:
                        records[number - 1] = f"{records[number - 1].rstrip()}{letters}\n"
                (place / name).write_text("".join(records))
                command = [_COMMAND, "run", name, "--stack", emulated["stack"], *options, "--detach"]
                subprocess.run(command, cwd=place, env={**os.environ, **environment}, check=True, timeout=100)
                if name != "plants.fasta":
                    page.goto(printed["url"])
                    wait_for(page, rf"{name}\s+\S+\s+(whole|finished)")
            wait_for_middle(page, printed["url"], "plants.fasta")
            shoot(page, "stack-jobs", height=340)
            page.get_by_role("link", name="human.fasta").click()
            page.locator("#reasons summary").first.click()
            page.screenshot(path=PICTURES / "stack-job.png", full_page=True)


def shoot(page: Any, name: str, height: int = _HEIGHT) -> None:
    """Take a picture of the upper part of a page."""
    page.screenshot(path=PICTURES / f"{name}.png", clip={"x": 0, "y": 0, "width": _WIDTH, "height": height})


def wait_for_middle(page: Any, url: str, job: str) -> None:
    """Open the list of jobs, and wait until a running job is about half done and its rate is known."""
    page.goto(url)
    wait_for(page, rf"{job}\s+\S+\s+running\s+[2-7]\d\.\d%\s+\d")


def wait_for(page: Any, pattern: str) -> None:
    """Wait until a page shows a text that fits a pattern."""
    shows = "pattern => new RegExp(pattern).test(document.querySelector('main').innerText)"
    page.wait_for_function(shows, arg=pattern, timeout=600_000)


@contextmanager
def begun(place: Path, *arguments: str, **environment: str) -> Iterator[dict[str, Any]]:
    """Run a command until the `with` block ends; yield the first JSON document that the command prints."""
    command = [_COMMAND, *arguments, "--json"]
    process = subprocess.Popen(command, cwd=place, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.communicate(timeout=60)


def started(place: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a command on a terminal of its own."""
    command = ["script", "--quiet", "--return", "--command", " ".join([str(_COMMAND), *arguments]), "/dev/null"]
    environment = {**os.environ, "COLUMNS": "100", "TERM": "xterm-256color"}
    return subprocess.Popen(command, cwd=place, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment)


def printed_by(process: subprocess.Popen[bytes]) -> str:
    """Return the final content of a command's terminal, with colours."""
    out, _ = process.communicate(timeout=600)
    text = re.sub(r"\x1b\[\d*[AKJ]|\x1b\[\?25[lh]", "", out.decode().replace("\r\n", "\n"))
    return "\n".join(line.rpartition("\r")[2] for line in text.split("\n")).strip()


def draw_terminal(text: str, path: Path) -> None:
    """Draw the text of a terminal as SVG."""
    from rich.console import Console
    from rich.text import Text

    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        console = Console(record=True, width=110, file=nowhere, force_terminal=True)
        console.print(Text.from_ansi(text))
        drawn = console.export_svg(title="parcelq", unique_id="parcelq")
    # A font of the SVG would be loaded from elsewhere.
    path.write_text(re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL))


if __name__ == "__main__":
    main()

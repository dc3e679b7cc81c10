"""Make the pictures of the README from what labkit shows today: `make pictures`.

A run of `diabetes` in a clone of the checkout gives the page; then a division by zero is added to a notebook there, and
the run that fails gives the terminal.
"""

import json
import os
import pty
import subprocess
import sys
import tempfile
from io import StringIO
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
COLUMNS = 100
FAULT = "ratio = len(training) / (len(overview) - len(overview))"
COMMAND = ("labkit", "run", "diabetes")


def run_in_terminal(root: Path, *command: str) -> str:
    """Run a command on a pseudo-terminal and return what it printed."""
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "PYTHONPATH": str(root / "lib")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, cwd=root, env=environment, stdout=theirs, stderr=theirs, stdin=theirs)
    os.close(theirs)
    printed = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux reports the end of a pseudo-terminal as an error.
            break
        printed += piece
    process.wait()
    os.close(ours)
    return printed.decode()


def break_notebook(root: Path) -> None:
    """Add a line that fails to the cell that counts the kinds of features."""
    path = root / "notebooks" / "03_features.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cell = next(cell for cell in notebook["cells"] if cell["id"] == "kinds")
    cell["source"] = [*cell["source"], f"\n{FAULT}"]
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def draw_terminal(printed: str) -> str:
    """Return what stood on the terminal in the end as SVG; a line that was overwritten is left out."""
    lines = [line.rsplit("\r", 1)[-1] for line in printed.replace("\r\n", "\n").split("\n")]
    shown = [line for line in lines if Text.from_ansi(line).plain.strip()]
    console = Console(record=True, width=COLUMNS, file=StringIO())
    console.print(Text.from_ansi("\n".join([f"$ {' '.join(COMMAND)}", *shown])))
    return console.export_svg(title="labkit run")


def main() -> None:
    """Run the experiment twice and take both pictures."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder) / "labkit"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(root)], check=True)
        run_in_terminal(root, *COMMAND)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1100, "height": 1130})
        page.goto((root / "reports" / "diabetes" / "05_evaluation.html").as_uri())
        page.screenshot(path=HERE / "report.png")
        break_notebook(root)
        page.set_content(draw_terminal(run_in_terminal(root, *COMMAND)))
        page.locator("svg").screenshot(path=HERE / "run.png")
        browser.close()


if __name__ == "__main__":
    main()

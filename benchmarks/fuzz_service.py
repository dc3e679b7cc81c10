"""Send generated requests, valid and not, to a service.

`python benchmarks/fuzz_service.py --release DIR --schemathesis FILE`, run in a checkout of the
release's experiment. FILE is the command of an environment with schemathesis, which generates the requests from the
service's own OpenAPI document.

Prints the responses by path and status, and ends with code 1 if one is a server error, names a file or a line
of the service, or refuses without saying what is wrong.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

LEAKS = ("Traceback", "site-packages", ".py", "/tmp/", "/home/", "/root/", "/usr/lib")
"""Strings that are in no response unless it shows something of the machine."""
WHOLE = ("the body", "no rows")
"""Beginnings of messages on a body as a whole."""
PORT = 5204


def start(release: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start the service of a release and wait until it answers."""
    experiment = json.loads((release / "release.json").read_text())["experiment"]
    command = [str(Path(sys.executable).parent / "labkit"), "serve", experiment, "--release", str(release.resolve())]
    process = subprocess.Popen([*command, "--port", str(PORT), "--state", str(folder)])
    for _ in range(600):
        with suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/ping")
            return process
        time.sleep(0.1)
    raise SystemExit("the service does not answer")


def list_entries(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield all requests with their responses, as schemathesis reports them, also if it was interrupted."""
    for path in folder.rglob("*.json"):
        content, decoder = path.read_text(), json.JSONDecoder()
        with suppress(ValueError, IndexError):  # the end of the list, or of what was written
            place = content.index("[", content.index('"entries"')) + 1
            while True:
                while content[place] in ", \r\n\t":
                    place += 1
                entry, place = decoder.raw_decode(content, place)
                yield entry


def find_fault(path: str, status: int, content: str) -> str:
    """Return what is wrong with a response; empty if nothing is."""
    if status >= 500:
        return "a server error"
    if path.startswith(("/docs", "/openapi")) or status < 400:
        return ""
    if found := [word for word in LEAKS if word in content]:
        return f"names {found[0]}"
    try:
        first = json.loads(content)["faults"][0]
    except (ValueError, LookupError, TypeError):
        return "does not say what is wrong"
    is_named = status != 422 or {"row", "column"} & {*first} or first["message"].startswith(WHOLE)
    return "" if is_named else "names no field"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", type=Path, required=True)
    parser.add_argument("--schemathesis", type=Path, required=True)
    parser.add_argument("--examples", type=int, default=2500, help="requests to each path that takes a body, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="end after so long with what was sent until then")
    given = parser.parse_args()
    counts: Counter[tuple[str, int]] = Counter()
    faults: Counter[tuple[str, int, str]] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        service = start(given.release, Path(scratch) / "state")
        options = ["--checks", "not_a_server_error", "--phases", "examples,coverage,fuzzing", "--report", "har"]
        command = [str(given.schemathesis), "run", f"http://127.0.0.1:{PORT}/openapi.json", *options]
        limits = ["--max-examples", str(given.examples), "--seed", str(given.seed), "--report-dir", f"{scratch}/har"]
        try:
            subprocess.run([*command, *limits], cwd=scratch, stdout=subprocess.DEVNULL, timeout=given.seconds)
        except subprocess.TimeoutExpired:
            print(f"interrupted after {given.seconds:.0f} s")
        service.terminate()
        service.wait()
        for entry in list_entries(Path(scratch) / "har"):
            path, response = urlsplit(entry["request"]["url"]).path, entry["response"]
            counts[path, response["status"]] += 1
            if fault := find_fault(path, response["status"], response["content"].get("text", "")):
                faults[path, response["status"], fault] += 1
    for (path, status), number in sorted(counts.items()):
        print(f"{number:7,} {path} {status}")
    print(f"{counts.total():7,} requests, {faults.total():,} faults")
    for (path, status, fault), number in faults.items():
        print(f"{number:7,} {path} {status}: {fault}")
    raise SystemExit(1 if faults or not counts else 0)


if __name__ == "__main__":
    main()

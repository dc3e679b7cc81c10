"""What the log of predictions costs a service: requests per second and CPU time with it, against without.

`python benchmarks/log_cost.py --release DIR --rows TABLE`, run in a checkout of the release's experiment. Three
services of the same release run at once, one with its log and two without, and are asked in turn, each time in another
order; the second without the log shows how much two equal services differ. Ratios are those of each round, of which the
median and the quartiles are printed: a busy machine changes requests per second by more than the log does, CPU time by
less.
"""

import argparse
import json
import statistics
import sys
import tempfile
from contextlib import ExitStack
from itertools import permutations
from pathlib import Path

from labkit.model.release.runtime import load_runtime
from serving import CASES, SCRIPT, Server, encode_rows, make_rows, measure
from side_by_side import describe_machine

KINDS = {"log": "--log", "none": "--no-log", "none again": "--no-log"}
RATIOS = {"log against none": ("log", "none"), "none against none": ("none again", "none")}


def make_servers(given: argparse.Namespace, experiment: str, folder: Path) -> list[Server]:
    """Return the services, not yet started."""
    command = [
        str(Path(sys.executable).parent / "labkit"),
        "serve",
        experiment,
        "--release",
        str(given.release.resolve()),
    ]
    return [
        Server(
            name,
            [*command, option, "--port", str(5210 + place), "--state", str(folder / f"state{place}")],
            5210 + place,
            "/predict",
            encode_rows,
            Path.cwd(),
        )
        for place, (name, option) in enumerate(KINDS.items())
    ]


def show(servers: dict[str, Server], case: str) -> None:
    """Print the ratios of a case."""
    for words, (one, other) in RATIOS.items():
        cells = [case, words]
        for key in ("per_second", "cpu_ms"):
            pairs = zip(servers[one].rounds[case], servers[other].rounds[case], strict=True)
            ratios = [first[key] / second[key] for first, second in pairs]
            low, middle, high = statistics.quantiles(ratios, n=4)
            cells.append(f"{middle:.3f} ({low:.3f}–{high:.3f})")
        errors = sum(found["errors"] for name in (one, other) for found in servers[name].rounds[case])
        print(f"| {' | '.join(cells)} | {errors:.0f} |", flush=True)


def main() -> None:
    """Start the services, ask them in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=18)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", nargs="+", default=["64"], choices=[case for case in CASES if case.isdigit()])
    given = parser.parse_args()
    opened = load_runtime(given.release)
    rows = make_rows(given.rows, opened)
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as running:
        folder = Path(scratch)
        (script := folder / "bodies.lua").write_text(SCRIPT)
        (bodies := folder / "bodies").write_text("\n".join(json.dumps({"rows": [row]}) for row in rows))
        servers = make_servers(given, opened.facts["experiment"], folder)
        for one in servers:
            one.start(encode_rows(rows[:1]), folder / f"{one.name}.log")
            running.callback(one.stop)
        orders = [*permutations(servers)]
        for case in given.connections:
            for number in range(given.rounds):
                for one in orders[number % len(orders)]:
                    measure(one, case, bodies, script, given.seconds)
        print(describe_machine())
        print(
            "| connections | pair | requests/s, median (quartiles) | CPU per request | errors |",
            "|---|---|---|---|---|",
            sep="\n",
        )
        for case in given.connections:
            show({one.name: one for one in servers}, case)


if __name__ == "__main__":
    main()

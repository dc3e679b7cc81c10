"""What is kept of infinite output: its beginning, its end, and a line that counts what was cut."""

import io
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labkit import paths
from labkit.params.experiment import TimeLimits
from labkit.run.kernels import servers
from labkit.run.notebook import execution, executor, output_limit
from labkit.run.notebook.output_limit import MOST_OF_TAIL, Excerpt, OutputLimit, describe_cut, open_raw, shorten_file
from labkit.run.notebook.result import number_cells
from nbformat.v4 import output_from_msg

from tests.run.kernels.warm_kernels import make_bare
from tests.run.notebook.small_notebooks import EXPERIMENT, make_notebook, run

MOST = 200_000
SECRET = "correct horse battery staple"


@pytest.fixture(params=["ordinary", "cold server"])
def kernels(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have kernels of one kind, and cells that may output little; those of a warm server: `tests.run.kernels.test_provisioner`."""
    monkeypatch.setenv("LABKIT_ROOT", str(make_bare(tmp_path)))
    set_limits(monkeypatch)
    if request.param == "ordinary":
        monkeypatch.setenv(paths.WARM_VARIABLE, "")
        yield tmp_path
        return
    with servers.open_kernel_server(is_cold=True) as address:
        monkeypatch.setenv(paths.WARM_VARIABLE, str(address))
        yield tmp_path


def set_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (output_limit, execution):
        monkeypatch.setattr(module, "MOST_OF_CELL", MOST)
    monkeypatch.setattr(output_limit, "RESERVE", MOST // 20)


SOURCES = {
    "lines": "for n in range(3000): print(n, 'z' * 997)",
    "one line": "import sys\nfor n in range(3000): sys.stdout.write('z' * 1000)\nprint('\\n2999')",
    "short lines": "for n in range(600_000): print('y')\nprint(2999)",
    "stderr": "import sys\nfor n in range(3000): print(n, 'z' * 997, file=sys.stderr)",
    "both": "import sys\nfor n in range(3000): print(n, 'z' * 997); print(n, 'z' * 997, file=sys.stderr)",
    "flushed": "for n in range(3000): print(n, 'z' * 997, flush=True)",
    "file descriptor": "import os\nfor n in range(3000): os.write(1, b'%d ' % n + b'z' * 997 + b'\\n')",
    "another program": "import os\nos.system('yes | head -c 3000000; echo 2999')",
}


@pytest.mark.slow
def test_infinite_output_is_cut_in_notebook_and_log(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With it, ipykernel does not take in what is written to the file descriptors.
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    log = io.StringIO()
    ended, _, executed = run(make_notebook(kernels / "a.ipynb", EXPERIMENT, *SOURCES.values(), "1"), log=log)
    assert ended.failure is None
    logged = log.getvalue().split("--- cell ")
    for number, cell in list(zip(number_cells(executed.cells), executed.cells, strict=True))[-len(SOURCES) - 1 : -1]:
        printed = [output.get("text", "") for output in cell.outputs]
        assert f"cell {number}: " in ended.cut
        assert any("characters of output are left out …" in string for string in printed), cell.source
        assert any(string.rstrip().rpartition("\n")[2].startswith("2999") for string in printed), cell.source
        assert MOST / 8 < sum(map(len, printed)) < 1.2 * MOST, cell.source
        (part,) = [part for part in logged if part.startswith(f"{number} of ")]
        assert "further output is left out" in part
        assert "characters of output are left out …" in part
        assert "2999" in part[-2000:], cell.source
        assert len(part) < 1.2 * MOST, cell.source
    assert (kernels / "executed.ipynb").stat().st_size < 1.5 * MOST * len(SOURCES)


class SlowLog(io.StringIO):
    """A log that takes longer to write a message than a cell takes to send it."""

    def write(self, string: str) -> int:
        time.sleep(0.001)
        return super().write(string)


@pytest.mark.slow
def test_output_is_complete_although_it_is_read_slowly(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "OUTPUT_SECONDS", 60)
    log = SlowLog()
    source = "for n in range(5000): print(n, flush=True)"
    ended, _, _ = run(make_notebook(kernels / "a.ipynb", EXPERIMENT, source), log=log)
    assert ended.failure is None
    assert log.getvalue().split()[-5000:] == [str(n) for n in range(5000)]


@pytest.mark.slow
def test_output_of_other_programs_is_complete_when_the_cell_ends(
    kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    slow = "import os, sys, time\nwrite = sys.stdout.write\nsys.stdout.write = lambda s: (time.sleep(0.2), write(s))[1]"
    cells = ["os.write(1, b'y' * 3000 + b' the end')", "sys.stdout.write = write", "1"]
    ended, _, executed = run(make_notebook(kernels / "a.ipynb", EXPERIMENT, slow, *cells))
    assert ended.failure is None
    assert "".join(one.get("text", "") for one in executed.cells[-3].outputs).endswith("y the end")


@pytest.mark.slow
def test_program_that_writes_for_ever_does_not_hold_up_a_cell(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    cells = ["import subprocess\nprogram = subprocess.Popen('yes')", "program.kill()\nprogram.wait()"]
    ended, _, _ = run(make_notebook(kernels / "a.ipynb", EXPERIMENT, *cells))
    assert ended.failure is None


@pytest.mark.slow
def test_failure_to_read_the_file_descriptor_does_not_hold_up_a_cell(
    kernels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    broken = (
        "import os, sys, time\nwrite, sys.stdout.flush_timeout = sys.stdout.write, 10_000\n"
        "def fail(content): raise OSError('broken')\nsys.stdout.write = fail\nos.write(1, b'y' * 3000)\n"
        "while sys.stdout._exc is None: time.sleep(0.01)\nsys.stdout.write = write"
    )
    ended, _, _ = run(make_notebook(kernels / "a.ipynb", EXPERIMENT, broken), limits=TimeLimits(cell_seconds=120))
    assert ended.failure is None


def test_outputs_beyond_the_limit_are_cut_and_counted(kernels: Path) -> None:
    source = "from IPython.display import HTML, display\nfor n in range(60): display(HTML(f'{n}' + 'h' * 9000))"
    ended, _, executed = run(make_notebook(kernels / "a.ipynb", EXPERIMENT, source + "\nprint('done')"))
    outputs = executed.cells[-1].outputs
    assert ended.failure is None
    assert len(outputs) < 30
    assert f"… {60 - len([one for one in outputs if one.output_type == 'display_data'])} outputs are left out …" in str(
        outputs
    )
    assert "done\n" in [output.get("text") for output in outputs]


@pytest.mark.slow
@pytest.mark.parametrize(
    "source",
    [
        "print('z' * 1_000_000)\nraise ValueError('at the end')",
        "for n in range(300):\n    try: 1 / 0\n    except Exception: get_ipython().showtraceback()\nraise ValueError('at the end')",
        "raise ValueError('at the end' + 'x' * 1_000_000)",
    ],
)
def test_error_after_all_that_is_kept(kernels: Path, source: str) -> None:
    ended, _, executed = run(make_notebook(kernels / "a.ipynb", EXPERIMENT, source))
    assert ended.failure
    assert ended.failure.summary.startswith("ValueError: at the end")
    assert ended.failure.line.startswith("raise ValueError('at the end'")
    assert executed.cells[-1].outputs[-1].output_type == "error"
    assert (kernels / "executed.ipynb").stat().st_size < 3 * MOST


@pytest.mark.slow
def test_what_a_cell_takes_back_counts_no_more(kernels: Path) -> None:
    source = (
        "from IPython.display import clear_output\nfor n in range(50): clear_output(wait=True); print(n, 'z' * 50_000)"
    )
    ended, _, executed = run(make_notebook(kernels / "a.ipynb", EXPERIMENT, source))
    assert (ended.failure, ended.cut) == (None, "")
    assert [output.text[:3] for output in executed.cells[-1].outputs] == ["49 "]


@pytest.mark.slow
def test_whole_notebook_has_a_limit_too(kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_limit, "MOST_OF_NOTEBOOK", 3 * MOST)
    monkeypatch.setattr(execution, "MOST_OF_NOTEBOOK", 3 * MOST)
    log = io.StringIO()
    cells = ["print('z' * 150_000)"] * 10
    ended, _, _ = run(make_notebook(kernels / "a.ipynb", EXPERIMENT, *cells), log=log)
    assert ended.failure is None
    assert (kernels / "executed.ipynb").stat().st_size < 4 * MOST + 10 * MOST_OF_TAIL
    assert len(log.getvalue()) < 4 * MOST + 10 * MOST_OF_TAIL


def send(limit: OutputLimit, outputs: list[Any], kind: str, **content: Any) -> None:
    """Let a limit see a message, and keep its output if it is admitted."""
    message = {"msg_type": kind, "header": {"msg_type": kind}, "content": content}
    if limit.admit(message, outputs) and kind != "clear_output":
        outputs.append(output_from_msg(message))


def make_limit(monkeypatch: pytest.MonkeyPatch) -> OutputLimit:
    set_limits(monkeypatch)
    limit = OutputLimit(reach=200)
    limit.start_cell()
    return limit


@pytest.mark.parametrize("seed", range(5))
def test_no_part_of_a_secret_is_shown_at_a_cut(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Wherever pieces end; what is whole is masked afterwards."""
    rng, limit, outputs = random.Random(seed), make_limit(monkeypatch), list[Any]()
    string = f"{SECRET}." * 40_000
    while string:
        size = rng.choice([1, 7, 100, 5000, 100_000])
        send(limit, outputs, "stream", name="stdout", text=string[:size])
        string = string[size:]
    outputs += limit.end_cell(0, outputs)
    kept = "".join(output.text for output in outputs)
    begin, _, end = kept.partition("\n… ")
    for part in (begin, end.partition("…\n")[2]):
        assert any(part.endswith(f"{SECRET}."[: len(SECRET) + 1 - n]) for n in range(len(SECRET)))
    assert len(kept) < 1.2 * MOST


def test_many_outputs_of_one_letter_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    limit, outputs = make_limit(monkeypatch), list[Any]()
    for _ in range(5000):
        send(limit, outputs, "stream", name="stdout", text="x")
    assert len(outputs) < MOST / output_limit.COST + output_limit.COST
    assert sum(len(output.text) for output in outputs + limit.end_cell(0, outputs)) == 5000


def test_update_larger_than_a_cell_may_be_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = make_limit(monkeypatch)
    message = {"msg_type": "update_display_data", "content": {"data": {"text/plain": "x" * 2 * MOST}, "metadata": {}}}
    assert not limit.admit(message, [])
    for _ in range(100):
        message["content"] = {"data": {"text/plain": "x" * (MOST // 2)}, "metadata": {}}
        assert limit.admit(message, [])


@pytest.mark.parametrize("n_lines", [0, 1, 50, 5000])
def test_beginning_and_end_make_the_whole(n_lines: int) -> None:
    string = "".join(f"line {n}\n" for n in range(n_lines))
    excerpt = Excerpt(300, reach=200)
    begin = "".join(excerpt.take(string[place : place + 77]) for place in range(0, len(string), 77))
    end = excerpt.close()
    assert string.startswith(begin)
    assert len(begin) <= 300
    if excerpt.n_missing:
        missing, _, last = end.lstrip("\n").partition("\n")
        assert missing == describe_cut(excerpt.n_missing)
        assert string.endswith(last)
        assert len(begin) + excerpt.n_missing + len(last) == len(string)
        assert last.startswith("line ")
    else:
        assert begin + end == string


def test_file_of_the_process_is_cut_while_it_is_written() -> None:
    with open_raw() as raw:
        for _ in range(30):
            raw.write(b"x" * 100_000)
            raw.flush()
            shorten_file(raw)
        raw.seek(0)
        assert raw.read() == b"x" * output_limit.MOST_OF_RAW


@pytest.mark.slow
def test_log_shows_nothing_that_a_terminal_obeys(kernels: Path) -> None:
    log = io.StringIO()
    source = "print('\\x1b]0;title\\x07 \\x1b[31mred\\x1b[0m')\nprint('10 %\\r20 %\\r30 %')\nprint('a\\u202eb')"
    run(make_notebook(kernels / "a.ipynb", EXPERIMENT, source), log=log)
    assert log.getvalue().splitlines()[-5:] == ["\\x1b]0;title\\x07 red", "10 %", "20 %", "30 %", "a\\u202eb"]


@pytest.mark.slow
def test_progress_bar_without_a_line_break_does_not_wait_for_one(kernels: Path) -> None:
    log = io.StringIO()
    source = (
        "import sys\nfor n in range(20): sys.stderr.write(f'\\r{n} %'); sys.stderr.flush()\nprint(open('LOG').read())"
    )
    (kernels / "LOG").write_text("never mind")
    run(make_notebook(kernels / "a.ipynb", EXPERIMENT, source), log=log)
    assert "\n18 %\n" in log.getvalue()

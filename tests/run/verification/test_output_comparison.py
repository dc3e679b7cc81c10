"""When two outputs count as the same, and how a difference is described."""

from datetime import UTC, datetime

import pytest
from labkit.run.verification.output_comparison import compare_outputs
from nbformat import NotebookNode
from nbformat.v4 import new_output

from tests.run.verification.scratch import printed, show

NOW = datetime.now(UTC)
STYLED = '<style>#T_{0} {{}}</style><table id="T_{0}"><tr><td>{1}</td></tr></table>'


@pytest.mark.parametrize(
    ("saved", "fresh"),
    [
        (printed("score 0.5231\n"), printed("score 0.52310001\n")),
        (printed("   a    b\n0  1.0  2.0\n"), printed("  a      b\n0 1.0000001    2.0\n")),
        (printed("1e-17"), printed("-3.5e-16")),
        (printed("1,234.5 and .5"), printed("1234.5 and 0.5").copy() | {"text": "1,234.5 and .50000001"}),
        (show("<a.B object at 0x7f0123456789>"), show("<a.B object at 0x7f9876543210>")),
        (show("id 123e4567-e89b-12d3-a456-426614174000"), show("id 00000000-e89b-12d3-a456-426614174000")),
        (printed("started 2026-01-02 03:04:05.678\n"), printed(f"started {NOW:%Y-%m-%d %H:%M:%S}.1\n")),
        (printed("CPU times: user 1 s\nWall time: 2 s\nx"), printed("CPU times: user 3 s\nWall time: 4.5 s\nx")),
        (printed("1 %\r50 %\r100 %"), printed("100 %")),
        (printed("\x1b[31mred\x1b[0m"), printed("red")),
        (printed("warned at line 5", "stderr"), printed("warned at line 7", "stderr")),
        (show(STYLED.format("ab12f", "1.5"), "text/html"), show(STYLED.format("cd34e", "1.5"), "text/html")),
        (show("aGVsbG8=", "image/png"), show("d29ybGQ=", "image/png")),
        (show("/tmp/tmpab12cd/x"), show("/tmp/tmpzz99yy/x")),
    ],
)
def test_what_differs_only_by_chance_is_the_same(saved: NotebookNode, fresh: NotebookNode) -> None:
    assert compare_outputs([saved], [fresh], rtol=1e-6) == ""
    assert compare_outputs([saved, printed("more")], [fresh], rtol=1e-6) != ""


@pytest.mark.parametrize(
    ("saved", "fresh", "message"),
    [
        (printed("a\nscore 0.52"), printed("a\nscore 0.53"), "printed line 2: saved `score 0.52`, now `score 0.53`"),
        (printed("33677600 rows"), printed("33677601 rows"), "printed line 1: saved `33677600 rows`, now `33677601 rows`"),
        (printed("a"), printed("a\nb"), "printed output of 1 line saved, of 2 now"),
        (show("'a'"), show("'b'"), "output 1 (text/plain), line 1: saved `'a'`, now `'b'`"),
        (show("2013-01-01"), show("2013-01-02"), "output 1 (text/plain), line 1: saved `2013-01-01`, now `2013-01-02`"),
        (show(STYLED.format("a", "1.5"), "text/html"), show(STYLED.format("a", "1.6"), "text/html"), "output 1 (text/html), line 1: saved `1.5`, now `1.6`"),
        (show("x", "image/png"), show("x", "image/jpeg"), "output 1: saved as image/png, now image/jpeg"),
        (printed("ghp_" + "a1B2" * 10), printed("none"), "printed line 1: saved `[redacted]`, now `none`"),
        (show("{'a': 1.0}", "application/json"), show("{'a': 1.1}", "application/json"), "output 1 (application/json), line 1: saved `\"{'a': 1.0}\"`, now `\"{'a': 1.1}\"`"),
    ],
)  # fmt: skip
def test_difference_is_described(saved: NotebookNode, fresh: NotebookNode, message: str) -> None:
    assert compare_outputs([saved], [fresh], rtol=1e-6) == message


def test_tolerance_is_relative_and_can_be_widened() -> None:
    assert compare_outputs([show("1000.0")], [show("1000.9")], rtol=1e-3) == ""
    assert compare_outputs([show("1.0")], [show("1.002")], rtol=1e-3) != ""


def test_error_in_place_of_an_output_is_named() -> None:
    error = new_output("error", ename="KeyError", evalue="'a'", traceback=[])
    assert compare_outputs([], [error], rtol=1e-6) == "0 outputs saved, 1 now (error KeyError)"
    assert compare_outputs([error], [error], rtol=1e-6) == ""

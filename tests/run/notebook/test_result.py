"""Why a notebook stopped, in words: also of exceptions that hold others, and of messages without end."""

import traceback
from collections.abc import Callable

import pytest
from labkit.run.notebook.result import describe_group


def fail(error: Exception, cause: Exception | None = None) -> Exception:
    """Return an error that was raised, with a traceback of its own."""
    try:
        raise error from cause
    except Exception as raised:
        return raised


CASES: list[tuple[Callable[[], ExceptionGroup], str]] = [  # type: ignore[type-arg]
    (lambda: ExceptionGroup("one", [ValueError("a")]), "one (1 exception): ValueError: a"),
    (lambda: ExceptionGroup("raised", [fail(ValueError("a"))]), "raised (1 exception): ValueError: a"),
    (
        lambda: ExceptionGroup("caused", [fail(KeyError("later"), fail(ValueError("first")))]),
        "caused (1 exception): KeyError: 'later'",
    ),
    (
        lambda: ExceptionGroup("lines", [ValueError("one\ntwo"), ValueError("  indented"), ValueError()]),
        "lines (3 exceptions): ValueError: one; ValueError:   indented; ValueError",
    ),
    (
        lambda: ExceptionGroup("nested", [ExceptionGroup("inner", [TypeError("t"), OSError("o")]), KeyError("k")]),
        "nested (2 exceptions): ExceptionGroup: inner (2 sub-exceptions); KeyError: 'k'",
    ),
    (
        lambda: ExceptionGroup("deep", [fail(ExceptionGroup("inner", [fail(TypeError("t"))])), KeyError("k")]),
        "deep (2 exceptions): ExceptionGroup: inner (1 sub-exception); KeyError: 'k'",
    ),
    (
        lambda: ExceptionGroup("many", [ValueError(number) for number in range(40)]),
        "many (40 exceptions): ValueError: 0; ValueError: 1; ValueError: 2; … and 37 more",
    ),
    (lambda: ExceptionGroup("odd (2 things)", [ValueError("a")]), "odd (2 things) (1 exception): ValueError: a"),
]


@pytest.mark.parametrize(("make", "described"), CASES, ids=[described.split()[0] for _, described in CASES])
def test_exception_group_is_described_with_its_members(make: Callable[[], Exception], described: str) -> None:
    error = fail(make())
    assert describe_group(str(error), "".join(traceback.format_exception(error))) == described


def test_group_whose_traceback_is_not_there_keeps_its_message() -> None:
    assert describe_group("several (2 sub-exceptions)", "") == "several (2 sub-exceptions)"

"""An edit of the checkout's code is seen by a live kernel, and never by the kernel of a run."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from labkit import paths

from tests.run.kernels.warm_kernels import Kernel, make_bare

pytestmark = pytest.mark.slow
START = "from churn.prices import Customer, price; customer = Customer(); kept = [1]"


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A checkout with a package of its own, and a function that edits its module."""
    root = make_bare(tmp_path)
    module = root / "lib" / "churn" / "prices.py"
    module.parent.mkdir(parents=True)
    (module.parent / "__init__.py").touch()
    for name, value in (("LABKIT_ROOT", str(root)), ("LABKIT_WARM", ""), ("PYTHONPATH", str(root / "lib"))):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    now = module.parent.stat().st_mtime_ns // 10**9 * 10**9
    later = count(1)

    def edit(amount: str) -> None:
        """All edits are within one second, in which Python's own check of compiled modules sees no difference."""
        lines = [
            "def price():",
            f"    return {amount}",
            "class Customer:",
            "    def pay(self):",
            f"        return {amount}",
        ]
        module.write_text("\n".join(lines) + "\n")
        os.utime(module, ns=(now, now + next(later)))

    edit("1")
    return edit


@pytest.fixture
def kernel(edit: Callable[[str], None], tmp_path: Path) -> Iterator[Kernel]:
    started = Kernel(tmp_path / "notebooks")
    yield started
    started.close()


def test_edit_is_seen_and_variables_stay(kernel: Kernel, edit: Callable[[str], None]) -> None:
    assert kernel.ask(START) == ""
    assert kernel.ask("print(price(), customer.pay())") == "1 1"
    edit("2")
    assert kernel.ask("print(price(), customer.pay(), kept)") == "labkit: reloaded churn.prices\n2 2 [1]"
    edit("3 +")
    failed = "labkit: churn.prices is not reloaded: lib/churn/prices.py, line 2: SyntaxError: invalid syntax"
    assert kernel.ask("print(price())") == f"{failed}; the old code stays until the file is corrected\n2"
    assert kernel.ask("print(price())") == "2"
    edit("gone\n1 / 0\ndef more(): return 0")
    failed = failed.replace("line 2: SyntaxError: invalid syntax", "line 3: ZeroDivisionError: division by zero")
    assert kernel.ask("print(price())") == f"{failed}; the old code stays until the file is corrected\n2"
    edit("4")
    assert kernel.ask("print(price(), customer.pay())") == "labkit: reloaded churn.prices\n4 4"


@pytest.mark.parametrize(("variable", "value"), [(paths.RUN_DIR_VARIABLE, "run"), (paths.AUTORELOAD_VARIABLE, "0")])
def test_nothing_is_reloaded_in_a_run(
    edit: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    (tmp_path / "run").mkdir()
    monkeypatch.setenv(variable, str(tmp_path / value) if value == "run" else value)
    kernel = Kernel(tmp_path / "notebooks")
    try:
        kernel.ask(START)
        edit("2")
        assert kernel.ask("print(price(), customer.pay())") == "1 1"
    finally:
        kernel.close()

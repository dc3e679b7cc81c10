"""An IPython shell, so that what would be displayed can be looked at."""

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config


@pytest.fixture(scope="session", autouse=True)
def shell() -> InteractiveShell:
    """Return a shell that keeps no history."""
    return InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))

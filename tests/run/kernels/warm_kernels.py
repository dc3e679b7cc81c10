"""Bare checkouts, warm kernels with a client, and waiting for what they do."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jupyter_client.blocking import BlockingKernelClient
from jupyter_client.manager import KernelManager
from labkit.run.kernels.provisioner import make_kernel_specs


def make_bare(root: Path) -> Path:
    """Make a folder a checkout with nothing in it."""
    for name in ("params", "notebooks"):
        (root / name).mkdir()
    (root / "dvc.yaml").touch()
    return root


class Kernel:
    """A kernel of the server with a client; options are those that its start takes."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.manager = KernelManager(kernel_name="python3", kernel_spec_manager=make_kernel_specs())
        self.manager.start_kernel(cwd=str(folder), **options)
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    @property
    def process(self) -> Any:
        return self.manager.provisioner.process

    def ask(self, code: str, timeout: float = 60) -> str:
        """Run code and return what it printed, or the name of what it raised."""
        printed: list[str] = []

        def collect(message: dict[str, Any]) -> None:
            content = message["content"]
            printed.append(
                content.get("text", content.get("ename", "")) if message["msg_type"] != "execute_input" else ""
            )

        self.client.execute_interactive(code, output_hook=collect, timeout=timeout)
        return "".join(printed).strip()

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for something to come true."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)

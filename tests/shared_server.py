"""One process to fork kernels from for many checkouts: to import everything takes longer than most runs of a test."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from labkit.run.kernels import servers


class SharedServer:
    """A server for the tests of one worker; to a run in a checkout it is the one that `labkit warm` keeps there.

    A command that stops the checkout's server would stop it for all tests: see `withhold`.
    """

    def __init__(self, address: Path) -> None:
        self.address = address
        self.lent: list[Path] = []

    def lend(self, root: Path) -> Path:
        """Let a checkout fork its kernels from this server, and return the checkout."""
        place = find_kept_address(root)
        # Killed tests, in a folder of the same name, may have left one.
        shutil.rmtree(place.parent, ignore_errors=True)
        place.parent.mkdir(mode=0o700)
        place.symlink_to(self.address)
        self.lent.append(place)
        return root

    @contextmanager
    def withhold(self, root: Path) -> Iterator[None]:
        """Leave a checkout without a kept server for the time of the block."""
        shutil.rmtree(find_kept_address(root).parent)
        try:
            yield
        finally:
            self.lend(root)

    def close(self) -> None:
        """Remove what was put in place for the checkouts."""
        for place in self.lent:
            shutil.rmtree(place.parent, ignore_errors=True)


def find_kept_address(root: Path) -> Path:
    """Return where a run in a checkout looks for the server that is kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_ROOT", str(root))
        return servers.make_address()


@contextmanager
def serve_kernels(root: Path) -> Iterator[SharedServer]:
    """Start a server that imports what the notebooks of a checkout do."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LABKIT_ROOT", str(root))
            shared = SharedServer(stack.enter_context(servers.open_kernel_server()))
        stack.callback(shared.close)
        yield shared

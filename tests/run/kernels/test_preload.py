"""The modules that the fork server of warm kernels imports."""

from labkit.paths import find_root
from labkit.run.kernels.preload import RUNNER_PARTS, find_modules


def test_parts_left_out_exist() -> None:
    """A renamed part would silently be preloaded into every kernel."""
    library = find_root() / "lib" / "labkit"
    assert [part for part in RUNNER_PARTS if not (library / part).is_dir()] == []


def test_modules_of_the_runner_are_not_preloaded() -> None:
    packages = {name.partition(".")[0] for name in find_modules(find_root())}
    assert {"pandas", "sklearn"} <= packages
    assert not {"papermill", "dvc", "nbconvert", "nbformat", "copier", "dask", "distributed"} & packages

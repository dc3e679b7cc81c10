"""Old names in published models, which can still be read: of modules, and of keys.

A model file names each type by its module. All other code uses the current names.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

RENAMED = {
    "labkit.data.features": "labkit.features.row_features",
    "labkit.model.calibration": "labkit.model.estimators.calibrated",
    "labkit.model.candidates": "labkit.model.estimators.preprocessing",
    "labkit.model.target_scale": "labkit.model.estimators.target_transform",
}


class RenamedModules(MetaPathFinder, Loader):
    """Finds a module by its old name, and fills it with the content of the module with the new name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for old names only."""
        return ModuleSpec(fullname, self) if fullname in RENAMED else None

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module with the public names of its replacement."""
        content = vars(importlib.import_module(RENAMED[module.__name__]))
        module.__dict__.update({name: value for name, value in content.items() if not name.startswith("_")})


def accept_old_names() -> None:
    """Allow imports by old names in this process."""
    if not any(isinstance(finder, RenamedModules) for finder in sys.meta_path):
        sys.meta_path.append(RenamedModules())


def list_old_types(types: Sequence[str]) -> list[str]:
    """Return the old names of types that have one.

    Parameters
    ----------
    types
        Current names, with their modules.
    """
    old = {new: name for name, new in RENAMED.items()}
    parts = [one.rpartition(".") for one in types]
    return [f"{old[module]}.{name}" for module, _, name in parts if module in old]


def find_holdout_metric(metrics: Mapping[str, float], name: str) -> float:
    """Return a release's metric on the holdout, which older releases name without `holdout_`.

    Parameters
    ----------
    metrics
        `metrics` of its facts.
    name
        Name of the metric, such as `mae`.

    Examples
    --------
    >>> find_holdout_metric({"holdout_mae": 44.0}, "mae"), find_holdout_metric({"mae": 44.0}, "mae")
    (44.0, 44.0)
    """
    return metrics.get(f"holdout_{name}", metrics.get(name, float("nan")))

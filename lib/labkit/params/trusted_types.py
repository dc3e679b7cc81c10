"""Types that the params trust, so that a model may hold them: the user's own, or those of a library such as XGBoost.

A model file names types, and opening it makes objects of them. Types of labkit, scikit-learn and LightGBM are always
accepted; others only if `training.trusted_types` names them. Python's own modules are never accepted: they can start
programs and delete files. Of installed libraries only estimators are, because skops calls what a file names with
arguments from the file, and other functions and classes could do anything with these.
"""

import sys
from collections.abc import Iterable, Sequence

from labkit.errors import ParamsError
from labkit.params.import_path import find_own_package, resolve_callable

PLACE = "training.trusted_types"
BOOSTERS = (
    "catboost.core.CatBoost",
    "catboost.core.CatBoostClassifier",
    "catboost.core.CatBoostRanker",
    "catboost.core.CatBoostRegressor",
    "xgboost.core.Booster",
)
"""Models that may be trusted although they are not derived from scikit-learn's BaseEstimator."""


def list_trusted_types(named: Iterable[str]) -> list[str]:
    """Return the types that import paths name, as model files name them, e.g. `churn.models.Stack`; sorted.

    Raises
    ------
    ParamsError
        See `find_type`.
    """
    return sorted({find_type(text, where=PLACE) for text in named})


def find_type(text: str, *, where: str) -> str:
    """Return the type that an import path names, as model files name it.

    Parameters
    ----------
    text
        Import path, e.g. `xgboost.sklearn:XGBRegressor`.
    where
        Where it is named, for messages.

    Raises
    ------
    ParamsError
        It cannot be imported, is part of Python or no class or function, is defined in another module, or is neither
        an estimator nor in a package in the checkout's `lib` folder.

    Examples
    --------
    >>> find_type("labkit.model.estimators.calibrated:Calibrated", where="training.trusted_types")
    'labkit.model.estimators.calibrated.Calibrated'
    """
    if is_standard(text):
        raise ParamsError(f"{where}: {text} is part of Python, and could run anything: name types of your own")
    found = resolve_callable(text, where=where)
    module, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
    if not module or not name:
        raise ParamsError(f"{where}: {text} is of type {type(found).__name__}: name a class or a function")
    if is_standard(module):
        raise ParamsError(f"{where}: {text} is {module}.{name}, a part of Python: name types of your own")
    if f"{module}:{name}" != text:
        raise ParamsError(f"{where}: {text} is defined elsewhere: write {module}:{name}")
    kind = f"{module}.{name}"
    if find_own_package(module.partition(".")[0]) is None and not is_estimator(found, kind):
        raise ParamsError(f"{where}: {text} is no scikit-learn estimator: of installed libraries, name estimators only")
    return kind


def is_estimator(found: object, kind: str) -> bool:
    """Return whether the type of that name is a class of estimators, or a model of XGBoost or CatBoost.

    >>> is_estimator(print, "builtins.print")
    False
    """
    bases = found.__mro__ if isinstance(found, type) else ()
    return kind in BOOSTERS or any((one.__module__, one.__name__) == ("sklearn.base", "BaseEstimator") for one in bases)


def is_standard(name: str) -> bool:
    """Return whether a type, or a module, is part of Python.

    >>> is_standard("os.system"), is_standard("posix:mkdir"), is_standard("churn.models.Stack")
    (True, True, False)
    """
    top = name.partition(":")[0].partition(".")[0]
    return top in sys.stdlib_module_names or top in sys.builtin_module_names


def write_import_path(kind: str) -> str:
    """Return a type that a model file names as the params name it.

    >>> write_import_path("xgboost.core.Booster")
    'xgboost.core:Booster'
    """
    module, _, name = kind.rpartition(".")
    return f"{module}:{name}"


def describe_untrusted(kinds: Sequence[str]) -> str:
    """Return why a model with types that are not trusted cannot be saved, and the remedy.

    Parameters
    ----------
    kinds
        Types as a model file names them.

    Examples
    --------
    >>> describe_untrusted(["labkit.errors.LabkitError"])
    'it holds types that are not trusted: add "labkit.errors:LabkitError" to training.trusted_types if you trust them'
    >>> describe_untrusted(["_thread.lock"])
    'it holds _thread.lock, a part of Python that is never trusted: keep arrays and numbers'
    >>> describe_untrusted(["__main__.Stack"])
    'it holds __main__.Stack, which is defined in the notebook: define it at the top level of a module in lib/'
    """
    for kind in kinds:
        module, _, name = kind.rpartition(".")
        if module == "__main__":
            return f"it holds {kind}, which is defined in the notebook: define it at the top level of a module in lib/"
        if is_standard(kind):
            return f"it holds {kind}, a part of Python that is never trusted: keep arrays and numbers"
        if not hasattr(sys.modules.get(module), name):
            return (
                f"it holds {kind}, which cannot be imported: define it with a name at the top level of a module in lib/"
            )
    shown = ", ".join(f'"{write_import_path(kind)}"' for kind in kinds)
    return f"it holds types that are not trusted: add {shown} to {PLACE} if you trust them"

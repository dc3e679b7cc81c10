"""Environment variables that a stage depends on: which may be declared, and the digest of a value.

Read by `labkit.paths` alone; light, for it is imported in every kernel.
"""

import hashlib
from collections.abc import Collection

from labkit import paths
from labkit.errors import ParamsError
from labkit.secret import SECRET_NAME, TOKENS

ALREADY_SET = ("PATH", "JUPYTER_PATH")
"""Variables to which labkit adds something for each stage."""


def compute_variable_digest(name: str, secrets: Collection[str]) -> str:
    """Return the SHA-256 of a variable's value as a stage sees it, never the value; of a secret not even that."""
    value = paths.make_environment().get(name)
    if value is None:
        return "not set"
    if explain_refusal(name, value, secrets):
        return "refused"
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()


def is_set_by_labkit(name: str) -> bool:
    """Tell whether labkit sets a variable, or adds to it, for each stage."""
    return name in ALREADY_SET or name.startswith("LABKIT_")


def explain_refusal(name: str, value: str, secrets: Collection[str]) -> str:
    """Say why a stage may not depend on a variable, nothing if it may."""
    if name in secrets or SECRET_NAME.search(name) or TOKENS.search(value):
        return "it holds a secret, of which nothing is kept: get it by `step.secret`"
    if is_set_by_labkit(name):
        return "labkit sets it for each stage, so that it differs from machine to machine"
    return ""


def check_variable(name: str, secrets: Collection[str]) -> str:
    """Return a variable's name if a stage may depend on it.

    Raises
    ------
    ParamsError
        It is no name, or holds a secret.
    """
    if not isinstance(name, str) or not name or "=" in name or "\0" in name:
        raise ParamsError(f"step.depends_on: variable {name!r:.60} is not the name of an environment variable")
    if why := explain_refusal(name, paths.get_variable(name) or "", secrets):
        raise ParamsError(f"step.depends_on(variable={name!r}): {why}")
    return name

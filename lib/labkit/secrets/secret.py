"""Secrets: named in the params, stored in environment variables, and kept out of everything that is written.

`params/<experiment>.yaml` declares `secrets: {warehouse: WAREHOUSE_URL}`; a notebook gets the value with
`step.secret("warehouse")`. labkit does not store secrets. Read next: `labkit.run.notebook.executor`, where outputs are
masked.
"""

from collections.abc import Mapping
from typing import NoReturn

from labkit import paths
from labkit.errors import ParamsError, name_nearest
from labkit.units import format_count

SHORTEST = 8
"""Fewest characters of a secret: a shorter one may be an ordinary word, and masking it would make pages unreadable."""


class Secret:
    """A string that shows its name instead of its value; `reveal` returns the value.

    >>> url = Secret("warehouse", "postgresql://me:hidden@db/shop")
    >>> f"{url}", url.reveal()[:10]
    ('[secret warehouse]', 'postgresql')
    """

    __slots__ = ("_value", "name")

    def __init__(self, name: str, value: str) -> None:
        self.name = name
        self._value = value

    def reveal(self) -> str:
        """Return the value. Pass it on directly instead of assigning it to a variable."""
        return self._value

    def __repr__(self) -> str:
        return f"[secret {self.name}]"

    __str__ = _repr_html_ = __repr__

    def __format__(self, form: str) -> str:
        return format(repr(self), form)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} cannot be written to files: read it again where it is needed")


def read_secret(name: str, declared: Mapping[str, str], *, where: str) -> Secret:
    """Return a declared secret from its environment variable.

    Parameters
    ----------
    name
        Name of the secret.
    declared
        The section `secrets` of the params: environment variable by name.
    where
        The file that declares it, for error messages.

    Raises
    ------
    ParamsError
        No secret has that name, its variable is not set, or its value is too short to be masked.
    """
    if name not in declared:
        raise ParamsError(f"{where}: no secret {name!r} under `secrets`: {name_nearest(name, declared)}")
    variable = declared[name]
    value = paths.get_variable(variable)
    if value is None:
        raise ParamsError(f"{where}: secrets.{name}: the environment variable {variable} is not set: export it first")
    if len(value) < SHORTEST:
        raise ParamsError(
            f"{where}: secrets.{name}: the environment variable {variable} holds "
            f"{format_count(len(value), 'character')}: a secret needs at least {SHORTEST}, "
            "as a shorter one cannot be masked in what is written"
        )
    return Secret(name, value)


def read_secrets(declared: Mapping[str, str], *, where: str) -> dict[str, str]:
    """Return the values of all declared secrets, by name.

    Parameters
    ----------
    declared
        The section `secrets` of the params: environment variable by name.
    where
        The file that declares them, for error messages.

    Raises
    ------
    ParamsError
        A variable is not set, or its value is too short to be masked.
    """
    return {name: read_secret(name, declared, where=where).reveal() for name in declared}

"""Find values in params and files that look like secrets."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.errors import StageError
from labkit.secrets.redaction import REDACTED, TOKENS, find_forms

SECRET_NAME = re.compile(
    r"(?:_(?:key|token|password|secret)|^(?:api_?key|token|password|passwd|secret))$", re.IGNORECASE
)


def find_secret(tree: Any, *, holds_columns: Callable[[list[str]], bool] = lambda _: False) -> Iterator[list[str]]:
    """Yield the paths in plain data, as lists of keys, at which a secret seems to be in plaintext.

    Parameters
    ----------
    tree
        Mappings, lists and scalars.
    holds_columns
        Returns whether the keys of the mapping at a path are column names, which may look like names of secrets.
    """
    yield from walk(tree, [], holds_columns)


def walk(tree: Any, keys: list[str], holds_columns: Callable[[list[str]], bool]) -> Iterator[list[str]]:
    """Yield the paths of secrets at or below a path; see `find_secret`."""
    if isinstance(tree, Mapping):
        named = not holds_columns(keys)
        for key, value in tree.items():
            is_text = isinstance(value, str) and value != ""
            if TOKENS.search(str(key)) or (named and is_text and SECRET_NAME.search(str(key))):
                yield [*keys, str(key)]
            else:
                yield from walk(value, [*keys, str(key)], holds_columns)
    elif isinstance(tree, list | tuple):
        for number, item in enumerate(tree):
            yield from walk(item, [*keys, str(number)], holds_columns)
    elif isinstance(tree, str) and TOKENS.search(tree):
        yield keys


def describe_secret(keys: Sequence[str]) -> str:
    """Describe what to do about a plaintext secret, without repeating its value.

    Parameters
    ----------
    keys
        Path of the secret, as yielded by `find_secret`.
    """
    word = re.sub(r"[^a-z0-9_]", "_", TOKENS.sub("secret", str(keys[-1])).lower()) if keys else "secret"
    name = word if re.match(r"[a-z]", word) else "secret"
    place = TOKENS.sub(REDACTED, ".".join(keys))
    return (
        f"{place} looks like a secret: name it under `secrets`, e.g. secrets: {{{name}: {name.upper()}}}, "
        f"and set the environment variable {name.upper()}"
    )


def check_files(folder: Path, secrets: Mapping[str, str]) -> None:
    """Refuse files that contain a secret in plaintext, escaped or encoded.

    Parameters
    ----------
    folder
        Folder to search, with its subfolders.
    secrets
        Secret values by name.

    Raises
    ------
    StageError
        A file contains one; the message names the file and the secret.
    """
    for path in sorted(folder.rglob("*")) if secrets else []:
        if path.is_file():
            content = path.read_bytes()
            for name, secret in secrets.items():
                if any(form.encode() in content for form in find_forms(secret)):
                    place = path.relative_to(folder).as_posix()
                    raise StageError(f"{place} holds the value of the secret {name}: a stage may not write it")

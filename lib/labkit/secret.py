"""Secrets: named in the params, held by environment variables, kept out of everything that is written.

`params/<experiment>.yaml` says `secrets: {warehouse: WAREHOUSE_URL}`; a notebook asks by `step.secret("warehouse")`.
Not a store of secrets: that is the environment's matter. Read next: `labkit.run.runner`, where outputs are masked.
"""

import base64
import html
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import quote, quote_plus, unquote, urlsplit

from labkit import paths
from labkit.counts import format_count
from labkit.errors import ParamsError, StageError, name_nearest

SHORTEST = 8
"""Characters of a secret: a shorter one could not be told from ordinary words, and masking it would maul the page."""
SHORTEST_PART = 4
REDACTED = "[redacted]"

# Published formats of tokens. Bounded on both sides, so that nothing within an encoded image looks like one.
TOKENS = re.compile(
    r"(?<![A-Za-z0-9/+])(?:A[KS]IA[0-9A-Z]{16}"
    r"|gh[oprsu]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20,}"
    r"|xox[abeprs]-[A-Za-z0-9-]{10,}|AIza[0-9A-Za-z_-]{35})(?![A-Za-z0-9/+])"
    r"|-----BEGIN (?P<kind>[A-Z0-9 ]*)PRIVATE KEY-----(?:.{0,16000}?-----END (?P=kind)PRIVATE KEY-----)?"
    r"|(?<=://)[^\s/:@\"'<>]*:[^\s/@\"'<>]+(?=@[\w\[])",
    re.DOTALL,
)
SECRET_NAME = re.compile(
    r"(?:_(?:key|token|password|secret)|^(?:api_?key|token|password|passwd|secret))$", re.IGNORECASE
)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
PICTURES = re.compile(r"image/(?!svg)|application/pdf|video/|audio/")


class Secret:
    """A text that shows its name wherever it is shown; `reveal` gives the text itself.

    >>> url = Secret("warehouse", "postgresql://me:hidden@db/shop")
    >>> f"{url}", url.reveal()[:10]
    ('[secret warehouse]', 'postgresql')
    """

    __slots__ = ("_text", "name")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._text = text

    def reveal(self) -> str:
        """Return the text, for the one call that needs it; do not keep it under a name."""
        return self._text

    def __repr__(self) -> str:
        return f"[secret {self.name}]"

    __str__ = _repr_html_ = __repr__

    def __format__(self, form: str) -> str:
        return format(repr(self), form)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} is not written to files: ask for it again where it is needed")


def read_secret(name: str, declared: Mapping[str, str], *, where: str) -> Secret:
    """Return a declared secret from its environment variable.

    Parameters
    ----------
    declared
        The params' section `secrets`: name → environment variable.
    where
        The file that declares it, to stand in the message.

    Raises
    ------
    ParamsError
        No secret has that name, its variable is not set, or what it holds is too short to be masked.
    """
    if name not in declared:
        raise ParamsError(f"{where}: no secret {name!r} under `secrets`: {name_nearest(name, declared)}")
    variable = declared[name]
    text = paths.get_variable(variable)
    if text is None:
        raise ParamsError(f"{where}: secrets.{name}: the environment variable {variable} is not set: export it first")
    if len(text) < SHORTEST:
        raise ParamsError(
            f"{where}: secrets.{name}: the environment variable {variable} holds "
            f"{format_count(len(text), 'character')}: a secret needs at least {SHORTEST}, "
            "as a shorter one cannot be masked in what is written"
        )
    return Secret(name, text)


def read_secrets(declared: Mapping[str, str], *, where: str) -> dict[str, str]:
    """Return the texts of all declared secrets by name; see `read_secret`."""
    return {name: read_secret(name, declared, where=where).reveal() for name in declared}


def mask(text: str, secrets: Mapping[str, str]) -> str:
    """Return a text with the value of every secret replaced by its name, also where it stands escaped or coloured.

    Parameters
    ----------
    secrets
        Name → value.

    >>> mask("connecting to db?key=a%2Fb%2Fc%2Fd%2F", {"door": "a/b/c/d/"})
    'connecting to db?key=[secret door]'
    """
    if not secrets:
        return text
    pattern, names = make_pattern(tuple(sorted(secrets.items())))
    masked = pattern.sub(lambda found: f"[secret {names[found[0]]}]", text)
    plain = COLOURS.sub("", masked)
    # Colours may stand within the value; rather lose them than show it.
    return masked if plain == masked or not pattern.search(plain) else mask(plain, secrets)


@cache
def make_pattern(secrets: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return what finds any form of any secret, longest first, and the name that each form stands for."""
    names: dict[str, str] = {}
    for name, text in secrets:
        for form in find_forms(text):
            names.setdefault(form, name)
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))), names


def find_forms(text: str) -> set[str]:
    """Return a secret as it may stand in outputs: whole, its lines, the password of an address; plain and escaped."""
    parts = {text, *(line for line in text.splitlines() if len(line) >= SHORTEST)}
    try:
        password = urlsplit(text).password or ""
    except ValueError:  # not an address
        password = ""
    parts |= {part for part in (password, unquote(password)) if len(part) >= SHORTEST_PART}
    forms = set()
    for part in parts:
        written = {part, repr(part)[1:-1], json.dumps(part)[1:-1], json.dumps(part, ensure_ascii=False)[1:-1]}
        forms |= written | {html.escape(form, quote=strict) for form in written for strict in (True, False)}
        forms |= {quote(part), quote(part, safe=""), quote_plus(part), base64.b64encode(part.encode()).decode()}
    return forms


@dataclass
class Mask:
    """What keeps secrets out of whatever is kept of a run.

    Attributes
    ----------
    secrets
        Name → value.
    n_redacted
        How many texts in the form of a known token were replaced although nobody declared them.
    """

    secrets: Mapping[str, str] = field(default_factory=dict)
    n_redacted: int = 0

    def clean(self, value: Any) -> Any:
        """Return texts, lists and mappings without secrets, of the type they came in; encoded pictures are left."""
        if isinstance(value, str):
            return self.clean_text(value)
        if isinstance(value, Mapping):
            kept = {
                self.clean(key): item if isinstance(key, str) and PICTURES.match(key) else self.clean(item)
                for key, item in value.items()
            }
            return kept if type(value) is dict else type(value)(kept)  # type: ignore[call-arg]
        if isinstance(value, list | tuple):
            return type(value)(self.clean(item) for item in value)
        return value

    def clean_text(self, text: str) -> str:
        """Return a text without secrets and without anything in the form of a known token."""
        cleaned, n_found = TOKENS.subn(REDACTED, mask(text, self.secrets))
        self.n_redacted += n_found
        return cleaned

    def join_streams(self, outputs: list[Any]) -> None:
        """Merge printed texts of a cell where a secret begins in one and ends in the last."""
        if not outputs or outputs[-1]["output_type"] != "stream":
            return
        last = outputs[-1]
        before: list[Any] = []
        n_characters = 0
        for output in reversed(outputs[:-1]):
            if output["output_type"] == "stream" and output["name"] == last["name"]:
                if n_characters >= self.reach:
                    break
                before.insert(0, output)
                n_characters += len(output["text"])
        joined = "".join(output["text"] for output in [*before, last])
        if before and (cleaned := self.clean_text(joined)) != joined:
            before[0]["text"] = cleaned
            outputs[:] = [output for output in outputs if not is_among(output, [*before[1:], last])]

    @property
    def reach(self) -> int:
        """How many characters the longest form of a secret has, or a token may have."""
        pattern = make_pattern(tuple(sorted(self.secrets.items())))[1] if self.secrets else {}
        return max([200, *map(len, pattern)])

    def tell(self) -> str:
        """Return the warning that belongs to what was redacted, or nothing."""
        if not self.n_redacted:
            return ""
        things = "a text" if self.n_redacted == 1 else format_count(self.n_redacted, "text")
        return f"{things} in the form of a known token or password became {REDACTED}: name it under `secrets`"


def is_among(output: Any, others: Sequence[Any]) -> bool:
    """Tell whether an output is one of some, not only equal to one."""
    return any(output is other for other in others)


def find_secret(tree: Any, *, holds_columns: Callable[[list[str]], bool] = lambda _: False) -> Iterator[list[str]]:
    """Yield the places in plain data, as lists of keys, at which a secret seems to stand in the open.

    Parameters
    ----------
    holds_columns
        Whether a mapping's keys are names of columns, which may be called anything: told by its place.
    """
    yield from walk(tree, [], holds_columns)


def walk(tree: Any, keys: list[str], holds_columns: Callable[[list[str]], bool]) -> Iterator[list[str]]:
    """Yield the places at and below one; see `find_secret`."""
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
    """Say what to do about a secret that stands in the open; its value is not repeated."""
    word = re.sub(r"[^a-z0-9_]", "_", TOKENS.sub("secret", str(keys[-1])).lower()) if keys else "secret"
    name = word if re.match(r"[a-z]", word) else "secret"
    place = TOKENS.sub(REDACTED, ".".join(keys))
    return (
        f"{place} looks like a secret: name it under `secrets`, e.g. secrets: {{{name}: {name.upper()}}}, "
        f"and set the environment variable {name.upper()}"
    )


def check_files(folder: Path, secrets: Mapping[str, str]) -> None:
    """Refuse files that hold a secret as it is.

    Raises
    ------
    StageError
        One does; the message names file and secret.
    """
    for path in sorted(folder.rglob("*")) if secrets else []:
        if path.is_file():
            content = path.read_bytes()
            for name, text in secrets.items():
                if any(form.encode() in content for form in find_forms(text)):
                    place = path.relative_to(folder).as_posix()
                    raise StageError(f"{place} holds the value of the secret {name}: a stage may not write it")

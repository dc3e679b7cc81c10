"""Redact secrets in output, pages and records, in every form in which they may appear."""

import base64
import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

from labkit.secrets.secret import SHORTEST
from labkit.units import format_count

SHORTEST_PART = 4


REDACTED = "[redacted]"


# Published token formats, each as its prefix and the rest. These may occur at random in a base64-encoded image, so
# they count only without a base64 character on either side.
UNSEPARATED = (
    ("A", r"[KS]IA[0-9A-Z]{16}"),  # AWS, identifier of a key
    ("AIza", r"[0-9A-Za-z_-]{35}"),  # Google, API key
    ("dapi", r"[0-9a-f]{32}(?:-[0-9])?"),  # Databricks
)
# These contain a character that is not in base64, and are matched to their end, whatever their length.
SEPARATED = (
    ("hf_", r"[A-Za-z0-9]{34,}"),  # Hugging Face
    ("api_org_", r"[A-Za-z0-9]{34,}"),  # Hugging Face, organization
    ("sk-", r"[A-Za-z0-9]{40,}"),  # OpenAI until 2024
    ("sk-", r"(?:proj|svcacct|admin|ant|or)-[A-Za-z0-9_-]{40,}"),  # OpenAI, Anthropic, OpenRouter
    ("gh", r"[oprsu]_[A-Za-z0-9]{36,}"),  # GitHub
    ("github_pat_", r"[A-Za-z0-9_]{22,}"),  # GitHub, fine-grained
    ("gl", r"(?:pat|dt|rt|ptt|cbt|ft|soat|oas)-[A-Za-z0-9_-]{20,}(?:\.[0-9a-z]{2}\.[0-9a-z]{9})?"),  # GitLab
    ("npm_", r"[A-Za-z0-9]{36,}"),  # npm
    ("pypi-AgE", r"[A-Za-z0-9_-]{50,}"),  # PyPI
    ("sk_", r"(?:live|test)_[A-Za-z0-9]{20,}"),  # Stripe, secret
    ("rk_", r"(?:live|test)_[A-Za-z0-9]{20,}"),  # Stripe, restricted
    ("whsec_", r"[A-Za-z0-9+/=]{32,}"),  # Stripe, webhook
    ("xox", r"[a-z](?:\.xox[a-z])?-[A-Za-z0-9-]{10,}"),  # Slack
    ("xapp-", r"[0-9]-[A-Za-z0-9-]{20,}"),  # Slack, app
    ("ya29.", r"[0-9A-Za-z_-]{20,}"),  # Google, OAuth
    ("GOCSPX-", r"[0-9A-Za-z_-]{28}"),  # Google, OAuth client
    ("SG.", r"[0-9A-Za-z_-]{22}\.[0-9A-Za-z_-]{43}"),  # SendGrid
    ("eyJ", r"[0-9A-Za-z_-]{10,}\.eyJ[0-9A-Za-z_-]{10,}\.[0-9A-Za-z_-]{20,}"),  # JSON Web Token, signed
)
# Secrets of letters and digits alone, recognizable only by what precedes them, and private keys.
AWS_SECRET = r"(?i:ecret_?access_?key)[\"']?\s{0,3}[=:]\s{0,3}[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])"
OTHERS = (
    rf"[aA][wW][sS]_?[sS]{AWS_SECRET}",
    rf"[sS]{AWS_SECRET}",
    r"T(?<=hooks\.slack\.com/services/T)[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20,}",
    r"-----BEGIN (?P<kind>[A-Z0-9 ]*)PRIVATE KEY(?P<block>(?: BLOCK)?)-----"
    r"(?:.{0,16000}?-----END (?P=kind)PRIVATE KEY(?P=block)-----)?",
    # User and password in a URL.
    r"(?<=://)[^\s/:@\"'<>]*:[^\s/@\"'<>]+(?=@[\w\[])",
)


def make_token_pattern() -> re.Pattern[str]:
    """Return the pattern of any token; each branch begins with a letter, so most characters cost one comparison."""
    branches = [
        rf"{re.escape(start)}(?<![A-Za-z0-9/+]{'.' * len(start)}){rest}(?![A-Za-z0-9/+])" for start, rest in UNSEPARATED
    ]
    branches += [rf"{re.escape(start)}(?<![A-Za-z0-9]{'.' * len(start)}){rest}" for start, rest in SEPARATED]
    return re.compile("|".join((*branches, *OTHERS)), re.DOTALL)


TOKENS = make_token_pattern()
"""Pattern of tokens and keys in their published formats: refused in params, redacted in output and records."""


COLOURS = re.compile(r"\x1b\[[0-9;]*m")


PICTURES = re.compile(r"image/(?!svg)|application/pdf|video/|audio/")


def mask(string: str, secrets: Mapping[str, str]) -> str:
    """Replace the value of every secret with its name, also where it is escaped or interrupted by colour codes.

    Parameters
    ----------
    string
        String to mask.
    secrets
        Secret values by name.

    Examples
    --------
    >>> mask("connecting to db?key=a%2Fb%2Fc%2Fd%2F", {"door": "a/b/c/d/"})
    'connecting to db?key=[secret door]'
    """
    if not secrets:
        return string
    pattern, names = make_secret_pattern(tuple(sorted(secrets.items())))
    masked = pattern.sub(lambda found: f"[secret {names[found[0]]}]", string)
    plain = COLOURS.sub("", masked)
    # Colour codes may interrupt the value; losing the colours is better than showing it.
    return masked if plain == masked or not pattern.search(plain) else mask(plain, secrets)


@cache
def make_secret_pattern(secrets: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str], dict[str, str]]:
    """Return the pattern of all forms of all secrets, longest first, and the secret's name by form."""
    names: dict[str, str] = {}
    for name, string in secrets:
        for form in find_forms(string):
            names.setdefault(form, name)
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first))), names


def find_forms(string: str) -> set[str]:
    """Return the forms of a secret in outputs: the value, its lines and a URL's password; plain, escaped, encoded.

    Parameters
    ----------
    string
        Value of the secret.
    """
    parts = {string, *(line for line in string.splitlines() if len(line) >= SHORTEST)}
    try:
        password = urlsplit(string).password or ""
    except ValueError:  # not a URL
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
    """Redacts secrets in everything that is stored about a run.

    Attributes
    ----------
    secrets
        Secret values by name.
    n_redacted
        Number of strings in a known token format that were redacted although they were not declared as secrets.
    """

    secrets: Mapping[str, str] = field(default_factory=dict)
    n_redacted: int = 0

    def clean(self, value: Any) -> Any:
        """Redact strings, lists and mappings, keeping their types; encoded images are left unchanged.

        Parameters
        ----------
        value
            Value to redact, nested to any depth.
        """
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

    def clean_text(self, string: str) -> str:
        """Redact declared secrets and everything in a known token format in a string.

        Parameters
        ----------
        string
            String to redact.
        """
        cleaned, n_found = TOKENS.subn(REDACTED, mask(string, self.secrets))
        self.n_redacted += n_found
        return cleaned

    def join_streams(self, outputs: list[Any]) -> None:
        """Merge printed outputs of a cell, in place, if a secret begins in one of them and ends in the last.

        Parameters
        ----------
        outputs
            Outputs of the cell as nbformat nodes.
        """
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
        """Number of characters of the longest form of a secret, at least the 200 allowed for a token."""
        pattern = make_secret_pattern(tuple(sorted(self.secrets.items())))[1] if self.secrets else {}
        return max([200, *map(len, pattern)])

    def describe_redacted(self) -> str:
        """Return a warning about redacted tokens, empty if there were none."""
        if not self.n_redacted:
            return ""
        strings = format_count(self.n_redacted, "string")
        return f"replaced {strings} that looked like a token or password by {REDACTED}: declare it under `secrets`"


def is_among(output: Any, others: Sequence[Any]) -> bool:
    """Return whether an output is identical, not only equal, to one of others."""
    return any(output is other for other in others)

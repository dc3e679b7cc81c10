"""Strings that break out of YAML, Python, notebooks and terminals."""

import random
import unicodedata

HOSTILE = [
    "'",
    '"',
    "'''",
    '"""',
    "\\",
    "\\\\\\'",
    "\\n\\x41\\u0041\\N{DASH}",
    "a\nb\r\nc\rd\x85e\x0bf\x0cg",
    "\x00\x01\x1b[31m\x7f",
    "\u2028\u2029\ufeff\u200b",
    "🐍👩‍👩‍👧",
    "\u202eevil\u202c \u05e9\u05dc\u05d5\u05dd",
    "'\nimport os; os.mkdir('pwned')\n'",
    '"; __import__("os").mkdir("pwned"); "',
    "''' + str(__import__('os').mkdir('pwned')) + '''",
    "{experiment} {0} {a.b} %s ${HOME} $(touch pwned) `touch pwned`",
    "; touch pwned",
    "# comment",
    "%cd /\n!touch pwned",
    "<script>alert(1)</script>",
    "",
    " padded ",
    "x" * 65_536,
]


def find_controls(string: str) -> set[str]:
    """Return the characters that a terminal obeys or that cannot be seen, line breaks left out."""
    return {letter for letter in string if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}


LETTERS = [" "] * 6 + list("abcXYZ019-_:#,[]{}&*!|>'\"%@`?~.=+/\\<>") + list("é漢🚗\u0301\ue000")


UNSEEN = list("\t\n\r\x07\x1b\x7f\x85\xa0\u2028\u200b\u202e\ufeff")


WORDS = [
    "yes",
    "null",
    "~",
    "1e5",
    "012",
    "1:30",
    "2024-01-01",
    ".inf",
    "<<",
    "=",
    "-",
    "?",
    "---",
    "...",
    "!!x",
    "a: b",
    "a #b",
]


LENGTHS = (1, 5, 20, 60, 70, 75, 80, 100, 110, 121, 127, 128, 200, 500)


def make_names(seed: int, n: int = 300) -> list[str]:
    """Return names of columns of all kinds: words of YAML, sentences of each length, and letters of any sort."""
    rng = random.Random(seed)
    names = [
        *WORDS,
        "how often do you " * 5,
        *(("on a long flight " * 40)[:length].strip() for length in range(40, 140)),
    ]
    for _ in range(n):
        letters = rng.choice([list("abc de"), LETTERS, LETTERS + UNSEEN])
        names.append("".join(rng.choice(letters) for _ in range(rng.choice(LENGTHS))))
    return list(dict.fromkeys(names))

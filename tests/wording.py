"""Words that pages for readers do not use, because a standard term exists: see the style of the project's prose."""

import re
from pathlib import Path

from bs4 import BeautifulSoup

INSTEAD = {
    r"chances?": "probability",
    r"gaps?": "missing value",
    r"the answers?": "target, prediction",
    r"mend(s|ed|ing)?": "fix",
    r"anew": "again",
    r"endless(ly)?": "infinite",
    r"want of": "out of",
    r"is none": "not a number, missing, empty",
    r"gives? the answer away": "leaks the target",
    r"moves? the alias": "promote to champion",
    r"hold(s|ing)? against|held against": "verify against",
    r"taken for what": "confusion matrix",
    r"at its word": "calibration",
    r"came true|come true": "true value",
    r"what was said": "prediction",
}
"""What is not written, as a regular expression of whole words, and what is."""


def find_wrong_words(page: Path) -> list[str]:
    """Return the words of a page that have a better one, with what stands around them; code and data do not count."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    for tag in soup.find_all(["code", "pre", "style", "script"]):
        tag.decompose()
    text = " ".join(soup.get_text(" ").split())
    return [
        f"{page.name}: …{text[max(match.start() - 30, 0) : match.end() + 30]}…: write {better}"
        for words, better in INSTEAD.items()
        for match in re.finditer(rf"\b(?:{words})\b", text, re.IGNORECASE)
    ]

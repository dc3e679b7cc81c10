"""Detect the encoding of bytes by whether it decodes to words, or to symbols between letters.

This is the only module that uses charset-normalizer, which distinguishes scripts. Among the encodings of one script,
plausible words decide.
"""

import codecs
import itertools
import re
import unicodedata
from collections import Counter

from labkit.data.reading.formats import HEAD_BYTES
from labkit.names import SPACES, normalize_spaces

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the byte-order mark of a file, longer marks first."""
LATIN = ("cp1252", "cp1250", "cp1254", "cp1257", "mac_roman", "cp437", "cp850")
"""Encodings of Latin letters, most frequent first."""
ENCODINGS = (
    *LATIN, "cp1251", "cp1253", "cp1255", "cp1256", "koi8_r", "cp866", "cp932", "euc_jp", "gb18030", "big5", "euc_kr",
)  # fmt: skip
"""Encodings to choose from."""
SINGLE_BYTE = ("cp125", "iso8859", "mac", "cp437", "cp850", "cp866", "koi8")
"""Prefixes of the names of single-byte encodings, in which nearly any sequence of bytes is valid."""
WESTERN = (
    "àâæçèéêëîïôœùûü", "äöüß", "áéíñóúüªº", "àáâãçéêíóôõúüªº", "åäöæøéü", "àèéìíîòóùú", "áæðéíóöúýþ", "àçèéíïòóúü",
)  # fmt: skip
"""Non-ASCII lowercase letters of French, German, Spanish, Portuguese, Nordic languages, Italian, Icelandic, Catalan."""
ALPHABETS = {
    "cp1250": ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áéíóöőúüű", "ăâîşţ", "čćđšž", "áäčďéíĺľňóôŕšťúýž", "äöüß"),
    "cp1254": ("âçğıîöşûüi",),
    "cp1257": ("ąčęėįšųūž", "āčēģīķļņšūž", "äõöüšž"),
}
"""Lower-case non-ASCII letters of the languages of an encoding, where these are not the western ones."""
ANY_WEIGHT = 0.9
"""Weight of words in several languages of one encoding, relative to words in a single language."""
OPENING_CLOSING = "\u201c\u201d\u2018\u201e\u201a\u00ab\u00bb\u2039\u203a\u00bf\u00a1\u2026"
AFTER_NUMBERS = "\u00b0\u00b2\u00b3\u00b9\u00bd\u00bc\u00be\u00b5\u2122\u00ae\u00a9\u00b1\u00d7\u2030\u00a7"
CURRENCY = "\u20ac\u00a3\u00a5\u00a2"


def guess_encoding(data: bytes) -> str | None:
    """Return the most likely encoding of bytes, or None if they are not text."""
    if any(data.startswith(mark) for mark in BYTE_ORDER_MARKS):
        return next(name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark))
    sample = data[: 4 * HEAD_BYTES]
    n_nulls = sample.count(0)
    if n_nulls:
        is_wide = 0.2 < n_nulls / len(sample) < 0.6
        return ("utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be") if is_wide else None
    n_controls = sum(sample.count(code) for code in (*range(1, 9), *range(14, 27), *range(28, 32)))
    if n_controls > len(sample) / 100:
        return None
    # ASCII-only lines are no evidence, and many of them would hide a few accented letters.
    informative = b"\n".join(line for line in sample.splitlines() if not line.isascii()) or sample
    return choose_encoding(informative)


def choose_encoding(informative: bytes) -> str | None:
    """Return the encoding in which the non-ASCII bytes form the most plausible words."""
    from charset_normalizer import from_bytes

    best = from_bytes(informative, cp_isolation=list(ENCODINGS)).best()
    found = best.encoding if best is not None else None
    rated: dict[str, float] = {}
    for encoding in dict.fromkeys([*([found] if found and found not in LATIN else []), *LATIN]):
        try:
            rated[encoding] = rate_words(informative.decode(encoding), encoding)
        except UnicodeDecodeError:
            continue
    return max(rated, key=lambda encoding: rated[encoding]) if rated else found


def rate_words(decoded: str, encoding: str) -> float:
    """Return how well the non-ASCII characters fit their neighbours: 1 if all form words, -1 if none does.

    >>> rate_words("Málaga", "cp1252"), rate_words("M‡laga", "cp1252")
    (1.0, -1.0)
    >>> rate_words("of\u00a0cuisines", "mac_roman"), rate_words("ofÊcuisines", "cp1252")
    (1.0, -1.0)
    """
    padded = f"\n{decoded}\n"
    places = Counter(
        (padded[place - 1], character, padded[place + 1])
        for place, character in enumerate(padded)
        if not character.isascii()
    )
    if not places:
        return 0.0
    alphabets = ALPHABETS.get(encoding, WESTERN)
    weights = {"".join(alphabets): ANY_WEIGHT, **dict.fromkeys(alphabets, 1.0)}
    return max(
        sum(times * rate_character(*place, alphabet, weight) for place, times in places.items()) / places.total()
        for alphabet, weight in weights.items()
    )


def rate_character(before: str, character: str, after: str, alphabet: str, weight: float) -> float:
    """Return how well one non-ASCII character fits its neighbours, from -1 to 1."""
    is_between = before.isalpha() and after.isalpha()
    if character.isalpha():
        return rate_letter(before, character, after, alphabet, weight)
    if character in SPACES:
        return 0.5 if before.isspace() or after.isspace() else 1.0
    if character == "\u2019":  # an apostrophe
        return 1.0
    if character in "\u2013\u2014":
        return 0.0 if is_between else 1.0
    if character in OPENING_CLOSING:
        return -1.0 if is_between else 1.0
    if character in AFTER_NUMBERS:
        return -1.0 if is_between or after.islower() else 1.0 if before.isalnum() or after.isdigit() else 0.3
    if character in CURRENCY:
        return -1.0 if before.isalpha() or after.isalpha() else 1.0
    # Stand-alone accents, mathematical symbols, box-drawing characters and non-characters.
    return -1.0


def rate_letter(before: str, letter: str, after: str, alphabet: str, weight: float) -> float:
    """Return how well a letter fits its neighbours, by script, position of capitals and language."""
    is_latin = "LATIN" in unicodedata.name(letter, "") or letter in "ªº"
    if not is_latin:
        neighbours = [near for near in (before, after) if near.isalpha()]
        return -1.0 if any(map(str.isascii, neighbours)) else 1.0 if neighbours else 0.5
    if (letter.isupper() and before.islower()) or "LIGATURE F" in unicodedata.name(letter, ""):
        return -1.0
    if letter.isupper() and not (after.isalpha() or before.isupper()):
        return 0.0
    if letter.lower()[0] not in alphabet:  # a dotted capital I becomes two characters
        return 0.3
    return weight if before.isalpha() or after.isalpha() else 0.5


def list_sample_words(decoded: str, most: int = 3) -> list[str]:
    r"""Return the first `most` distinct words of a string that contain non-ASCII characters.

    >>> list_sample_words("1;Köln;red\n2;Málaga;blue\n3;Köln;red")
    ['Köln', 'Málaga']
    """
    found = re.finditer(r"[\w\u2019-]*[^\x00-\x7f][\w\u2019-]*", decoded)
    return list(dict.fromkeys(normalize_spaces(match[0]) for match in itertools.islice(found, 200)))[:most]

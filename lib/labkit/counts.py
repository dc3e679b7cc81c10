"""How many of something there are, in words: `1 row`, `2,000 rows`."""


def format_count(n: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, singular for one.

    Parameters
    ----------
    noun, plural
        The noun for one and for any other number; the plural is the noun with an s unless given.

    >>> format_count(1, "row"), format_count(2000, "row"), format_count(0, "class", "classes")
    ('1 row', '2,000 rows', '0 classes')
    """
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"

"""Formatting of numbers with their units: `1 row`, `2,000 rows`, `1.5 GB`."""


def shorten_value(value: object) -> str:
    """Return a value as a short string, of about 40 characters at most."""
    shown = repr(value) if isinstance(value, str) else str(value)
    return shown if len(shown) <= 40 else shown[:37] + "…" + shown[-1]


def format_bytes(n_bytes: int) -> str:
    """Format a number of bytes, rounded and exact.

    Parameters
    ----------
    n_bytes
        Number of bytes.

    Examples
    --------
    >>> format_bytes(1), format_bytes(2_097_152)
    ('1 byte', '2.1 MB (2,097,152 bytes)')
    """
    size, exact = format_size(n_bytes), format_count(n_bytes, "byte")
    return exact if size == exact else f"{size} ({exact})"


def format_size(n_bytes: int) -> str:
    """Format a number of bytes, rounded.

    Parameters
    ----------
    n_bytes
        Number of bytes.

    Examples
    --------
    >>> format_size(512), format_size(20_480), format_size(3_500_000)
    ('512 bytes', '20.5 kB', '3.5 MB')
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return format_count(n_bytes, "byte")


def format_count(n: int, noun: str, plural: str = "") -> str:
    """Format a number with its noun, singular for one.

    Parameters
    ----------
    n
        Number of things.
    noun, plural
        The noun for one and for any other number; the plural is the noun with an s unless given.

    Examples
    --------
    >>> format_count(1, "row"), format_count(2000, "row"), format_count(0, "class", "classes")
    ('1 row', '2,000 rows', '0 classes')
    """
    return f"{n:,} {noun if n == 1 else plural or f'{noun}s'}"


def format_significant(value: float, digits: int = 3) -> str:
    """Format a metric with a number of significant digits, or as an integer from one thousand on.

    Parameters
    ----------
    value
        The metric.
    digits
        Number of significant digits.

    Examples
    --------
    >>> format_significant(0.81237), format_significant(190_912.4), format_significant(0.81237, 4)
    ('0.812', '190,912', '0.8124')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"

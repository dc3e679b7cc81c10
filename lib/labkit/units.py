"""Formatting of numbers: with their units, `2,000 rows`, `1.5 GB`, as shares, `34 %`, or with their uncertainty."""

import math
from collections.abc import Iterable

SHORTEST_FIXED, LARGEST_FIXED = 1e-3, 1e15
"""Magnitudes from which on numbers are written with an exponent."""
LEAST_DIGITS = 3
"""Significant digits of a number, at least."""
DIGITS_OF_UNCERTAINTY = 2
"""Significant digits of the uncertainty of a difference, as the GUM recommends (JCGM 100:2008, 7.2.6)."""
MOST_DECIMALS = 9
MOST_REVEALED = 3
"""Further decimals, at most, that keep the end of an interval from being written as 0."""


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


def format_clock(minutes: float) -> str:
    """Return minutes after midnight as a time of the day, with seconds if any; other numbers as they are.

    >>> format_clock(1110), format_clock(0.0), format_clock(1440), format_clock(1184.5), format_clock(float("nan"))
    ('18:30', '00:00', '24:00', '19:44:30', 'nan')
    """
    if not 0 <= minutes <= 1440:
        return f"{minutes:g}"
    whole, seconds = divmod(round(60 * minutes), 60)
    return "{:02d}:{:02d}".format(*divmod(whole, 60)) + (f":{seconds:02d}" if seconds else "")


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


def format_number(value: float, digits: int = 3) -> str:
    """Return a number with about `digits` significant digits, thousands separated; "–" if it is missing.

    >>> [format_number(value) for value in (0.123456, 1234567.8, 12.0, -0.00002, -0.0, float("nan"))]
    ['0.123', '1,234,568', '12', '-2e-05', '0', '–']
    """
    number = float(value) + 0.0  # -0.0 becomes 0.0
    if not math.isfinite(number):
        return "–" if math.isnan(number) else "∞" if number > 0 else "-∞"
    if number and not SHORTEST_FIXED <= abs(number) < LARGEST_FIXED:
        return f"{number:.{digits}g}"
    places = max(0, digits - 1 - find_magnitude(number)) if number else 0
    written = f"{number:,.{places}f}"
    return written.rstrip("0").rstrip(".") if "." in written else written


def format_column(values: Iterable[float], digits: int = LEAST_DIGITS) -> list[str]:
    """Return the numbers of one column: as many decimals in each as the largest needs for `digits` significant digits.

    Numbers so unlike that one would keep a single digit have `digits` significant digits each; whole ones no decimals.

    >>> format_column([0.61, 0.675, 0.0707]), format_column([517.0, 2.0]), format_column([2.0, 1.25, float("nan")])
    (['0.610', '0.675', '0.071'], ['517', '2'], ['2.00', '1.25', '–'])
    >>> format_column([41.4, 0.45, 1234567.8, float("nan"), float("inf")]), format_column([0.0, 1e-9])
    (['41.4', '0.450', '1,234,568', '–', '∞'], ['0', '1e-09'])
    >>> format_column([0.0833, 12.0, 1.0])
    ['0.0833', '12', '1']
    """
    numbers = [float(value) for value in values]
    drawn = [abs(number) for number in numbers if number and math.isfinite(number)]
    if not drawn or not SHORTEST_FIXED <= min(drawn) <= max(drawn) < LARGEST_FIXED or all(x % 1 == 0 for x in drawn):
        return [format_number(number, digits) for number in numbers]
    places = max(0, digits - 1 - find_magnitude(max(drawn)))
    if find_magnitude(min(drawn)) < 1 - places:
        return [
            format_fixed(
                number, max(0, digits - 1 - find_magnitude(number)) if math.isfinite(number) and number % 1 else 0
            )
            for number in numbers
        ]
    return [format_fixed(number, places) for number in numbers]


def format_fixed(number: float, places: int) -> str:
    """Return a number with exactly `places` decimals, thousands separated; "–" if it is missing.

    >>> format_fixed(0.5, 3), format_fixed(-0.0001, 2), format_fixed(float("nan"), 2)
    ('0.500', '0.00', '–')
    """
    return f"{number:z,.{places}f}" if math.isfinite(number) else format_number(number)


def format_share(share: float, places: int = 0) -> str:
    """Return a share in percent with `places` decimals, never rounded to 0 or 100 % unless it is exactly that.

    >>> [format_share(share) for share in (0.3333, 0.0001, 0.99999, 1, 0)]
    ['33 %', '< 1 %', '> 99 %', '100 %', '0 %']
    >>> format_share(0.3333, 1), format_share(0.0001, 1), format_share(0.9, 1)
    ('33.3 %', '< 0.1 %', '90.0 %')
    """
    share = float(share)
    if not math.isfinite(share):
        return "–"
    least = 0.01 * 10.0**-places
    if 0 < share < least / 2:
        return f"< {100 * least:.{places}f} %"
    if 1 - least / 2 <= share < 1:
        return f"> {100 * (1 - least):.{places}f} %"
    return f"{100 * share:.{places}f} %" if abs(share) < 10 else f"{format_number(100 * share)} %"


def format_duration(seconds: float | None) -> str:
    """Return a duration in words.

    >>> [format_duration(seconds) for seconds in (0.42, 12.34, 125, 3900, None)]
    ['0.4 s', '12.3 s', '2 min 05 s', '1 h 05 min', '']
    """
    if seconds is None:
        return ""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def format_time_span(seconds: float) -> str:
    """Return a duration in the largest unit that fits, from seconds to days.

    >>> [format_time_span(seconds) for seconds in (12, 95, 5400, 90_000, 864_000)]
    ['12 s', '1.6 min', '1.5 h', '1 d', '10 d']
    """
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{format_number(seconds / length, 2)} {unit}"
    return f"{seconds:.0f} s"


def format_confidence(confidence: float) -> str:
    """Return the coverage of an interval in percent.

    >>> format_confidence(0.95), format_confidence(0.975)
    ('95 %', '97.5 %')
    """
    return f"{100 * confidence:.4g} %"


def find_magnitude(number: float) -> int:
    """Return the power of ten of a number's first digit; 0 for 0."""
    return math.floor(math.log10(abs(number))) if number else 0


def format_alike(value: float, *others: float, uncertainty: float) -> list[str]:
    """Return numbers with the same decimals: three digits of the first one, and one of the uncertainty at least.

    Parameters
    ----------
    value, others
        The numbers, in one unit.
    uncertainty
        Half the width of the interval around `value`, or its standard deviation.

    Examples
    --------
    >>> format_alike(0.997, 0.993, 1.0, uncertainty=0.0035), format_alike(47.43, uncertainty=2.84)
    (['0.997', '0.993', '1.000'], ['47.4'])
    """
    known = [abs(number) for number in (value, uncertainty) if math.isfinite(number)]
    if not math.isfinite(value) or not SHORTEST_FIXED <= max(known) < LARGEST_FIXED:
        return [format_number(number) for number in (value, *others)]
    places = [LEAST_DIGITS - 1 - find_magnitude(value)]
    if math.isfinite(uncertainty) and uncertainty > 0:
        places.append(-find_magnitude(float(f"{uncertainty:.0e}")))
    decimals = min(max(0, *places), MOST_DECIMALS)
    return [
        f"{number:,.{decimals}f}" if math.isfinite(number) else format_number(number) for number in (value, *others)
    ]


def format_interval(value: float, low: float, high: float) -> str:
    """Return a number with its interval; as many decimals as its width justifies.

    >>> format_interval(0.6821, 0.629, 0.7312), format_interval(1234.5, 1100.0, 1400.0)
    ('0.682 [0.629, 0.731]', '1,234 [1,100, 1,400]')
    >>> format_interval(0.5, float("nan"), float("nan")), format_interval(0.0, 0.0, 0.0)
    ('0.500 [–, –]', '0 [0, 0]')
    """
    shown, *ends = format_alike(value, low, high, uncertainty=(high - low) / 2)
    return f"{shown} [{ends[0]}, {ends[1]}]"


def format_difference(value: float, low: float, high: float) -> str:
    """Return a difference with its interval; the width alone decides the decimals, as a difference near 0 has none.

    >>> format_difference(0.000996, -0.003812, 0.0062), format_difference(10.04, 8.11, 12.3)
    ('0.0010 [-0.0038, 0.0062]', '10.0 [8.1, 12.3]')
    >>> format_difference(-0.0004, -0.31, 0.29), format_difference(0.5, float("nan"), float("nan"))
    ('0.00 [-0.31, 0.29]', '0.500 [–, –]')
    """
    shown, *ends = format_difference_alike(value, low, high)
    return f"{shown} [{ends[0]}, {ends[1]}]"


def format_difference_alike(value: float, low: float, high: float) -> list[str]:
    """Return a difference and the ends of its interval apart; see `format_difference`.

    An end that is not 0 has enough decimals not to be written as 0, so that its sign is seen.

    >>> format_difference_alike(0.0144, -0.0000535, 0.0293), format_difference_alike(0.0144, -1e-17, 0.0293)
    (['0.01440', '-0.00005', '0.02930'], ['0.014', '0.000', '0.029'])
    """
    half = (high - low) / 2
    if not (math.isfinite(value) and math.isfinite(half) and half >= 10**-MOST_DECIMALS):
        return format_alike(value, low, high, uncertainty=half)
    decimals = min(max(0, DIGITS_OF_UNCERTAINTY - 1 - find_magnitude(half)), MOST_DECIMALS)
    hidden = [-find_magnitude(end) for end in (low, high) if end and abs(end) < 10.0**-decimals / 2]
    decimals = max([decimals, *(places for places in hidden if places <= decimals + MOST_REVEALED)])
    return [f"{number:z,.{decimals}f}" for number in (value, low, high)]


def format_with_difference(first: float, second: float, *, error: float) -> list[str]:
    """Return two numbers and how much greater the first is, with so many decimals that the difference is theirs.

    Parameters
    ----------
    error
        Uncertainty of the difference, which decides the least number of decimals.

    Examples
    --------
    >>> format_with_difference(0.16337, 0.15068, error=0.018), format_with_difference(2.5, 2.0, error=0.11)
    (['0.1634', '0.1507', '0.0127'], ['2.50', '2.00', '0.50'])
    """
    if not all(map(math.isfinite, (first, second))):
        return [format_number(number) for number in (first, second, first - second)]
    least = DIGITS_OF_UNCERTAINTY - 1 - find_magnitude(error if math.isfinite(error) else first - second)
    for decimals in range(min(max(0, least), MOST_DECIMALS), MOST_DECIMALS + 1):
        shown = [f"{number:z,.{decimals}f}" for number in (first, second, first - second)]
        ours, theirs, difference = (float(text.replace(",", "")) for text in shown)
        if abs(ours - theirs - difference) < 10.0**-decimals / 2:
            break
    return shown


def format_deviation(value: float, deviation: float) -> str:
    """Return a number with its standard deviation; as many decimals as that justifies.

    >>> format_deviation(0.76, 0.00693), format_deviation(47.4, 2.84)
    ('0.760 ± 0.007', '47.4 ± 2.8')
    """
    return " ± ".join(format_alike(value, deviation, uncertainty=deviation))

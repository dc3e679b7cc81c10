"""Rules for names: of experiments, metrics, checks, and columns as they are normalized and shown in Markdown."""

EXPERIMENT_NAME = r"[a-z][a-z0-9_]{0,62}"
"""Pattern of a whole experiment name, which is safe in paths and commands."""

METRIC_NAME = r"[a-z][a-z0-9_]*"
"""Pattern of the whole name of a metric of the user's own."""

OWN_CHECK_CODE = r"OWN[0-9]{2}"
"""Pattern of the whole code of a check of the user's own."""

PROBABILITY = "probability_"
"""Prefix of the names of columns with the probability of a class in predictions."""

SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
"""Unicode spaces other than the ordinary one; they look the same, and most cannot be typed."""
TO_SPACE = str.maketrans(dict.fromkeys(SPACES, " "))


def normalize_spaces(name: str) -> str:
    r"""Replace every kind of space in a name with an ordinary one.

    Parameters
    ----------
    name
        Name of a column.

    Examples
    --------
    >>> normalize_spaces("knowledge\u00a0of\u3000cuisines")
    'knowledge of cuisines'
    """
    return name if name.isascii() else name.translate(TO_SPACE)


def escape(name: object) -> str:
    """Return a name as Markdown code, so that nothing in it is interpreted as markup.

    Parameters
    ----------
    name
        Any string from the data, such as the name of a column, a class or a slice.

    Examples
    --------
    >>> escape("a|b`c")
    '`a¦bˋc`'
    """
    return "`" + str(name).replace("`", "ˋ").replace("|", "¦").replace("\n", " ") + "`"

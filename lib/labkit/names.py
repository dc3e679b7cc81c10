"""Names: what an experiment may be called, and how tables and params spell columns."""

EXPERIMENT_NAME = r"[a-z][a-z0-9_]{0,62}"
"""Pattern of an experiment's whole name; it becomes part of paths and commands, and holds nothing that either obeys."""

SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
"""Spaces of Unicode besides the ordinary one; they look the same, and most cannot be typed."""
TO_SPACE = str.maketrans(dict.fromkeys(SPACES, " "))


def normalize_spaces(name: str) -> str:
    r"""Return a name with every kind of space as an ordinary one.

    >>> normalize_spaces("knowledge\u00a0of\u3000cuisines")
    'knowledge of cuisines'
    """
    return name if name.isascii() else name.translate(TO_SPACE)

"""Plots as SVG: light or dark with the reader's settings, small, and harmless inside an `<img>`.

An image loads nothing and runs nothing, whatever a table's names contain. Its colours follow the reader because the
colours of text, lines and ground are variables; all others stand out from both grounds.
"""

import base64
import re

INK, MUTED, LINE, PALE, GROUND = "#1c2329", "#57616b", "#b4bdc6", "#e6eaee", "#fefefe"
"""Colours of text, secondary text, axes, grid and ground, each replaced in the dark."""
LIGHT = {INK: "#1c2329", MUTED: "#57616b", LINE: "#b4bdc6", PALE: "#e6eaee", GROUND: "#ffffff"}
DARK = {INK: "#e3e7eb", MUTED: "#a0abb5", LINE: "#4a545e", PALE: "#2a323a", GROUND: "#161b20"}
VARIABLES = {color: f"--c{place}" for place, color in enumerate(LIGHT)}
FONTS = "'DejaVu Sans',Verdana,Geneva,sans-serif"
"""The font that the layout was computed with, and fonts that are at most as wide."""

NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
TAG = re.compile(r"<[^<>]+>")
UNUSED = re.compile(r""" id="[A-Za-z.2]+_\d+(?:_[\da-f]+)?"| transform="rotate\(-0 [^"]*\)"|font-family: [^;"]+; ?""")
DIGITS = re.compile(r"(\.\d\d)\d+")
IDLE_SPACE = re.compile(r"(?<=[:;]) ")
OUTLINE = re.compile(r' d="([^"]*)"')
AROUND_COMMAND = re.compile(r" (?=[MLCQz])|(?<=[MLCQ]) | $")
"""Spaces that the outline of a path can do without."""


def theme_svg(drawn: str) -> str:
    """Return an SVG of matplotlib with the colours of the reader's settings, and without what no browser needs.

    Characters that XML does not allow are left out: with them nothing would be shown.

    >>> theme_svg('<svg><text id="text_1" style="fill: #1c2329">a&lt;b\\x01</text></svg>').split("</style>")[1]
    '<rect width="100%" height="100%" style="fill:var(--c4)"/><text style="fill:var(--c0)">a&lt;b</text></svg>'
    >>> theme_svg('<svg><path d="M 0 1.239 L 5 2 z " style="fill: none; stroke: #0072b2"/></svg>').split("/>")[1]
    '<path d="M0 1.23L5 2z" style="fill:none;stroke:#0072b2"'
    """
    legal = NO_XML.sub("", drawn[drawn.index("<svg") :])
    body = re.sub(r">\s*\n\s*<", "><", TAG.sub(lambda tag: shorten_tag(tag[0]), legal))
    while "<g></g>" in body or "<g/>" in body:
        body = body.replace("<g></g>", "").replace("<g/>", "")
    opening, rest = body.split(">", 1)
    light, dark = (";".join(f"{VARIABLES[name]}:{color}" for name, color in theme.items()) for theme in (LIGHT, DARK))
    sheet = f":root{{{light};font-family:{FONTS}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    ground = f'<rect width="100%" height="100%" style="fill:var({VARIABLES[GROUND]})"/>'
    return f"{opening}><style>{sheet}</style>{ground}{rest}"


def shorten_tag(tag: str) -> str:
    """Return a tag with coordinates to a hundredth of a point, colours as variables, and without what is not used."""
    if "base64," in tag:
        return tag
    short = UNUSED.sub("", DIGITS.sub(r"\1", re.sub(r"\s*\n\s*", " ", tag)))
    short = OUTLINE.sub(lambda found: f' d="{AROUND_COMMAND.sub("", found[1])}"', IDLE_SPACE.sub("", short))
    for color, variable in VARIABLES.items():
        short = short.replace(color, f"var({variable})")
    return short


def theme_black(svg: str) -> str:
    """Return a themed SVG with black, the colour of what has none, in the colour of text.

    >>> theme_black('<svg><style>:root{}</style><path/><path style="stroke: #000000"/>')
    '<svg><style>:root{fill:var(--c0);}</style><path/><path style="stroke: var(--c0)"/>'
    """
    ink = f"var({VARIABLES[INK]})"
    styled = svg.replace(":root{", f":root{{fill:{ink};", 1)
    return TAG.sub(lambda tag: tag[0].replace("#000000", ink), styled)


def make_data_url(svg: str) -> str:
    """Return an SVG as the data URL of an image."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"

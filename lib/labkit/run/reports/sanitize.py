"""Sanitize the HTML and terminal output of notebooks: nothing in it runs or loads.

Read next: `labkit.run.reports.render`, which renders whole pages.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import nh3
from bs4 import BeautifulSoup, Tag
from markupsafe import Markup, escape
from pygments.token import STANDARD_TYPES

from labkit.console import make_printable_lines

TABLE_NUMBER = re.compile(r"[-+−±]?\d[\d.,'\u202f ]*(e[-+]?\d+)?\s*(%|[a-zµ]{1,2})?", re.IGNORECASE)
TABLE_DATE = re.compile(r"\d{4}-\d\d(-\d\d([ T]\d\d:\d\d[\d:.+\-A-Z ]{0,25})?)?")
NOT_NUMBERS = {"", "nan", "nat", "none", "<na>", "inf", "-inf", "—", "–", "-", "…", "..."}
IMAGE_FORMS = {f"data:image/{form};base64" for form in ("png", "jpeg", "gif", "webp", "svg+xml")}
COLOUR_CODE = re.compile(r"\x1b\[([0-9;]{0,100})m")
OTHER_CODE = re.compile(r"\x1b\[[0-?]{0,100}[ -/]{0,10}[@-ln-~]")
"""Codes that move the cursor or clear a line."""
COLOUR_CLASSES = [
    f"ansi-{colour}{kind}"
    for kind in ("", "-intense")
    for colour in ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
]
NOTEBOOK_LINK = re.compile(r"^(?:\.\./)?([\w.-]+)\.ipynb(?=$|#)")
"""A notebook beside this one, or the shared one of an experiment's own copy: all pages are in one folder."""
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


@dataclass(frozen=True)
class Heading:
    """One heading of a page, with its level (1 to 6) and anchor."""

    level: int
    anchor: str
    title: str


@dataclass
class Outline:
    """The headings of a page so far; sanitizes each further part of the page.

    A first heading equal to the page's title is left out, every heading gets a unique anchor, and an image without a
    description is described by the heading above it.
    """

    title: str
    headings: list[Heading] = field(default_factory=list)

    def clean(self, html: str) -> Markup:
        """Return untrusted HTML with nothing in it that runs or loads; tables, images and text are kept."""
        soup = BeautifulSoup(html, "html.parser")
        inline_cell_styles(soup)
        for tag in soup.find_all([*HEADINGS, "img", "table", "a"]):
            if tag.name == "img":
                tag["alt"] = tag.get("alt") or self.describe({}, "")
            elif tag.name == "table":
                shape_table(soup, tag)
            elif tag.name == "a" and tag.get("href"):
                tag["href"] = NOTEBOOK_LINK.sub(r"\1.html", str(tag["href"]))
            elif tag.name in HEADINGS:
                self.add_heading(tag)
        return Markup(CLEANER.clean(str(soup)))

    def add_heading(self, tag: Tag) -> None:
        """Add a heading to the outline and give it the anchor that JupyterLab would."""
        title = " ".join(tag.get_text().split())
        is_title = tag.name == "h1" and title == self.title and not self.headings
        taken = {heading.anchor for heading in self.headings}
        anchor = spelled = title.replace(" ", "-") or "section"
        while anchor in taken:
            anchor = f"{spelled}-{len(taken)}"
        self.headings.append(Heading(int(tag.name[1]), anchor, title))
        tag["id"] = anchor
        if is_title:
            tag.decompose()

    def describe(self, metadata: Mapping[str, Any], form: str) -> str:
        """Return the alternative text of an image: the notebook's own, or the heading above it."""
        own = metadata.get(form) or {}
        heading = self.headings[-1].title if self.headings else self.title
        return str(own.get("alt") or metadata.get("alt") or f"Figure: {heading}")


@dataclass
class TerminalStyle:
    """Style of terminal output: colours by number or as red, green and blue, and emphasis."""

    foreground: int | tuple[int, int, int] | None = None
    background: int | tuple[int, int, int] | None = None
    is_bold: bool = False
    is_underlined: bool = False
    is_inverse: bool = False

    def change(self, code: str) -> None:
        """Apply one colour code: numbers separated by semicolons."""
        numbers = [int(number) if number.isdecimal() else 0 for number in code.split(";")]
        place = 0
        while place < len(numbers):
            number = numbers[place]
            place += 1
            if number in (38, 48):
                colour, n_read = read_colour(numbers[place : place + 4])
                place += n_read
                self.foreground, self.background = (
                    (colour, self.background) if number == 38 else (self.foreground, colour)
                )
            else:
                self.change_one(number)

    def change_one(self, number: int) -> None:
        """Apply one number of a colour code that takes no arguments."""
        tens, ones = divmod(number, 10)
        if number == 0:
            self.foreground = self.background = None
            self.is_bold = self.is_underlined = self.is_inverse = False
        elif number in (1, 5, 21, 22):
            self.is_bold = number in (1, 5)
        elif number in (4, 24):
            self.is_underlined = number == 4
        elif number in (7, 27):
            self.is_inverse = number == 7
        elif tens in (3, 9) and ones < 8:
            self.foreground = ones + (8 if tens == 9 else 0)
        elif tens in (4, 10) and ones < 8:
            self.background = ones + (8 if tens == 10 else 0)
        elif number == 39:
            self.foreground = None
        elif number == 49:
            self.background = None

    def show(self, output: str) -> str:
        """Return output in this style, as escaped HTML."""
        front, back = self.foreground, self.background
        if self.is_bold and isinstance(front, int) and front < 8:
            front += 8
        if self.is_inverse:
            front, back = back, front
        classes, styles = [], []
        for colour, kind, css in ((front, "fg", "color"), (back, "bg", "background-color")):
            if isinstance(colour, int):
                classes.append(f"{COLOUR_CLASSES[colour]}-{kind}")
            elif colour:
                styles.append(f"{css}: rgb({colour[0]},{colour[1]},{colour[2]})")
            elif self.is_inverse:
                classes.append(f"ansi-default-inverse-{kind}")
        classes += ["ansi-bold"] if self.is_bold else []
        classes += ["ansi-underline"] if self.is_underlined else []
        if not classes and not styles:
            return str(escape(output))
        named = f' class="{" ".join(classes)}"' if classes else ""
        styled = f' style="{"; ".join(styles)}"' if styles else ""
        return f"<span{named}{styled}>{escape(output)}</span>"


def read_colour(numbers: list[int]) -> tuple[int | tuple[int, int, int] | None, int]:
    """Return the colour given by the numbers after 38 or 48, and how many of them it takes."""
    if numbers[:1] == [2] and len(numbers) == 4:
        red, green, blue = (min(number, 255) for number in numbers[1:])
        return (red, green, blue), 4
    if numbers[:1] != [5] or len(numbers) < 2 or numbers[1] > 255:
        return None, len(numbers)
    number = numbers[1]
    if number < 16:
        return number, 2
    if number >= 232:
        grey = 10 * (number - 232) + 8
        return (grey, grey, grey), 2
    # A cube of six steps of each colour; https://en.wikipedia.org/wiki/ANSI_escape_code#8-bit
    steps = ((number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6)
    red, green, blue = (55 + 40 * step if step else 0 for step in steps)
    return (red, green, blue), 2


def render_colours(output: str) -> Markup:
    """Return terminal output as escaped HTML: colours as classes, cursor movements removed.

    Takes a single pass, however many colours are switched on and never off.
    """
    look, shown, waiting = TerminalStyle(), [], ""
    for place, part in enumerate(COLOUR_CODE.split(OTHER_CODE.sub("", output))):
        if place % 2 == 0:
            waiting += part
            continue
        before = replace(look)
        look.change(part)
        if waiting and look != before:
            shown.append(before.show(make_printable_lines(waiting)))
            waiting = ""
    shown.append(look.show(make_printable_lines(waiting)) if waiting else "")
    return Markup("".join(shown))


def inline_cell_styles(soup: BeautifulSoup) -> None:
    """Move the rules of `df.style` for single cells into these cells, and remove all style sheets."""
    tags = {str(tag["id"]): tag for tag in soup.find_all(id=True)}
    for sheet in soup.find_all("style"):
        for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", sheet.string or ""):
            for name in re.findall(r"#([\w-]+)\s*(?:,|$)", selectors.strip()):
                if name in tags:
                    tags[name]["style"] = f"{tags[name].get('style', '')};{body}".lstrip(";")
        sheet.decompose()


def shape_table(soup: BeautifulSoup, table: Tag) -> None:
    """Right-align numbers of a table, keep dates on one line, set the scope of headers and make it scrollable."""
    for cell in table.find_all("th"):
        cell["scope"] = "col" if cell.find_parent("thead") else "row"
    if table.find_parent("table"):
        return  # a nested table serves the layout
    rows = [
        row.find_all(["td", "th"], recursive=False) for row in table.find_all("tr") if row.find_parent("table") is table
    ]
    # Columns are counted from the right: the rowspans of a pandas index shift only those on the left.
    for column in range(1, max(map(len, rows), default=0) + 1):
        cells = [row[-column] for row in rows if len(row) >= column and not row[-column].get("colspan")]
        values = {cell.get_text().strip().lower() for cell in cells if cell.name == "td"} - NOT_NUMBERS
        if values and all(len(value) < 40 and TABLE_NUMBER.fullmatch(value) for value in values):
            for cell in cells:
                cell["class"] = "num"
    for cell in (cell for row in rows for cell in row):
        if TABLE_DATE.fullmatch(cell.get_text().strip()):
            cell["class"] = "date"
    table.wrap(soup.new_tag("div", attrs=SCROLL_BOX))


def check_base64(encoded: str) -> str:
    """Return base64 without line ends, empty if it is invalid, as browsers report errors for invalid data URLs."""
    try:
        return base64.b64encode(base64.b64decode("".join(encoded.split()), validate=True)).decode()
    except ValueError:
        return ""


def filter_attribute(tag: str, name: str, value: str) -> str | None:
    """Remove images that would be loaded, and links to data URLs."""
    if name == "src":
        form, _, encoded = value.partition(",")
        return f"{form},{check_base64(encoded)}" if form in IMAGE_FORMS else None
    if name == "href" and value.strip().lower().startswith("data:"):
        return None
    return value


SCROLL_BOX = {"class": "scroll", "tabindex": "0", "role": "group", "aria-label": "Table"}
CLEANER = nh3.Cleaner(
    tags=nh3.ALLOWED_TAGS - {"area", "article", "aside", "footer", "header", "hgroup", "map", "nav"} | {"tfoot"},
    clean_content_tags={"script", "style", "svg", "iframe", "object", "template", "noscript", "title"},
    attributes={
        "a": {"href", "title"},
        "abbr": {"title"},
        "details": {"open"},
        "img": {"src", "alt", "title", "width", "height"},
        "ol": {"start"},
        "span": {"style"},
        "td": {"colspan", "rowspan", "style"},
        "th": {"colspan", "rowspan", "scope", "style"},
        **{heading: {"id"} for heading in HEADINGS},
    },
    tag_attribute_values={
        "div": {
            **{name: {value} for name, value in SCROLL_BOX.items() if name != "class"},
            "aria-label": {"Table", "Plot"},
        }
    },
    allowed_classes={
        "code": {"math", "block"},
        "div": {"scroll", "highlight"},
        "span": {name for name in STANDARD_TYPES.values() if name},
        "table": {"dataframe"},
        "td": {"num", "date"},
        "th": {"num", "date"},
    },
    attribute_filter=filter_attribute,
    filter_style_properties={
        "background-color",
        "color",
        "font-style",
        "font-weight",
        "text-align",
        "text-decoration",
    },
    url_schemes={"http", "https", "mailto", "data"},
)

"""HTML of unknown origin, as notebooks put it out, made fit for a page: nothing in it runs or loads.

Not how a whole page looks. Read next: `labkit.run.report`.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import nh3
from bs4 import BeautifulSoup, Tag
from markupsafe import Markup
from pygments.token import STANDARD_TYPES

NUMBER = re.compile(r"[-+−±]?\d[\d.,'\u202f ]*(e[-+]?\d+)?\s*(%|[a-zµ]{1,2})?", re.IGNORECASE)
GAPS = {"", "nan", "nat", "none", "<na>", "inf", "-inf", "—", "-", "…", "..."}
IMAGE_FORMS = {f"data:image/{form};base64" for form in ("png", "jpeg", "gif", "webp", "svg+xml")}
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


@dataclass(frozen=True)
class Heading:
    """One heading of a page, 1 to 6, and where to jump to."""

    level: int
    anchor: str
    text: str


@dataclass
class Outline:
    """What a page has shown so far; cleans each further piece of it.

    A heading equal to the page's title is left out once, every heading gets an anchor of its own, and a figure without
    a description is described by the heading above it.
    """

    title: str
    headings: list[Heading] = field(default_factory=list)

    def clean(self, html: str) -> Markup:
        """Return HTML of unknown origin with nothing in it that runs or loads, its tables, images and text kept."""
        soup = BeautifulSoup(html, "html.parser")
        inline_cell_styles(soup)
        for tag in soup.find_all([*HEADINGS, "img", "table", "a"]):
            if tag.name == "img":
                tag["alt"] = tag.get("alt") or self.describe({}, "")
            elif tag.name == "table":
                shape_table(soup, tag)
            elif tag.name == "a" and tag.get("href"):
                tag["href"] = re.sub(r"^([\w.-]+)\.ipynb(?=$|#)", r"\1.html", str(tag["href"]))
            elif tag.name in HEADINGS:
                self.add_heading(tag)
        return Markup(CLEANER.clean(str(soup)))

    def add_heading(self, tag: Tag) -> None:
        """Give a heading its anchor, spelled as JupyterLab spells it, and remember it."""
        text = " ".join(tag.get_text().split())
        is_title = tag.name == "h1" and text == self.title and not self.headings
        taken = {heading.anchor for heading in self.headings}
        anchor = spelled = text.replace(" ", "-") or "section"
        while anchor in taken:
            anchor = f"{spelled}-{len(taken)}"
        self.headings.append(Heading(int(tag.name[1]), anchor, text))
        tag["id"] = anchor
        if is_title:
            tag.decompose()

    def describe(self, metadata: Mapping[str, Any], form: str) -> str:
        """Return the text for those who do not see a figure: the notebook's own, or the heading above it."""
        own = metadata.get(form) or {}
        heading = self.headings[-1].text if self.headings else self.title
        return str(own.get("alt") or metadata.get("alt") or f"Figure: {heading}")


def inline_cell_styles(soup: BeautifulSoup) -> None:
    """Move the rules that `df.style` writes for single cells into these cells, and drop all other style sheets."""
    tags = {str(tag["id"]): tag for tag in soup.find_all(id=True)}
    for sheet in soup.find_all("style"):
        for selectors, body in re.findall(r"([^{}]+)\{([^{}]*)\}", sheet.string or ""):
            for name in re.findall(r"#([\w-]+)\s*(?:,|$)", selectors.strip()):
                if name in tags:
                    tags[name]["style"] = f"{tags[name].get('style', '')};{body}".lstrip(";")
        sheet.decompose()


def shape_table(soup: BeautifulSoup, table: Tag) -> None:
    """Set a table's columns of numbers to the right, name its header cells' scope and let it scroll by itself."""
    rows = [row.find_all(["td", "th"], recursive=False) for row in table.find_all("tr")]
    # Columns are counted from the right: a rowspan of a pandas index shifts them on the left only.
    for column in range(1, max(map(len, rows), default=0) + 1):
        cells = [row[-column] for row in rows if len(row) >= column and not row[-column].get("colspan")]
        values = {cell.get_text().strip().lower() for cell in cells if cell.name == "td"} - GAPS
        if values and all(len(value) < 40 and NUMBER.fullmatch(value) for value in values):
            for cell in cells:
                cell["class"] = "num"
    for cell in table.find_all("th"):
        cell["scope"] = "col" if cell.find_parent("thead") else "row"
    if not table.find_parent("table"):
        table.wrap(soup.new_tag("div", attrs=SCROLL_BOX))


def check_base64(text: str) -> str:
    """Return base64 without its line ends, or nothing where it is none: a browser complains about such an address."""
    try:
        return base64.b64encode(base64.b64decode("".join(text.split()), validate=True)).decode()
    except ValueError:
        return ""


def filter_attribute(tag: str, name: str, value: str) -> str | None:
    """Drop images that would be loaded, and links to documents made of their own address."""
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
    tag_attribute_values={"div": {name: {value} for name, value in SCROLL_BOX.items() if name != "class"}},
    allowed_classes={
        "code": {"math", "block"},
        "div": {"scroll", "highlight"},
        "span": {name for name in STANDARD_TYPES.values() if name},
        "table": {"dataframe"},
        "td": {"num"},
        "th": {"num"},
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

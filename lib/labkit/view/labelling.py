"""The widget that asks an annotator about one row after another, by keyboard, with a static version for batch runs."""

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import pandas as pd
import traitlets
from IPython.display import HTML

from labkit import paths
from labkit.data.labels.judgements import (
    Judgement,
    add_judgement,
    check_person,
    make_judgement,
    read_judgements,
    take_back,
)
from labkit.data.labels.queue import DRAWN, KEY
from labkit.errors import LabkitError, ParamsError, get_first_line
from labkit.params.subject import GENERIC, Subject

MOST_CHOICES = 9
"""As many as there are digits to press."""
MOST_IMAGE_BYTES = 5_000_000
IMAGES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".webp": "image/webp"}
STATIC_ROWS = 5
SKIP, UNDO = "s", "z"
SCRIPT = """
function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "labkit-labelling";
  box.tabIndex = 0;
  // Without this, JupyterLab takes the keys for its own commands.
  box.dataset.lmSuppressShortcuts = "true";
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", "Labelling: press the number of a label, s to skip, z to undo");
  const state = document.createElement("p");
  state.setAttribute("aria-live", "polite");
  const row = document.createElement("div"), buttons = document.createElement("div");
  box.append(state, row, buttons);
  el.append(box);
  const answer = (press) => {
    // With the row's own key, a second press that comes too fast is not taken for the next row.
    model.send({ press, key: model.get("item").key });
  };
  const add = (text, press, title) => {
    const button = document.createElement("button");
    button.className = "jupyter-button";
    button.textContent = text;
    button.title = title;
    button.onclick = () => { answer(press); box.focus(); };
    buttons.append(button);
  };
  model.get("choices").forEach((choice, place) => {
    add(`${place + 1} ${choice}`, String(place + 1), `Label as ${choice}`);
  });
  add("s skip", "s", "Skip this row");
  add("z undo", "z", "Take back the last answer");
  box.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.key === "Tab") return;
    event.stopPropagation();
    if (event.target !== box && (event.key === "Enter" || event.key === " ")) return;
    event.preventDefault();
    if (!event.repeat) answer(event.key.toLowerCase());
  });
  const show = () => {
    const item = model.get("item");
    row.innerHTML = item.html;
    state.textContent = item.state;
    box.dataset.key = item.key;
    box.focus({ preventScroll: true });
  };
  model.on("change:item", show);
  show();
}
export default { render };
"""
STYLE = """
.labkit-labelling { padding: 8px; border: 1px solid var(--jp-border-color1, #bbb); max-width: 52rem; }
.labkit-labelling:focus { outline: 2px solid var(--jp-brand-color1, #1976d2); }
.labkit-labelling td, .labkit-labelling th { text-align: left; vertical-align: top; padding: 1px 12px 1px 0; }
.labkit-labelling blockquote { white-space: pre-wrap; max-height: 20rem; overflow: auto; }
.labkit-labelling img { max-width: 100%; max-height: 24rem; }
.labkit-labelling button { width: auto; margin: 4px 6px 0 0; }
"""


@dataclass(frozen=True)
class RowView:
    """What is shown of a row.

    Attributes
    ----------
    rows
        The rows, shape (n_rows, n_columns).
    text, image
        Column shown as text in full, and column with paths of images below the checkout; may be empty.
    subject
        Names and units of the columns.

    Raises
    ------
    ParamsError
        A column is missing.
    """

    rows: pd.DataFrame
    text: str = ""
    image: str = ""
    subject: Subject = GENERIC

    def __post_init__(self) -> None:
        for name in (self.text, self.image):
            if name and name not in self.rows:
                raise ParamsError(f"no column {name!r} to show: the rows have {', '.join(map(str, self.rows))}")

    def make_html(self, place: int) -> str:
        """Return the row at a position as HTML: its image, its text, and a table of the other columns."""
        # Cell by cell: a row of numbers would turn integers into floats.
        row = {name: self.rows[name].iloc[place] for name in self.rows}
        parts = [make_image(str(row[self.image]))] if self.image else []
        if self.text:
            parts.append(f"<blockquote>{escape(self.format_cell(self.text, row[self.text]))}</blockquote>")
        lines = [
            f"<tr><th scope='row'>{escape(self.subject.name_column(str(name)))}</th>"
            f"<td>{escape(self.format_cell(str(name), value))}</td></tr>"
            for name, value in row.items()
            if name not in (self.text, self.image)
        ]
        return "".join([*parts, f"<table>{''.join(lines)}</table>" if lines else ""])

    def format_cell(self, name: str, value: Any) -> str:
        """Return one value for people; a missing one is an en dash."""
        if pd.api.types.is_scalar(value) and pd.isna(value):
            return "–"
        return self.subject.format_value(name, value) if isinstance(value, float) else str(value)


class LabelWidget(anywidget.AnyWidget):
    """Shows one row at a time and stores each answer before it shows the next.

    Rows that the annotator has labelled elsewhere since the queue was made are skipped.

    Parameters
    ----------
    experiment
        Where labels are stored: `data/labels/<experiment>/<annotator>.jsonl`.
    source
        Table and key column, stored with each label.
    queue
        As `labkit.data.labels.queue.make_queue` returns it; its index holds positions in the rows of `view`.
    choices
        Labels to choose from, two to nine; the first is key 1.
    annotator
        Who answers.
    model_version
        Version of the model that ordered the queue.

    Raises
    ------
    ParamsError
        There are too few or too many choices, or the annotator's name is not valid.
    """

    _esm = SCRIPT
    _css = STYLE
    item = traitlets.Dict().tag(sync=True)
    choices = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        experiment: str,
        queue: pd.DataFrame,
        view: RowView,
        *,
        source: str,
        choices: Sequence[str],
        annotator: str,
        model_version: int | None = None,
    ) -> None:
        check_choices(choices)
        self.experiment, self.source, self.annotator = experiment, source, check_person(annotator)
        self.queue, self.row_view, self.model_version = queue, view, model_version
        self.place, self.answered, self.message = 0, list[tuple[int, Judgement]](), ""
        self.is_shown = False
        super().__init__(choices=list(choices), item={"key": "", "html": "", "state": ""})
        self.on_msg(self.receive)
        self.skip_labelled()
        self.show()

    def receive(self, _widget: object, content: Mapping[str, Any], _buffers: object) -> None:
        """Act on a key pressed in the browser, if it was meant for the row that is shown."""
        press, key = str(content.get("press")), str(content.get("key"))
        if key != self.item["key"]:
            return
        self.message = ""
        try:
            self.answer(press)
            self.skip_labelled()
        except (LabkitError, OSError) as error:
            self.message = f"not stored: {error}"
        self.show()

    def answer(self, press: str) -> None:
        """Store the answer that a key means, then move on; other keys do nothing."""
        if press == UNDO and self.answered:
            place, last = self.answered[-1]
            add_judgement(self.experiment, take_back(last))
            self.answered.pop()
            self.place = place
        is_choice = press.isdecimal() and 1 <= int(press) <= len(self.choices)
        if self.place >= len(self.queue) or not ((is_choice and self.is_shown) or press == SKIP):
            return
        line = self.queue.iloc[self.place]
        if self.item["key"] != line[KEY]:
            raise ParamsError(f"the row {self.item['key']} is no longer the one that is asked about")
        if line[KEY] in self.list_labelled():
            self.message = f"{line[KEY]} has been labelled elsewhere"
            return
        found = make_judgement(
            self.source,
            line[KEY],
            self.choices[int(press) - 1] if is_choice else None,
            annotator=self.annotator,
            seconds=round(time.monotonic() - self.since, 3),
            drawn=str(line[DRAWN]),
            model_version=self.model_version,
        )
        add_judgement(self.experiment, found)
        self.answered.append((self.place, found))
        self.place += 1

    def list_labelled(self) -> set[str]:
        """Return the keys of the rows that the annotator has labelled or skipped, here or elsewhere."""
        return {one.key for one in read_judgements(self.experiment, self.annotator).list_current(self.source)}

    def skip_labelled(self) -> None:
        """Move on to the next row that the annotator has not labelled."""
        labelled = self.list_labelled()
        while self.place < len(self.queue) and self.queue[KEY].iloc[self.place] in labelled:
            self.place += 1

    def show(self) -> None:
        """Show the row at the current place, or that the queue is done."""
        n_rows = len(self.queue)
        state = self.message or f"{self.place} of {n_rows} done"
        if self.place >= n_rows:
            self.item = {"key": f"end {n_rows}", "html": "<p>The queue is done.</p>", "state": state}
            return
        html, self.is_shown = show_row(self.row_view, int(self.queue.index[self.place]))
        self.since = time.monotonic()
        self.item = {"key": str(self.queue[KEY].iloc[self.place]), "html": html, "state": state}


def label_rows(
    experiment: str, queue: pd.DataFrame, view: RowView, *, choices: Sequence[str], **options: Any
) -> LabelWidget | HTML:
    """Return the widget; in a batch run, the first rows of the queue as they would be shown.

    Parameters
    ----------
    options
        See `LabelWidget`.
    """
    if paths.get_run_dir() is None:
        return LabelWidget(experiment, queue, view, choices=choices, **options)
    check_choices(choices)
    first = queue.head(STATIC_ROWS)
    parts = [
        f"<h4>{escape(key)}</h4>{show_row(view, place)[0]}"
        for place, key in zip(first.index.to_list(), first[KEY], strict=True)
    ]
    named = escape(", ".join(choices))
    lead = f"<p>First {len(first)} of {len(queue):,} rows; labels to choose from: {named}.</p>"
    return HTML(lead + "".join(parts))


def show_row(view: RowView, place: int) -> tuple[str, bool]:
    """Return the row at a position as HTML, or why it cannot be shown, and whether it is shown."""
    try:
        return view.make_html(place), True
    except Exception as error:  # whatever a cell holds, the row before must not stay on the screen
        reason = escape(f"{type(error).__name__}: {get_first_line(error)}")
        return f"<p>This row cannot be shown: {reason}. Skip it.</p>", False


def check_choices(choices: Sequence[str]) -> None:
    """Raise ParamsError unless the choices differ and fit on the keys."""
    if not 2 <= len({*choices}) == len(choices) <= MOST_CHOICES:
        raise ParamsError(
            f"choices: {', '.join(choices) or 'none'}, where 2 to {MOST_CHOICES} different ones fit on the keys"
        )


def make_image(name: str) -> str:
    """Return an image below the checkout as HTML that loads nothing, or why it cannot be shown."""
    root = paths.find_root().resolve()
    path = (root / name).resolve()
    kind = IMAGES.get(path.suffix.lower())
    if not path.is_relative_to(root) or kind is None or not path.is_file():
        return f"<p>No image {escape(name)} below the checkout.</p>"
    if path.stat().st_size > MOST_IMAGE_BYTES:
        return f"<p>The image {escape(name)} is too large to show.</p>"
    return f"<img alt='{escape(name)}' src='data:{kind};base64,{base64.b64encode(Path(path).read_bytes()).decode()}'>"

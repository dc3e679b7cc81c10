"""The panel of parameters: one section at a time, each field written when it is left or Enter is pressed."""

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets

from labkit.errors import LabkitError
from labkit.view.board.params_form import CHOICE, FIXED, SWITCH, FormField, list_fields, write_field
from labkit.view.board.tables import make_message

FIRST_SECTION = "training"
TRUE = "true"
NAME = {"flex": "0 0 18rem"}
INPUT = {"flex": "0 0 20rem"}
"""Widths that no row changes, so that names and inputs are aligned."""


class FormPanel:
    """The parameters of one experiment; `on_change` is called after one was written."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.on_change = on_change
        self.experiment = ""
        self.sections: dict[str, list[FormField]] = {}
        self.inputs: dict[str, Any] = {}
        self.section = ipywidgets.Dropdown(description="Section")
        self.message = ipywidgets.HTML()
        self.rows = ipywidgets.VBox()
        self.view = ipywidgets.VBox([self.section, self.message, self.rows])
        self.section.observe(lambda _: self.draw(), names="value")

    def show(self, experiment: str) -> None:
        """Show the parameters of an experiment; none if empty.

        Raises
        ------
        ParamsError
            Its params file is not valid.
        """
        if experiment != self.experiment:
            self.message.value = ""
        before, self.experiment = self.sections, experiment
        self.sections = list_fields(experiment) if experiment else {}
        names, chosen = list(self.sections), self.section.value
        if list(self.section.options) != names:
            self.section.options = names
            self.section.value = next((name for name in (chosen, FIRST_SECTION, *names) if name in names), None)
        if self.sections != before:
            self.draw()

    def draw(self) -> None:
        """Make the inputs of the chosen section."""
        fields = self.sections.get(self.section.value, [])
        self.inputs = {field.name: self.make_input(field) for field in fields}
        self.rows.children = [self.make_row(field) for field in fields]

    def make_row(self, field: FormField) -> ipywidgets.HBox:
        """Return a parameter with its name, input, type and range, meaning and origin."""
        about = " · ".join(escape(part) for part in (field.meaning, field.hint, field.origin) if part)
        name = ipywidgets.HTML(f"<code>{escape(field.name)}</code>", layout=NAME)
        described = ipywidgets.HTML(f'<small style="display: block; line-height: 1.4">{about}</small>')
        return ipywidgets.HBox([name, self.inputs[field.name], described])

    def make_input(self, field: FormField) -> Any:
        """Return the input of a parameter."""
        if field.kind == FIXED:
            shown = f"<code>{escape(field.value[:200])}</code> <small>change it in the file</small>"
            return ipywidgets.HTML(shown, layout=INPUT)
        if field.kind == SWITCH:
            made = ipywidgets.Checkbox(value=field.value == TRUE, indent=False, layout=INPUT)
        elif field.kind == CHOICE:
            choices = ("", *field.choices) if field.is_optional else field.choices
            made = ipywidgets.Dropdown(options=choices, value=field.value, layout=INPUT)
        else:
            made = ipywidgets.Text(value=field.value, continuous_update=False, layout=INPUT)
        made.tooltip = field.name  # what screen readers call it
        made.observe(lambda change: self.write(field, change["new"]), names="value")
        return made

    def write(self, field: FormField, entered: Any) -> None:
        """Write one parameter and show the change, or the message of what is wrong with it."""
        value = str(entered).lower() if isinstance(entered, bool) else str(entered)
        try:
            change = write_field(self.experiment, field, value)
        except (LabkitError, OSError) as error:
            self.message.value = make_message(str(error), is_error=True)
            return
        self.message.value = make_message(change or "The params file has this value already.")
        self.on_change()

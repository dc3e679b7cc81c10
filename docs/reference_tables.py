"""Parts of the documentation site that are made from the code: all commands, parameters and checks."""

import json
from collections.abc import Iterator
from typing import Any

import click
from labkit.check_register import REGISTER
from labkit.cli.main import cli
from labkit.params.describe import make_schema

TOPICS = {
    "2": "Split and cleaning",
    "3": "Features",
    "4": "Training",
    "5": "Evaluation",
    "6": "Release",
    "7": "Monitoring",
    "9": "Explanation",
}
"""What checks are about, by the first digit of their code."""


def write_commands() -> str:
    """Return the help of all commands as the terminal shows it, one section for each."""
    lines = []
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        context = click.Context(command, info_name=f"labkit {name}", max_content_width=80, terminal_width=80)
        lines += [f"## labkit {name}", "", "```text", command.get_help(context), "```", ""]
    return "\n".join(lines)


def write_parameters() -> str:
    """Return the tables of all parameters, one for each section, from the schema of the params files."""
    schema = json.loads(make_schema())
    lines = []
    for path, section in list_sections(schema, schema, ""):
        lines += ["", f"## `{path}`" if path else "## At the top", ""]
        lines += [escape_cell(section["description"]), ""] if path and "description" in section else []
        lines += ["| parameter | type | default | meaning |", "|---|---|---|---|"]
        lines += [write_row(name, field) for name, field in section["properties"].items() if "$ref" not in field]
    return "\n".join(lines) + "\n"


def list_sections(schema: dict[str, Any], section: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a section of the schema and those below it, each with its path, such as `data.joins[]`."""
    yield path, section
    for name, field in section["properties"].items():
        for below, steps in find_sections(field):
            yield from list_sections(schema, schema["$defs"][below], f"{path}.{name}{steps}".lstrip("."))


def find_sections(field: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the names of the sections that a field holds, and how one gets there: one of a list, one by its name."""
    if "$ref" in field:
        yield field["$ref"].rpartition("/")[2], ""
    for option in field.get("anyOf", []):
        yield from find_sections(option)
    if isinstance(field.get("items"), dict):
        yield from ((name, "[]" + steps) for name, steps in find_sections(field["items"]))
    values = [*field.get("patternProperties", {}).values(), field.get("additionalProperties")]
    for value in values:
        if isinstance(value, dict):
            yield from ((name, ".<name>" + steps) for name, steps in find_sections(value))


def write_row(name: str, field: dict[str, Any]) -> str:
    """Return the row of a parameter: name, type, default, meaning."""
    default = f"`{json.dumps(field['default'], ensure_ascii=False)}`" if "default" in field else ""
    cells = [f"`{name}`", describe_type(field), default, field.get("description", "")]
    return "| " + " | ".join(map(escape_cell, cells)) + " |"


def describe_type(field: dict[str, Any]) -> str:
    """Return the type and the limits of a field in words, such as `integer, 2 to 20`."""
    if "$ref" in field:
        return f"section `{field['$ref'].rpartition('/')[2]}`"
    if options := field.get("anyOf", field.get("oneOf")):
        return " or ".join(dict.fromkeys(describe_type(option) for option in options if option.get("type") != "null"))
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if field.get("type") == "array" and isinstance(field.get("items"), dict):
        return "list of " + describe_type(field["items"])
    if field.get("type") == "object":
        return "mapping"
    limits = [
        f"{words} {field[key]}"
        for key, words in (
            ("minimum", "from"),
            ("exclusiveMinimum", "above"),
            ("maximum", "to"),
            ("exclusiveMaximum", "below"),
        )
        if key in field
    ]
    return ", ".join([field.get("type", "any"), " ".join(limits)]).rstrip(", ")


def write_checks() -> str:
    """Return the tables of all checks, from their register."""
    lines = []
    for digit, topic in TOPICS.items():
        lines += ["", f"## {topic}", "", "| code | check | if it does not pass | what to do |", "|---|---|---|---|"]
        for code, check in REGISTER.items():
            if code[2] == digit:
                row = [f"`{code}`", check.title, check.consequence, check.remedy]
                lines.append("| " + " | ".join(map(escape_cell, row)) + " |")
    return "\n".join(lines) + "\n"


def escape_cell(cell: str) -> str:
    """Return the cell of a table of Markdown."""
    return cell.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


TABLES = {"commands": write_commands, "parameters": write_parameters, "checks": write_checks}
"""What replaces each mark in a page."""

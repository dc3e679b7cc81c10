"""Override params with `-S` on the command line, or in a notebook's `parameters` cell."""

import difflib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from io import StringIO
from typing import Any

from labkit import paths
from labkit.console import make_printable
from labkit.errors import ParamsError, name_nearest
from labkit.params.experiment import Params
from labkit.params.load import ParamsFile, check_params, load_file, load_params, parse_file
from labkit.params.plain_values import check_value
from labkit.params.yaml_text import YamlList, YamlMap, make_plain, make_yaml, parse_yaml
from labkit.paths import show_path
from labkit.secrets.detection import describe_secret
from labkit.secrets.redaction import TOKENS
from labkit.storage.atomic import write_text


def describe_edit(params: Params) -> str:
    """Describe that an experiment's params file was edited after a run read it; empty if it was not.

    When a stage ends, DVC records the file as it is then, not as the stage read it.

    Parameters
    ----------
    params
        Params as the run read them.
    """
    try:
        is_same = load_params(params.experiment) == params
    except ParamsError:
        is_same = False
    path = show_path(paths.find_params_path(params.experiment))
    message = (
        f"{path} was changed while the run was under way; finished stages are kept: labkit run {params.experiment}"
    )
    return "" if is_same else message


def apply_overrides(experiment: str, settings: Sequence[str]) -> str:
    """Write `section.field=value` settings to the params file, keeping comments and style.

    Parameters
    ----------
    experiment
        Name of the experiment.
    settings
        Settings, each `name=value`.

    Returns
    -------
    str
        The change as a unified diff, empty if nothing changed.

    Raises
    ------
    ParamsError
        A setting is malformed or its value is not valid; the file is then left unchanged.
    """
    before = load_file(experiment)
    after = override_file(before, settings)
    if after is before:
        return ""
    write_text(after.path, after.content)
    contents, name = (before.content.splitlines(), after.content.splitlines()), show_path(after.path)
    lines = difflib.unified_diff(*contents, name, name, n=0, lineterm="")
    return "\n".join(line for line in lines if not line.startswith("@@"))


def override_file(file: ParamsFile, settings: Sequence[str]) -> ParamsFile:
    """Return a params file with settings applied, or the file itself if they change nothing; nothing is written.

    Parameters
    ----------
    file
        The params file.
    settings
        Settings, each `name=value`; the value is YAML and is converted to the type of its field.

    Raises
    ------
    ParamsError
        A setting is malformed or its value is not valid.
    """
    tree = deepcopy(file.tree)
    for setting in settings:
        name, equals, value = setting.partition("=")
        if TOKENS.search(setting):
            raise ParamsError(f"-S {describe_secret(TOKENS.sub('secret', name).strip().split('.'))}")
        if not equals:
            raise ParamsError(f"-S {setting}: no '=': write section.field=value")
        set_value(tree, name.strip().split("."), parse_value(value.strip(), setting))
    check_params(tree, file.path)
    if make_plain(tree) == make_plain(file.tree):
        return file
    stream = StringIO()
    make_yaml().dump(tree, stream)
    # Parse the result once more: it has to read back as the same values.
    return parse_file(stream.getvalue(), file.path)


def parse_value(source: str, setting: str) -> Any:
    """Parse the value of one setting as YAML; a bare comma-separated list becomes a list.

    Parameters
    ----------
    source
        The value.
    setting
        The whole setting, for error messages.

    Raises
    ------
    ParamsError
        It is not YAML, or more than one value.
    """
    if "," in source and not source.startswith(("[", "{", '"', "'")):
        source = f"[{source}]"
    where = make_printable(setting if setting.startswith("-") else f"-S {setting}")
    tree = parse_yaml(f"value: {source}", where)
    if list(tree) != ["value"]:
        raise ParamsError(f"{where}: more than one value: write one -S for each")
    return tree["value"]


def set_value(tree: YamlMap, keys: list[str], value: Any) -> None:
    """Set a value at a dotted path, adding missing mappings on the way."""
    place = tree
    for depth, key in enumerate(keys[:-1]):
        if depth == 0 and key not in Params.model_fields:
            raise ParamsError(f"-S {'.'.join(keys)}: no section {key!r}: {name_nearest(key, Params.model_fields)}")
        child = place.setdefault(key, YamlMap())
        if not isinstance(child, YamlMap):
            raise ParamsError(f"-S {'.'.join(keys)}: {key} holds one value, not a section")
        place = child
    if isinstance(place.get(keys[-1]), YamlList) and isinstance(value, YamlList):
        value.fa.set_flow_style()
    place[keys[-1]] = value


def override_section(params: Params, section: str, overrides: Mapping[str, Any]) -> Params:
    """Return params with fields of one section replaced, validated like a file.

    Parameters
    ----------
    params
        Params of an experiment.
    section
        Name of the section.
    overrides
        Values by field.

    Raises
    ------
    ParamsError
        The overrides are not a mapping, or the result is not valid.
    """
    if not isinstance(overrides, Mapping):
        raise ParamsError(f'{section} is a {type(overrides).__name__}: write a mapping, e.g. {{"field": value}}')
    tree = params.model_dump(mode="json")
    tree[section] = {**tree[section], **check_value(overrides, section)}
    return check_params(tree, paths.find_params_path(params.experiment))

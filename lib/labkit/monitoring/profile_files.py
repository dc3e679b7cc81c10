"""The files of a release that hold its reference profile: plain data as JSON, and numbers as arrays."""

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from labkit.errors import MissingDataError, ModelError
from labkit.model.release.runtime import PROFILE, PROFILE_ARRAYS
from labkit.monitoring.reference_profile import Profile, Reference
from labkit.monitoring.relations import Relations
from labkit.monitoring.row_sample import RowSample
from labkit.monitoring.window_counts import BY_COLUMN, Cells, Counts, Windows, list_varying
from labkit.storage.atomic import parse_json
from labkit.storage.npz import load_arrays

VERSION = 1


def make_profile_files(profile: Profile) -> dict[str, bytes]:
    """Return the files that hold a profile, by name; equal profiles give equal bytes."""
    parts = {"inputs": profile.inputs, "predictions": profile.predictions}
    arrays: dict[str, np.ndarray] = {"relations": profile.relations.weights, "explained": profile.relations.explained}
    content: dict[str, Any] = {
        "version": VERSION, "experiment": profile.experiment, "n_rows": profile.n_rows, "begin": profile.begin,
        "end": profile.end, "known_until": profile.known_until, "quiet_hours": profile.quiet_hours,
    }  # fmt: skip
    content |= {} if profile.fitted_rows is None else {"fitted_rows": profile.fitted_rows}
    for part, reference in parts.items():
        if reference is not None:
            layout = [[name, cells.to_dict()] for name, cells in reference.layout.items()]
            windows = {"days": reference.windows.days, "rows": reference.windows.rows, "zone": reference.windows.zone}
            content[part] = {"windows": windows, "layout": layout, "has_older": reference.has_older}
            arrays |= {f"{part}.{name}": values for name, values in flatten_counts(reference).items()}
    if profile.sample is not None:
        content["sample"] = {"quota": profile.sample.quota}
        arrays |= {"sample.values": profile.sample.values, "sample.numbers": profile.sample.numbers}
    stream = BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return {PROFILE: f"{text}\n".encode(), PROFILE_ARRAYS: stream.getvalue()}


def flatten_counts(reference: Reference) -> dict[str, np.ndarray]:
    """Return counts as arrays whose names are positions: names of columns may hold any character."""
    counts, made = reference.counts, {}
    for place, name in enumerate(reference.layout):
        made[f"cells.{place}"] = counts.cells[name].astype("int32")
        made[f"missing.{place}"] = counts.missing[name]
        if name in counts.tails:
            made |= {f"{part}.{place}": getattr(counts, part)[name] for part in ("tails", "sums", "extremes")}
    return {**made, "numbers": counts.numbers, "rows": counts.rows, "moments": counts.moments}


def unflatten_counts(arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> Counts:
    """Return counts from the arrays of `flatten_counts`."""
    parts: dict[str, Any] = {
        part: {name: arrays[f"{part}.{place}"] for place, name in enumerate(names) if f"{part}.{place}" in arrays}
        for part in BY_COLUMN
    }
    parts["cells"] = {name: values.astype("int64") for name, values in parts["cells"].items()}
    return Counts(arrays["numbers"], arrays["rows"], **parts, moments=arrays["moments"])


def load_profile(release: Path) -> Profile:
    """Load the profile of a release that has been verified.

    Raises
    ------
    MissingDataError
        The release has none: it was made before releases had one.
    ModelError
        The profile is damaged, or of a later version of labkit.
    """
    path = release / PROFILE
    if not path.is_file():
        raise MissingDataError(
            f"{release.name}: has no {PROFILE}: it predicts, but drift cannot be measured: release the model again"
        )
    try:
        content = parse_json(path.read_bytes())
        if content["version"] != VERSION:
            raise ModelError(f"{path}: version {content['version']} of the profile, not {VERSION}: update labkit")
        arrays = load_arrays(release / PROFILE_ARRAYS)
        inputs = load_reference(content, arrays, "inputs")
        predictions = load_reference(content, arrays, "predictions") if "predictions" in content else None
        relations = Relations(tuple(list_varying(inputs.layout)), arrays["relations"], arrays["explained"])
        meta = {name: content[name] for name in ("experiment", "n_rows", "begin", "end", "quiet_hours")}
        sample = None
        if "sample" in content:
            sample = RowSample(arrays["sample.values"], arrays["sample.numbers"], content["sample"]["quota"])
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not a reference profile ({error}): release the model again") from error
    meta |= {name: content.get(name) for name in ("known_until", "fitted_rows")}
    return Profile(**meta, inputs=inputs, relations=relations, predictions=predictions, sample=sample)


def load_reference(content: Mapping[str, Any], arrays: Mapping[str, np.ndarray], part: str) -> Reference:
    """Return one part of a profile."""
    layout = {name: Cells.from_dict(one) for name, one in content[part]["layout"]}
    own = {name.partition(".")[2]: values for name, values in arrays.items() if name.startswith(f"{part}.")}
    counts = unflatten_counts(own, list(layout))
    return Reference(Windows(**content[part]["windows"]), layout, counts, content[part]["has_older"])

"""Check of a model before it is published: gate, checks of all stages, and metrics beside those of the champion.

Nothing is published, promoted or recorded.
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit import paths
from labkit.artifacts import PLACES, load_json
from labkit.checks import CheckResult, describe_counts, mute, sort_by_weight
from labkit.errors import DataError, MissingDataError, ModelError
from labkit.model.evaluation.gate import Decision
from labkit.model.evaluation.method_checks import from_gate
from labkit.model.evaluation.metrics import compute_metrics
from labkit.model.release import bundle
from labkit.params.experiment import Params
from labkit.params.own_metrics import OWN_METRICS
from labkit.run.pipeline.outputs import check_outputs
from labkit.run.records import registry
from labkit.run.records.champion_moves import CHAMPION
from labkit.stages.gate_checks import (
    align_predictions,
    choose_model_to_compare,
    list_checks,
    list_comparisons,
    load_holdout,
)
from labkit.stages.publish import fetch_champion, fetch_release
from labkit.stages.result import find_evaluation
from labkit.stages.scorecard import collect_checks
from labkit.storage.digests import compute_digest


@dataclass(frozen=True)
class ModelCheck:
    """What was found about a model.

    Attributes
    ----------
    model
        The model in words.
    champion
        Version of the champion that it was compared with; None without one, or if it is the champion itself.
    metrics
        Every metric of the holdout of this checkout: `metric`, `model` and `champion`, None where it is not known.
    """

    experiment: str
    model: str
    champion: int | None
    checks: Sequence[CheckResult]
    metrics: Sequence[Mapping[str, Any]]

    @property
    def headline(self) -> str:
        """Return what was checked and found, in a line."""
        compared = "" if self.champion is None else f", compared with the champion, version {self.champion}"
        return f"{self.experiment}: {self.model}{compared}: {describe_counts(self.checks)}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "experiment": self.experiment,
            "model": self.model,
            "champion": self.champion,
            "checks": [check.to_dict() for check in self.checks],
            "metrics": list(self.metrics),
        }


def check_model(params: Params, number: int | None) -> ModelCheck:
    """Check the release of this checkout, or a registered version, on the holdout of this checkout.

    Parameters
    ----------
    number
        The version; None for the release of this checkout, whose stages have checks of their own.

    Raises
    ------
    MissingDataError
        There is no release, or no holdout.
    DataError
        A file differs from what its stage wrote.
    TrackingError
        There is no such version.
    ChampionError
        The files of the version or of the champion cannot be fetched.
    """
    OWN_METRICS.use(params.evaluation.metrics)
    data = paths.find_data_dir(params.experiment)
    if not (data / PLACES["clean_holdout"]).is_file():
        raise MissingDataError(
            f"{params.experiment}: no holdout to measure a model on: run `labkit run {params.experiment}` first"
        )
    with tempfile.TemporaryDirectory(dir=paths.find_work_dir()) as scratch:
        if number is None:
            folder, gate_path = data / PLACES["release"], data / PLACES["gate"]
            if not gate_path.is_file() or not folder.is_dir():
                raise MissingDataError(f"{folder}: no release yet: run `labkit run {params.experiment}`")
            check_outputs(params.experiment, [folder, gate_path, data / PLACES["clean_holdout"]])
            gate, model = Decision.from_dict(load_json(gate_path)), "the release of this checkout"
        else:
            version = registry.get_version(params.experiment, number)
            (Path(scratch) / "model").mkdir()
            folder = fetch_release(version, Path(scratch) / "model")
            check_outputs(params.experiment, [data / PLACES["clean_holdout"]])
            gate, model = Decision(()), f"version {number}"
        opened = bundle.load_release(folder)
        checks = list_checks(params, opened, gate)
        champion = registry.find_version(params.experiment, alias=CHAMPION)
        theirs = None
        if champion is not None and champion.digest != compute_digest(folder):
            (Path(scratch) / "champion").mkdir()
            theirs = fetch_champion(params.experiment, champion, Path(scratch) / "champion")
            checks += list_comparisons(params, opened, theirs, champion=f"version {champion.number}")
        metrics = compare_metrics(params, opened, theirs)
    found = [from_gate(check) for check in checks] if number else collect_checks(data, find_evaluation(data), checks)
    ordered = sort_by_weight(mute(found, params.checks.mute))
    compared = champion.number if champion is not None and theirs is not None else None
    return ModelCheck(params.experiment, model, compared, ordered, metrics)


def compare_metrics(params: Params, opened: bundle.Release, theirs: Path | None) -> list[dict[str, Any]]:
    """Return every metric on the holdout, of a model and of the champion if it can predict these rows."""
    holdout, target = load_holdout(params), params.data.target
    y_true = holdout[target.column]
    outputs = [(opened.predict_as_evaluated(holdout), opened.facts["classes"])]
    if theirs is not None:
        try:
            release = bundle.load_release(theirs)
            predict, _ = choose_model_to_compare(opened, release, holdout, target, champion="the champion")
            if predict is not None:
                outputs.append((predict(holdout), release.facts["classes"]))
        except (DataError, ModelError):
            pass
    ours, *others = [compute_metrics(one) for one in align_predictions(y_true, outputs, target)]
    return [
        {"metric": name, "model": value, "champion": others[0].get(name) if others else None}
        for name, value in ours.items()
    ]

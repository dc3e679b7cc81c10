"""Checks of a release before it is published."""

from collections.abc import Mapping
from typing import Any

from labkit.checks import CheckResult
from labkit.model.evaluation.gate import check_parity
from labkit.model.evaluation.method_checks import from_gate
from labkit.model.evaluation.refit_stability import check_refit
from labkit.params.experiment import Deploy


def list_release_checks(parity: Mapping[str, Any], refit: Mapping[str, Any], limits: Deploy) -> list[CheckResult]:
    """Check whether the served model predicts like the pipeline and, if that was refitted, like the evaluated one.

    Parameters
    ----------
    parity
        See `labkit.model.evaluation.gate.check_parity`.
    refit
        As returned by `labkit.model.evaluation.refit_stability.describe_refit`; empty if the model was not refitted.
    """
    checks = [check_parity(parity, is_refitted=bool(refit))]
    return [from_gate(check) for check in [*checks, *([check_refit(refit, limits)] if refit else [])]]

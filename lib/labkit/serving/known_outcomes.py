"""The outcomes that became known since the release of a champion, the same for its service and for all other uses."""

from pathlib import Path

from labkit import paths
from labkit.model.release.bundle import Release
from labkit.serving.fed_outcomes import FedOutcomes
from labkit.serving.fed_tables import open_fed_tables
from labkit.serving.outcome_lines import OUTCOMES
from labkit.serving.row_forms import make_row_forms


def find_outcomes_path(experiment: str) -> Path:
    """Return the file of the outcomes; it need not exist."""
    return paths.find_serving_dir(experiment) / OUTCOMES


def open_known_outcomes(opened: Release, experiment: str) -> FedOutcomes | None:
    """Let the histories of a champion count what is known, and return it; None if the model has no histories.

    Rows of the main table are joined with what the service was sent.
    """
    if not opened.row_features.histories:
        return None
    forms = make_row_forms(opened.folder, opened.row_features, opened.main_table)
    path = find_outcomes_path(experiment)
    if (tables := open_fed_tables(forms, path.parent)) is not None:
        tables.refresh()
    outcomes = FedOutcomes(path, opened, forms)
    outcomes.refresh()
    return outcomes


def count_known_outcomes(opened: Release, experiment: str) -> int:
    """Let the histories of a champion count what is known, and return how many outcomes that are."""
    if not find_outcomes_path(experiment).is_file():
        return 0
    found = open_known_outcomes(opened, experiment)
    return 0 if found is None else len(found.counts.known)

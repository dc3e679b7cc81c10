"""The model registry of MLflow: versions, the digests of the releases they were made from, and aliases."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from labkit import paths
from labkit.errors import TrackingError
from labkit.run.records import provenance
from labkit.run.records.ledger import make_timestamp
from labkit.run.records.mlflow_limits import fit_value
from labkit.run.records.run_search import list_pages
from labkit.run.records.tracking_client import get_client, reach

DIGEST_TAG = "labkit.release_sha256"
LONGEST_DESCRIPTION = 5000
"""Maximum number of characters of a version's description in MLflow."""
MODEL, RELEASE = "model", "release"
"""Folders of a run's artifacts: the model as MLflow loads it, and the release it was made from."""


@dataclass(frozen=True)
class Version:
    """One version of a registered model and the digest of the release it was made from."""

    number: int
    run_id: str
    digest: str


@dataclass(frozen=True)
class VersionRecord:
    """What the registry holds of a version: when it was registered (UTC, ISO 8601), its aliases and its tags."""

    version: Version
    at: str
    aliases: tuple[str, ...]
    tags: dict[str, str]

    def has_had(self, alias: str) -> bool:
        """Return whether labkit pointed an alias to it at any time."""
        return f"labkit.{alias}_by" in self.tags


def find_version(name: str, *, alias: str | None = None, digest: str | None = None) -> Version | None:
    """Return the version with an alias or made from a release, or None if there is no such model, alias or release.

    Raises
    ------
    TrackingError
        An alias points to a version that cannot be read.
    LostStoreError
        The registry does not respond.
    """
    number = find_version_number(name, alias=alias, digest=digest)
    return get_version(name, number) if number is not None else None


@contextmanager
def ignore_missing() -> Iterator[None]:
    """Suppress MLflow's error for a model, version or run that does not exist."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


@reach()
def find_version_number(name: str, *, alias: str | None, digest: str | None) -> int | None:
    """Return the number of the version with an alias or made from a release, or None."""
    client = get_client()
    with ignore_missing():
        if alias:
            number = client.get_registered_model(name).aliases.get(alias)
            return int(number) if number is not None else None
        versions = list_pages(lambda token: client.search_model_versions(f"name = '{name}'", page_token=token))
        return max((int(one.version) for one in versions if one.tags.get(DIGEST_TAG) == digest), default=None)
    return None


@reach()
def list_versions(name: str) -> list[VersionRecord]:
    """Return all versions of a registered model, the earliest first; none if there is no such model."""
    client = get_client()
    with ignore_missing():
        aliases = client.get_registered_model(name).aliases
        found = list_pages(lambda token: client.search_model_versions(f"name = '{name}'", page_token=token))
        return [
            VersionRecord(
                Version(int(one.version), str(one.run_id), one.tags.get(DIGEST_TAG, "")),
                datetime.fromtimestamp(one.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
                tuple(sorted(alias for alias, number in aliases.items() if int(number) == int(one.version))),
                dict(one.tags),
            )
            for one in sorted(found, key=lambda one: int(one.version))
        ]
    return []


@reach()
def load_model_tags(name: str) -> dict[str, str]:
    """Return the tags of a registered model; none if there is no such model."""
    with ignore_missing():
        return dict(get_client().get_registered_model(name).tags)
    return {}


@reach()
def tag_model(name: str, key: str, value: str) -> None:
    """Set a tag of a registered model."""
    get_client().set_registered_model_tag(name, key, value)


@reach()
def find_version_commit(version: Version) -> str:
    """Return the git commit of the run that made a version, empty if it is not recorded or the run is gone."""
    with ignore_missing():
        return str(get_client().get_run(version.run_id).data.tags.get("mlflow.source.git.commit", ""))
    return ""


@reach()
def list_models() -> list[str]:
    """Return the names of all registered models."""
    client = get_client()
    return sorted(
        str(model.name) for model in list_pages(lambda token: client.search_registered_models(page_token=token))
    )


def get_version(name: str, number: int) -> Version:
    """Return a version of a registered model.

    Raises
    ------
    TrackingError
        There is no version with that number.
    LostStoreError
        The registry does not respond.
    """
    with reach(), ignore_missing():
        found = get_client().get_model_version(name, str(number))
        return Version(int(found.version), str(found.run_id), found.tags.get(DIGEST_TAG, ""))
    raise TrackingError(f"model {name}: there is no version {number}: `labkit models {name}` lists them")


@reach()
def register_model(
    name: str,
    run_id: str,
    model_dir: Path,
    *,
    release_dir: Path,
    digest: str,
    description: str = "",
    tags: Mapping[str, str] | None = None,
) -> Version:
    """Store an MLflow model and the release it was made from in a run, and register a new version.

    Parameters
    ----------
    model_dir
        As written by `save_mlflow_model`.
    digest
        SHA-256 of the release folder; kept as a tag and checked before the release is ever opened again.
    description
        The description of the version, as Markdown.
    tags
        Further tags of the version.
    """
    client = get_client()
    upload_files(run_id, model_dir, release_dir=release_dir)
    with suppress(MlflowException):
        client.create_registered_model(name)
    source = f"{client.get_run(run_id).info.artifact_uri}/{MODEL}"
    tags = {**(tags or {}), DIGEST_TAG: digest, "labkit.registered_by": provenance.name_person()}
    # Do not wait: the version is complete when this returns, and waiting prints to the terminal.
    shown = fit_value(description, LONGEST_DESCRIPTION) or None
    version = client.create_model_version(name, source, run_id, tags=tags, description=shown, await_creation_for=0)
    return Version(int(version.version), run_id, digest)


def upload_files(run_id: str, model_dir: Path, *, release_dir: Path) -> None:
    """Store an MLflow model and the release it was made from among a run's artifacts."""
    client = get_client()
    client.log_artifacts(run_id, str(model_dir), MODEL)
    client.log_artifacts(run_id, str(release_dir), RELEASE)


@reach()
def replace_files(name: str, version: Version, model_dir: Path, *, release_dir: Path, reason: str) -> None:
    """Replace the files of a version, and tag it with who did so and why."""
    client = get_client()
    place = str(client.get_run(version.run_id).info.artifact_uri)
    repository = get_artifact_repository(place, tracking_uri=paths.get_tracking_uri())
    for folder in (MODEL, RELEASE):
        # Not every store supports it; then the files are overwritten, and the digest shows whether that was enough.
        with suppress(Exception):
            repository.delete_artifacts(folder)
    upload_files(version.run_id, model_dir, release_dir=release_dir)
    tags = {"by": provenance.name_person(), "at": make_timestamp(), "reason": reason}
    for key, value in tags.items():
        client.set_model_version_tag(name, str(version.number), f"labkit.restored.{key}", fit_value(value))


@reach()
def has_had_alias(name: str, version: Version, alias: str) -> bool:
    """Return whether an alias pointed to a version at any time."""
    return f"labkit.{alias}_by" in get_client().get_model_version(name, str(version.number)).tags


@reach()
def has_model(version: Version) -> bool:
    """Return whether the MLflow model of a version exists."""
    found = get_client().list_artifacts(version.run_id, MODEL)
    return any(Path(file.path).name == "MLmodel" for file in found)


@reach()
def set_alias(name: str, alias: str, version: Version) -> None:
    """Point an alias of a registered model to a version, and tag the version with who did so."""
    client = get_client()
    client.set_registered_model_alias(name, alias, str(version.number))
    client.set_model_version_tag(name, str(version.number), f"labkit.{alias}_by", provenance.name_person())


@reach()
def tag_version(name: str, version: Version, tags: Mapping[str, str]) -> None:
    """Set tags of a version of a registered model."""
    for key, value in tags.items():
        get_client().set_model_version_tag(name, str(version.number), key, fit_value(value))

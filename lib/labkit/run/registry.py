"""The model registry of MLflow: versions, the digests of the releases they were made from, and aliases."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlflow.exceptions import MlflowException

from labkit.errors import TrackingError
from labkit.run.fields import shorten
from labkit.run.tracking import DIGEST_TAG, get_client, reach


@dataclass(frozen=True)
class Version:
    """One version of a registered model and the digest of the release it was made from."""

    number: int
    run_id: str
    digest: str


def find_version(name: str, *, alias: str | None = None, digest: str | None = None) -> Version | None:
    """Return the version with an alias or made from a release, or None if there is no such model, alias or release.

    Raises
    ------
    TrackingError
        The registry does not answer, or an alias points at a version that cannot be read. Neither means that there
        is none.
    """
    client = get_client()
    try:
        if alias:
            number = client.get_registered_model(name).aliases.get(alias)
            if number is None:
                return None
        else:
            versions = client.search_model_versions(f"name = '{name}'")
            same = [version for version in versions if version.tags.get(DIGEST_TAG) == digest]
            if not same:
                return None
            number = max(same, key=lambda version: int(version.version)).version
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise TrackingError(f"model {name}: {error.message}") from error
    return get_version(name, int(number))


def list_models() -> list[str]:
    """Return the names of all registered models."""
    client, names, token = get_client(), [], None
    while True:
        page = client.search_registered_models(page_token=token)
        names += [str(model.name) for model in page]
        token = page.token
        if not token:
            return sorted(names)


def get_version(name: str, number: int) -> Version:
    """Return a version of a registered model.

    Raises
    ------
    TrackingError
        There is none of that number, or the registry does not answer.
    """
    try:
        found = get_client().get_model_version(name, str(number))
    except MlflowException as error:
        raise TrackingError(f"model {name}, version {number}: {error.message}") from error
    return Version(int(found.version), str(found.run_id), found.tags.get(DIGEST_TAG, ""))


@reach()
def register_model(name: str, run_id: str, model_dir: Path, *, release_dir: Path, digest: str) -> Version:
    """Store an MLflow model and the release it was made from in a run, and register a new version.

    Parameters
    ----------
    model_dir
        As written by `save_mlflow_model`.
    digest
        SHA-256 of the release folder; kept as a tag and checked before the release is ever opened again.
    """
    client = get_client()
    client.log_artifacts(run_id, str(model_dir), "model")
    client.log_artifacts(run_id, str(release_dir), "release")
    with suppress(MlflowException):
        client.create_registered_model(name)
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    version = client.create_model_version(name, source, run_id, tags={DIGEST_TAG: digest})
    return Version(int(version.version), run_id, digest)


@reach()
def set_alias(name: str, alias: str, version: Version) -> None:
    """Point an alias of a registered model at a version."""
    get_client().set_registered_model_alias(name, alias, str(version.number))


@reach()
def tag_version(name: str, version: Version, tags: Mapping[str, str]) -> None:
    """Set tags of a version of a registered model."""
    for key, value in tags.items():
        get_client().set_model_version_tag(name, str(version.number), key, shorten(value))

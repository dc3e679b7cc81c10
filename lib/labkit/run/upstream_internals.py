"""Everything of MLflow, DVC and Python that labkit uses although it is not documented, so that an upgrade may break it.

MLflow documents its client and its entities; DVC documents its commands and `dvc.api`. `tests/run` verifies on every
version that what is listed here exists and still takes these parameters, and that labkit uses nothing else.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Internal:
    """One name of a library that labkit uses without a promise that it stays.

    Attributes
    ----------
    place
        Its module and its name there, as `module:name`.
    purpose
        What labkit needs it for.
    parameters
        The parameters that labkit passes, or that a function replaced by labkit's own is called with.
    attributes
        The attributes of an instance that labkit reads, sets or replaces.
    """

    place: str
    purpose: str
    parameters: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()


INTERNALS = (
    Internal("mlflow.store.db.utils:_get_alembic_config", "replaced: paths with % in them", ("db_url", "alembic_dir")),
    Internal("mlflow.store.db.utils:_get_package_dir", "where MLflow keeps its migrations"),
    Internal("mlflow.store.db.utils:_get_latest_schema_revision", "whether a database is up to date"),
    Internal("mlflow.store.db.utils:_upgrade_db", "upgrading a copy of a database", ("engine",)),
    Internal("mlflow.store.db.utils:create_sqlalchemy_engine", "upgrading a copy of a database", ("db_uri",)),
    Internal(
        "mlflow.store.tracking.sqlalchemy_store:SqlAlchemyStore",
        "making a database under a lock",
        ("db_uri", "default_artifact_root"),
        ("engine",),
    ),
    Internal(
        "mlflow.store.artifact.artifact_repository_registry:get_artifact_repository",
        "replacing the damaged files of a model version",
        ("artifact_uri", "tracking_uri"),
    ),
    Internal(
        "mlflow.store.artifact.artifact_repo:ArtifactRepository.delete_artifacts",
        "replacing the damaged files of a model version",
        ("artifact_path",),
    ),
    Internal(
        "dvc.repo:Repo",
        "the checkout as DVC sees it",
        ("root_dir",),
        ("cache", "fs", "index", "lock", "root_dir", "stage_cache", "tmp_dir"),
    ),
    Internal("dvc.dvcfile:load_file", "the stages of one experiment", ("repo", "path")),
    Internal("dvc.dvcfile:ProjectFile", "the stages of one experiment", (), ("lockfile_contents", "stages")),
    Internal("dvc.repo:lock_repo", "reading which stages are stale", ("repo",)),
    Internal("dvc.repo:Repo.reproduce", "running stages", ("targets", "single_item", "kwargs")),
    Internal("dvc.repo:Repo.commit", "recording fingerprints that grew", ("target", "force")),
    Internal("dvc.repo:Repo.fetch", "labkit pull", ("targets",)),
    Internal("dvc.repo:Repo.checkout", "labkit pull", ("targets",)),
    Internal("dvc.repo:Repo.add", "labkit new", ("targets",)),
    Internal("dvc.repo:Repo.close", "labkit new and labkit pull"),
    Internal("dvc.stage.cache:StageCache", "verifying what is restored", ("repo",), ("repo",)),
    Internal("dvc.stage.cache:StageCache.restore", "overridden: verifying what is restored", ("stage",)),
    Internal("dvc.stage.cache:StageCache.save", "overridden: remembering stages whose outputs persist", ("stage",)),
    Internal("dvc.stage.cache:StageCache._create_stage", "overridden: verifying paths and objects", ("cache", "wdir")),
    Internal("dvc.stage:Stage.status", "why a stage is stale"),
    Internal("dvc.stage:Stage.checkout", "replaced in a restored stage", ("kwargs",)),
    Internal("dvc.stage:Stage", "stages", (), ("addressing", "deps", "outs", "path_in_repo", "repo")),
    Internal("dvc.output:Output.changed_checksum", "whether a fingerprint grew"),
    Internal("dvc.output:Output", "outputs", (), ("fs_path", "hash_info", "is_in_repo", "persist", "use_cache")),
    Internal("dvc.dependency.param:ParamsDependency.read_params", "which params changed", ("flatten",)),
    Internal("dvc.dependency.param:ParamsDependency", "which params changed", (), ("hash_info",)),
    Internal("dvc.lock:LockBase", "a queue before DVC's lock", ("lockfile",), ("is_locked", "lockfile")),
    Internal("dvc.lock:LockBase.lock", "a queue before DVC's lock"),
    Internal("dvc.lock:LockBase.unlock", "a queue before DVC's lock"),
    Internal("dvc.fs:LocalFileSystem", "writing dvc.lock as a whole"),
    Internal("dvc.fs:LocalFileSystem.open", "overridden: writing dvc.lock as a whole", ("path", "mode", "kwargs")),
    Internal("dvc.lock:LockNoop", "looking without waiting for a lock"),
    Internal("dvc.lock:LockError", "DVC works in the checkout already"),
    Internal("dvc.exceptions:DvcException", "any error of DVC"),
    Internal("dvc.exceptions:DownloadError", "files that are not on the remote"),
    Internal("dvc.config:NoRemoteError", "no remote is the default one"),
    Internal("dvc.fs:RemoteMissingDepsError", "the package for a remote is missing"),
    Internal("multiprocessing.forkserver:_forkserver", "ending the fork server with the processes that fit"),
    Internal("multiprocessing.forkserver:ForkServer", "ending the fork server", (), ("_forkserver_pid",)),
    Internal("multiprocessing.forkserver:ForkServer._stop", "ending the fork server"),
    Internal("multiprocessing.resource_tracker:_resource_tracker", "ending what the fork server started"),
    Internal("multiprocessing.resource_tracker:ResourceTracker", "ending it", (), ("_pid",)),
    Internal("multiprocessing.resource_tracker:ResourceTracker._stop", "ending it"),
    Internal("multiprocessing.process:BaseProcess", "where the fork server has its socket", (), ("_config",)),
    Internal("multiprocessing.util:get_temp_dir", "where the fork server has its socket"),
    Internal("multiprocessing.reduction:ForkingPickler.dumps", "pickling what a process fits", ("obj",)),
    Internal("multiprocessing.reduction:ForkingPickler", "pickling what a process fits"),
    Internal("multiprocessing.context:ForkServerContext", "a type"),
    Internal("multiprocessing.context:ForkServerProcess", "a type"),
)

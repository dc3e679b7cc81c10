"""What a run of an experiment is made from: its code, parameters and raw files."""

from labkit import paths
from labkit.data.reading.locate import compute_digests
from labkit.params.experiment import Params
from labkit.run.fingerprint.import_graph import Checkout
from labkit.run.fingerprint.packages import find_wrong_versions, load_lock
from labkit.run.fingerprint.stage_key import compute_fingerprints
from labkit.stages.builtin import PLAIN_MODULES
from labkit.storage.digests import digest


def compute_recipe_digest(params: Params) -> str:
    """Return one digest of the code of all stages, the packages, the parameters, and the raw files that they name.

    Comments, docstrings and prose do not count; see `labkit.run.fingerprint`.
    """
    codes = compute_fingerprints(Checkout(paths.find_root()), PLAIN_MODULES, params)
    packages = [f"{name}=={one}" for name, one in {**load_lock(), **find_wrong_versions()}.items()]
    parts = [f"{stage}:{name}={found}" for stage, files in codes.items() for name, found in files.items()]
    tables = [f"{name}={found}" for name, found in compute_digests(params.data).items()]
    return digest([params.model_dump_json(), *sorted(parts), *sorted(packages), *sorted(tables)])

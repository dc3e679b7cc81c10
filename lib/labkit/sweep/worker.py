"""Runs one node, in a process of its own that is forked from one that has imported everything.

Imported before the first fork, so all that a node needs is imported here.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread

from labkit.errors import LabkitError, StageError
from labkit.params.load import load_params
from labkit.run.fingerprint.fingerprint_file import find_fingerprint_dir, load_fingerprint
from labkit.run.fingerprint.stage_key import compute_code_digest
from labkit.run.kernels.session import Kernels
from labkit.run.notebook_files import find_stage, list_notebooks
from labkit.run.pipeline import stage_run  # noqa: F401  # imported before forking, as every node needs it
from labkit.run.pipeline.experiment_run import run_single_stage
from labkit.run.pipeline.progress import Progress
from labkit.stages import builtin
from labkit.storage.append import open_log
from labkit.storage.atomic import write_json
from labkit.storage.digests import digest
from labkit.sweep.nodes import finish_node

FAILURE, LOG = ".labkit/failure.json", ".labkit/node.log"
"""Files of a light checkout: why its node failed, and what it printed."""


@dataclass(frozen=True)
class Task:
    """One node to run.

    Attributes
    ----------
    root
        Its light checkout.
    bytes_expected
        Memory that it is expected to need.
    environment
        Variables to set, such as the run in MLflow that it belongs to.
    warm
        Address of the server from which its kernel is forked.
    """

    key: str
    experiment: str
    stage: str
    root: Path
    bytes_expected: int
    environment: dict[str, str]
    warm: str


def run_task(task: Task, watch: Callable[[], None] | None = None) -> None:
    """Run a node in its light checkout, and write its marker, or why it failed.

    Parameters
    ----------
    task
        The node.
    watch
        Ends this process when it has to; by default, once the sweep has ended.
    """
    Thread(target=watch or die_with_sweep, name="watch", daemon=True).start()
    # A Ctrl-C reaches every process of the terminal; only the sweep decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.update(task.environment, LABKIT_ROOT=str(task.root))
    with open_log(task.root / LOG) as log, redirect_stdout(log), redirect_stderr(log), chdir(task.root):
        try:
            kernels = Kernels(is_cold=True, address=task.warm)
            run_single_stage(
                task.stage, task.experiment, plain=builtin.PLAIN_STAGES, progress=Progress(), kernels=kernels
            )
            check_code(task)
            finish_node(load_params(task.experiment), task.stage, task.key)
        except KeyboardInterrupt:
            sys.exit(130)
        except LabkitError as error:
            write_json(task.root / FAILURE, {"message": str(error)})
            sys.exit(error.exit_code)
        except Exception as error:
            traceback.print_exc()
            write_json(task.root / FAILURE, {"message": f"{type(error).__name__}: {error}"})
            sys.exit(1)


def die_with_sweep() -> None:
    """Kill this process once the sweep has ended, in whatever way; its kernel ends with it.

    The process that this one is forked from does not end with the sweep, but with the last of its children.
    """
    sweep = parent_process()
    assert sweep
    wait([sweep.sentinel])
    os.kill(os.getpid(), signal.SIGKILL)


def check_code(task: Task) -> None:
    """Raise an error if the code of a stage is no longer what its key was computed from.

    Raises
    ------
    StageError
        The notebook, or a module that it imports, was edited meanwhile.
    """
    planned = load_fingerprint(find_fingerprint_dir(task.experiment) / f"{task.stage}.json")["code"]
    for path in list_notebooks(task.experiment):
        if find_stage(path) == task.stage:
            now = compute_code_digest(path, load_params(task.experiment), stage=task.stage)
            if now != digest(planned.values()):
                raise StageError(f"the code of {path.stem} was changed during the sweep: run the same command again")

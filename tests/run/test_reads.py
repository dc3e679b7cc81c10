"""What a stage reads beside its code: seen in real kernels, compared at the next run, or warned about on its page."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from labkit import paths
from labkit.params.experiment import Params
from labkit.params.load import load_params
from labkit.run.fingerprint import fingerprint_file, stage_key
from labkit.run.fingerprint.observation import Observation, keep_reads, observe
from labkit.run.kernels import servers
from labkit.run.notebook.executor import run_notebook
from labkit.run.notebook.source import read_source
from labkit.secrets.redaction import Mask

from tests.conftest import ROOT
from tests.run.edits import EDITS, INERT, Content, Edit
from tests.run.small import make_pipeline

pytestmark = pytest.mark.slow

EXPERIMENT = 'experiment = "small"'
START = 'import labkit\nstep = labkit.start("eda", experiment)'


@dataclass(frozen=True)
class Kit:
    """A checkout of one notebook, whose stage `eda` has outputs of no interest."""

    root: Path

    @property
    def params(self) -> Params:
        """The experiment's params."""
        return load_params("small")

    @property
    def source(self) -> Path:
        """The notebook."""
        return self.root / "notebooks" / "01_eda.ipynb"

    def write(self, files: Mapping[str, Content | None]) -> None:
        """Write files, or what makes them; None removes one."""
        for name, content in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.unlink()
            elif isinstance(content, str):
                path.write_text(content)
            else:
                path.unlink(missing_ok=True)
                content(path)

    def write_notebook(self, *cells: str) -> None:
        """Write the notebook: its parameters, the line that starts it, and some cells."""
        made = [nbformat.v4.new_code_cell(cell) for cell in (EXPERIMENT, START, *cells)]
        made[0].metadata["tags"] = ["parameters"]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(nbformat.v4.new_notebook(cells=made, metadata={"kernelspec": kernel}), self.source)

    def compute(self) -> str:
        """Return the stage's fingerprint as the first stage of every run writes it."""
        stage_key.write_fingerprints("small", {}, tables={}, section_digests={}, params=self.params)
        return (fingerprint_file.find_fingerprint_dir("small") / "eda.json").read_text()

    def run(self, **variables: str) -> Observation:
        """Execute the notebook in a kernel and write down what it read, as a stage does."""
        work = self.root / ".labkit" / "work" / "run"
        work.mkdir(parents=True, exist_ok=True)
        (work / "trace.jsonl").unlink(missing_ok=True)
        environment = paths.make_environment(LABKIT_RUN_DIR=str(work), **variables)
        ended = run_notebook(
            read_source(self.source),
            work / "executed.ipynb",
            parameters={"experiment": "small"},
            environment=environment,
            on_cell=lambda *_: None,
        )
        assert ended.failure is None, ended.failure
        seen = observe(work, "eda", params=self.params, start=self.source, mask=Mask())
        keep_reads(self.params, "eda", ["eda"], seen)
        return seen


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    """Return a checkout whose warm kernels serve all others, and what was remembered there of labkit's own code."""
    root = make_kit(tmp_path_factory.mktemp("server") / "checkout")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABKIT_ROOT", str(root))
        with servers.open_kernel_server() as address:
            patch.setenv("LABKIT_WARM", str(address))
            kit = Kit(root)
            kit.write_notebook()
            kit.compute()
            yield kit


def make_kit(root: Path) -> Path:
    """Write what a checkout needs."""
    for name in ("params", "notebooks"):
        (root / name).mkdir(parents=True)
    params = (ROOT / "params" / "diabetes.yaml").read_text()
    (root / "params" / "small.yaml").write_text(params.replace("experiment: diabetes", "experiment: small"))
    (root / "dvc.yaml").write_text(make_pipeline(("eda",)))
    return root


@pytest.fixture
def kit(tmp_path: Path, server: Kit, monkeypatch: pytest.MonkeyPatch) -> Kit:
    """Return a checkout of one notebook."""
    root = make_kit(tmp_path / "checkout")
    (root / ".labkit").mkdir()
    shutil.copy(server.root / ".labkit" / "meanings.json", root / ".labkit")
    for name in ("LABKIT_RUN_DIR", "REGION", "DB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    return Kit(root)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.name)
def test_edit_of_what_a_stage_reads_is_seen_or_warned_about(
    kit: Kit, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_all(monkeypatch, edit.variables[0])
    kit.write(edit.files)
    kit.write_notebook(edit.cell)
    kit.compute()
    seen = kit.run()
    before = kit.compute()
    assert before == kit.compute(), "nothing has changed"
    set_all(monkeypatch, edit.variables[1])
    kit.write(edit.after)
    if edit.warning:
        assert kit.compute() == before
        assert any(edit.warning in sentence for sentence in seen.untracked), seen.untracked
    else:
        assert kit.compute() != before


def set_all(monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    """Set environment variables."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("edit", INERT, ids=lambda edit: edit.name)
def test_edit_of_what_no_stage_reads_runs_nothing(kit: Kit, edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, edit.variables[0])
    kit.write(edit.files)
    kit.write_notebook(edit.cell)
    kit.compute()
    seen = kit.run()
    before = kit.compute()
    set_all(monkeypatch, edit.variables[1])
    kit.write(edit.after)
    assert kit.compute() == before
    words = ("variable", "outside", "could not be recorded")
    assert not any(word in sentence for word in words for sentence in seen.untracked), seen.untracked

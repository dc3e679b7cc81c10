"""What a stage has to write, no less and no more; how one ends: `tests.run.test_endings`."""

import json
from pathlib import Path

import pytest
from labkit.errors import StageError
from labkit.run.pipeline.stage_run import check_declared

from tests.conftest import call_in_process, call_labkit
from tests.run.small import find_done, find_tracked, make_small


@pytest.mark.parametrize(
    ("written", "declared", "message"),
    [
        (["clean/a", "clean/deep/b", "metrics.json"], ["clean", "metrics.json"], ""),
        (["plots/roc/", "plots/bars/b.csv"], ["plots/roc", "plots/bars"], ""),
        (["clean/a", "cleaner/b"], ["clean"], "stage eda wrote cleaner/b, not declared: make `outs`"),
        (["clean/a"], ["clean", "model"], "stage eda did not write model: make `outs`"),
        (["x"], ["y"], "stage eda wrote x, not declared and did not write y: make `outs`"),
        ([], ["clean"], "stage eda did not write clean"),
        ([], [], ""),
    ],
)
def test_outputs_are_those_that_are_declared(
    tmp_path: Path, written: list[str], declared: list[str], message: str
) -> None:
    for name in written:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).touch()
    if not message:
        check_declared(tmp_path, declared, "eda")
        return
    with pytest.raises(StageError) as refused:
        check_declared(tmp_path, declared, "eda")
    assert str(refused.value).startswith(message)


@pytest.mark.slow
def test_stage_that_writes_what_nobody_expects_fails_and_leaves_nothing(tmp_path: Path, store: Path) -> None:
    source = "(work / 'outputs' / 'stray.txt').write_text('x')"
    root = make_small(tmp_path / "checkout", "eda", store=store, eda=source)
    done = call_in_process(root, "run", "small", "--cold")
    assert done.returncode == 1
    assert "stage eda wrote stray.txt, not declared: make `outs` in dvc.yaml and the notebook agree" in done.stderr
    assert [path.name for path in (root / "data" / "small").iterdir()] == ["fingerprint"]
    assert {line["outcome"] for line in find_done(root).values()} == {"failed"}
    assert {status for name, (status, _) in find_tracked(root).items() if name != "candidate"} == {"FAILED"}


@pytest.mark.slow
def test_page_of_a_stage_whose_outputs_are_refused_shows_that_it_failed(tmp_path: Path, store: Path) -> None:
    root = make_small(tmp_path / "checkout", "eda", store=store)
    page, notebook = root / "reports/small/01_eda.html", root / "notebooks/01_eda.ipynb"
    assert call_in_process(root, "run", "small", "--cold").returncode == 0
    first = page.read_text()
    assert "stray.txt" not in first
    content = json.loads(notebook.read_text())
    last = [cell for cell in content["cells"] if cell["cell_type"] == "code"][-1]
    last["source"] = ["(work / 'outputs' / 'stray.txt').write_text('x')\n", *last["source"]]
    notebook.write_text(json.dumps(content))
    done = call_in_process(root, "run", "small", "--cold")
    assert done.returncode == 1
    assert page.read_text() != first
    assert "stage eda wrote stray.txt, not declared" in page.read_text()
    assert json.loads((root / "reports/small/01_eda.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_run_that_does_not_publish_imports_nothing_for_that(tmp_path: Path, store: Path) -> None:
    root = make_small(tmp_path / "checkout", "eda", "wrangling", store=store)
    done = call_labkit(root, "run", "small", "--cold", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "|" in line}
    assert {"labkit.run.pipeline.stages_in_order", "papermill"} <= imported
    assert not imported & {"labkit.stages.publish", "sklearn", "skops.io"}

"""Which stage follows which, as dvc.yaml declares."""

from pathlib import Path

import pytest
from labkit.errors import ParamsError
from labkit.orchestration.task_graph import load_task_graphs

from tests.conftest import ROOT
from tests.run.small import make_small


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Path) -> Path:
    root = make_small(tmp_path / "checkout", store=store)
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    return root


def test_stages_follow_those_whose_outputs_they_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ROOT", str(ROOT))
    [graph] = load_task_graphs(["diabetes"])
    assert list(graph.stages)[:2] == ["source", "eda"]
    assert graph.stages["source"] == ()
    # Of the outputs of `eda`, `wrangling` reads one file; `publish` reads the folder.
    assert graph.stages["wrangling"] == ("source", "eda")
    assert "eda" in graph.stages["publish"]
    assert graph.stages["training"] == ("features",)


def test_all_experiments_are_those_of_the_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_ROOT", str(ROOT))
    assert [graph.experiment for graph in load_task_graphs([])] == ["flights", "diabetes", "breast_cancer"]


def test_time_limit_is_that_of_the_params_and_the_start(small: Path) -> None:
    params = small / "params" / "small.yaml"
    params.write_text(params.read_text() + "limits:\n  stage_seconds: 100.5\n")
    assert load_task_graphs(["small"])[0].seconds == 701
    assert load_task_graphs(["small"], seconds=30)[0].seconds == 30


@pytest.mark.parametrize("output", ["data/${item}/wrangling/part", "data/${item}/wrangling"])
def test_file_and_folder_around_it_are_a_dependency(small: Path, output: str) -> None:
    path = small / "dvc.yaml"
    head, _, tail = path.read_text().partition("outs:\n      - data/${item}/wrangling\n")
    path.write_text(f"{head}outs:\n      - {output}\n{tail}")
    assert load_task_graphs(["small"])[0].stages == {"eda": (), "wrangling": ("eda",), "features": ("wrangling",)}


def test_stage_that_reads_what_a_later_one_writes_is_refused(small: Path) -> None:
    path = small / "dvc.yaml"
    path.write_text(
        path.read_text().replace("fingerprint/eda.json\n", "fingerprint/eda.json\n      - data/small/features\n")
    )
    with pytest.raises(ParamsError, match="stage eda reads what features writes, which comes after it: move features"):
        load_task_graphs(["small"])


def test_experiment_that_the_pipeline_lacks_is_refused(small: Path) -> None:
    params = small / "params" / "small.yaml"
    (params.parent / "smaller.yaml").write_text(params.read_text().replace("experiment: small", "experiment: smaller"))
    with pytest.raises(ParamsError, match=r"dvc.yaml does not list 'smaller': did you mean 'small'\?"):
        load_task_graphs(["smaller"])

"""Columns that the params name are checked against the contract, before the kernel of any stage starts."""

import json
from pathlib import Path

import pytest
from labkit.data.column_references import check_against_contract
from labkit.errors import ParamsError
from labkit.params.load import load_params
from labkit.params.override import apply_overrides

from tests.conftest import call_in_process
from tests.run.small import load_ledger, make_small
from tests.source_tree import ROOT

CONTRACT = (ROOT / "data" / "diabetes" / "contract.json").read_text()


def test_name_that_no_column_has_is_refused_with_its_line(params_root: Path) -> None:
    contract = params_root / "contract.json"
    contract.write_text(CONTRACT)
    check_against_contract(load_params("diabetes"), contract)
    apply_overrides("diabetes", ["features.drop=[bmj]"])
    with pytest.raises(ParamsError) as raised:
        check_against_contract(load_params("diabetes"), contract)
    assert str(raised.value).startswith("params/diabetes.yaml:")
    assert str(raised.value).endswith("features.drop: no column 'bmj': did you mean 'bmi'?")


@pytest.mark.parametrize("content", ["", "[1]", '{"patients": 3}', '{"visits": {"columns": {"age": {}}}}'])
def test_contract_that_does_not_list_the_tables_refuses_nothing(params_root: Path, content: str) -> None:
    contract = params_root / "contract.json"
    contract.write_text(content)
    check_against_contract(load_params("diabetes"), contract)


def test_later_stage_is_refused_before_its_kernel_starts(tmp_path: Path, store: Path) -> None:
    root = make_small(tmp_path / "checkout", "eda", store=store, eda="raise AssertionError('started')")
    contract = root / "data" / "small" / "contract.json"
    contract.parent.mkdir(parents=True)
    contract.write_text(json.dumps(json.loads(CONTRACT)))
    done = call_in_process(root, "run", "small", "-S", "features.drop=[bmj]")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "features.drop: no column 'bmj': did you mean 'bmi'?" in done.stderr
    assert not (root / "reports" / "small" / "01_eda.html").exists()
    assert [line["outcome"] for line in load_ledger(root) if line["kind"] == "done"] == ["failed", "failed"]

"""The contract: inferred once, kept as JSON, checked with messages that name the column."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from labkit.data.contract import Inference, Schema, check_table, load_contract, save_contract
from labkit.errors import ContractError, MissingDataError

FRAME = pd.DataFrame({"age": [20, 50], "height": [1.5, 1.9], "name": ["a", "b"], "smokes": [True, False]})


def infer_schema(frame: pd.DataFrame) -> Schema:
    """Return the schema of a table that comes in one batch."""
    inference = Inference()
    inference.add(pa.Table.from_pandas(frame, preserve_index=False))
    return inference.make_schema()


def test_contract_survives_the_file(tmp_path: Path) -> None:
    save_contract(tmp_path / "contract.json", {"people": infer_schema(FRAME)})
    schema = load_contract(tmp_path / "contract.json")["people"]
    assert check_table(FRAME, schema, "people") is FRAME


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (FRAME.drop(columns="age"), "people violates its contract: column 'age' is missing"),
        (FRAME.assign(extra=1), "column 'extra' is new"),
        (FRAME.assign(age=["x", "y"]), "column 'age' is str, expected int64"),
        (FRAME.assign(name=["a", None]), "column 'name' misses 1 values, first in row 1"),
        (FRAME.assign(height=[1.5, 190.0]), "column 'height': 1 values fail less_than_or_equal_to"),
        (FRAME.assign(age=[20, -1]), "column 'age': 1 values fail greater_than_or_equal_to(0"),
        (FRAME.assign(smokes=["yes", "no"]), "column 'smokes' is str, expected bool"),
    ],
)
def test_breach_names_the_column(frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(ContractError) as caught:
        check_table(frame, infer_schema(FRAME), "people")
    assert message in str(caught.value)


def test_new_record_within_the_span_passes() -> None:
    check_table(FRAME.assign(age=[20, 79], height=[1.2, 2.2]), infer_schema(FRAME), "people")


def test_all_missing_and_empty_columns_do_not_break_inference() -> None:
    frame = pd.DataFrame({"gone": [np.nan, np.nan], "same": [3, 3]})
    check_table(frame, infer_schema(frame), "odd")


def test_no_contract_yet(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="run the stage `source`"):
        load_contract(tmp_path / "contract.json")


def test_file_that_is_no_contract(tmp_path: Path) -> None:
    (tmp_path / "contract.json").write_text('{"people": 3}')
    with pytest.raises(ContractError, match="not a contract"):
        load_contract(tmp_path / "contract.json")

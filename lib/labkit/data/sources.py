"""Where raw tables come from.

Reads what `data.tables` of the params names. Not where a named file lies: that is `labkit.data.origins`. Not whether
the columns are there that the params speak of: that is `labkit.data.columns`. Not how tables are joined: that is
`labkit.data.tables`.
"""

import zipfile
import zlib
from pathlib import Path

import pandas as pd

from labkit.data import contract
from labkit.data.columns import check_columns, require
from labkit.data.origins import find_file
from labkit.data.tables import save_table
from labkit.errors import DataError, ParamsError, name_nearest
from labkit.files import atomic_folder
from labkit.params import Data, Params, Table


def load_tables(data: Data) -> dict[str, pd.DataFrame]:
    """Read all raw tables.

    Raises
    ------
    MissingDataError
        A file or package is not there.
    DataError
        A file is not a table, or a time does not parse.
    """
    return {name: parse_times(read_table(name, table), name, table) for name, table in data.tables.items()}


def read_table(name: str, table: Table) -> pd.DataFrame:
    """Read one raw table from where its params say."""
    if table.dataset:
        return load_bundled(name, table.dataset)
    path = find_file(name, table)
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, low_memory=False, index_col=False)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"data.tables.{name}: {path}: {str(error).splitlines()[0]}") from error


def load_bundled(name: str, dataset: str) -> pd.DataFrame:
    """Read one of scikit-learn's bundled tables in its original units, classes by their names."""
    import sklearn.datasets

    bundled = {
        "breast_cancer": sklearn.datasets.load_breast_cancer,
        "diabetes": lambda **options: sklearn.datasets.load_diabetes(scaled=False, **options),
        "digits": sklearn.datasets.load_digits,
        "iris": sklearn.datasets.load_iris,
        "wine": sklearn.datasets.load_wine,
    }
    if dataset not in bundled:
        raise ParamsError(f"data.tables.{name}.dataset: no {dataset!r}: {name_nearest(dataset, bundled)}")
    bunch = bundled[dataset](as_frame=True)
    names = getattr(bunch, "target_names", None)
    if names is None:
        return bunch.frame
    return bunch.frame.assign(target=[str(names[code]) for code in bunch.target])


def parse_times(frame: pd.DataFrame, name: str, table: Table) -> pd.DataFrame:
    """Turn the columns declared as times into times, in UTC if they name a zone; refuse the first text that is none."""
    require(table.times, frame.columns, f"data.tables.{name}.times")
    for column in table.times:
        values = frame[column]
        texts = values.astype(str) if pd.api.types.is_integer_dtype(values) else values
        try:
            parsed = pd.to_datetime(texts, errors="coerce", format="ISO8601", utc=False)
        except ValueError as error:  # pandas does not coerce a column of several time zones
            raise DataError(f"data.tables.{name}: column {column}: {str(error).splitlines()[0]}") from error
        bad = frame.index[parsed.isna() & frame[column].notna()]
        if len(bad):
            raise DataError(
                f"data.tables.{name}: column {column}, row {bad[0] + 1}: {frame[column][bad[0]]!r} is not an ISO time "
                f"({len(bad):,} such rows): mend the file or take the column out of `times`"
            )
        if isinstance(parsed.dtype, pd.DatetimeTZDtype):
            parsed = parsed.dt.tz_convert("UTC")
        frame = frame.assign(**{column: parsed.dt.as_unit("us")})
    return frame


def place_tables(params: Params, folder: Path, contract_path: Path, *, sample_rows: int | None = None) -> str:
    """Read the raw tables, hold them against the contract, and write them as Parquet: the stage `source`.

    Parameters
    ----------
    folder
        Where one Parquet file per table goes.
    contract_path
        The contract; tables it does not know are added to it.

    Returns
    -------
    str
        A headline, e.g. `442 rows, 11 columns`.

    Raises
    ------
    ParamsError, MissingDataError, DataError, ContractError
        A table, file or column is not there, not readable, or not as agreed.
    """
    tables = load_tables(params.data)
    try:
        check_columns(params, tables)
    except ParamsError as error:
        raise ParamsError(f"params/{params.experiment}.yaml: {error}") from error
    agreed = contract.load_contract(contract_path) if contract_path.is_file() else {}
    for name, frame in tables.items():
        if name in agreed:
            contract.check_table(frame, agreed[name], f"raw table {name}")
    new = {name: frame for name, frame in tables.items() if name not in agreed}
    if new or set(agreed) - set(tables):
        kept = {name: schema for name, schema in agreed.items() if name in tables}
        contract.save_contract(contract_path, kept | contract.infer_contract(new))
    main = tables[params.data.main_table]
    if sample_rows is not None and sample_rows < len(main):
        main = main.sample(sample_rows, random_state=params.seed).sort_index().reset_index(drop=True)
        tables[params.data.main_table] = main
    with atomic_folder(folder) as beside:
        for name, frame in tables.items():
            save_table(beside / f"{name}.parquet", frame)
    n_columns = sum(len(frame.columns) for frame in tables.values())
    return f"{len(main):,} rows, {n_columns} columns in {len(tables)} table{'s' if len(tables) > 1 else ''}"

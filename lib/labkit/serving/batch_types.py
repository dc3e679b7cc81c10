"""Types of columns that hold the values of all files, and so of all parts, of a batch prediction."""

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from labkit.data.reading.columnar import TypedTable, to_plain_type
from labkit.data.reading.raw_table import RawTable
from labkit.errors import DataError, get_first_line


def find_types(raw: RawTable) -> dict[str, pa.DataType]:
    """Return the type of each typed column of a table that holds the values of all its files.

    Strings that are read as times, and columns without any type, are left out.

    Raises
    ------
    DataError
        There is no such type.
    """
    return unify_types(
        [list_plain_types(file, raw.table.times) for file in raw.files if isinstance(file, TypedTable)], raw.where
    )


def list_plain_types(file: TypedTable, times: Iterable[str]) -> pa.Schema:
    """Return the plain types of a file, as `find_types` compares them."""
    kinds = {name: file.schema.field(key).type for name, key in file.stored.items()}
    plain = {name: to_plain_type(kind) for name, kind in kinds.items() if not pa.types.is_null(kind)}
    return pa.schema([(name, kind) for name, kind in plain.items() if name not in times or kind != pa.string()])


def unify_types(schemas: Sequence[pa.Schema], where: str) -> dict[str, pa.DataType]:
    """Return the type of each column that holds the values of all tables: whole numbers and others are of one kind.

    Raises
    ------
    DataError
        There is no such type.
    """
    found: dict[str, pa.Field] = {}
    for schema in schemas:
        for field in (field.remove_metadata() for field in schema):
            try:
                both = [pa.schema([one]) for one in (found.get(field.name, field), field)]
                found[field.name] = pa.unify_schemas(both, promote_options="permissive").field(0)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                types = f"{found[field.name].type} in one file and {field.type} in another"
                raise DataError(f"{where}: column {field.name!r} is {types}: write it alike in all files") from error
    return {name: field.type for name, field in found.items()}


def cast_columns(table: pa.Table, types: Mapping[str, pa.DataType], where: str) -> pa.Table:
    """Return a table with columns of these types.

    Raises
    ------
    DataError
        A type does not hold a value exactly, such as an integer beyond 2**53 beside fractions.
    """
    for place, field in enumerate(table.schema):
        kind = types.get(field.name, field.type)
        if kind == field.type:
            continue
        try:
            table = table.set_column(place, field.name, table.column(place).cast(kind))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            what = f"is {field.type} in one file and not in another, which {kind} does not hold exactly"
            reason = f"{what} ({get_first_line(error)})"
            raise DataError(f"{where}: column {field.name!r} {reason}: write it alike in all files") from error
    return table


def concatenate(tables: Sequence[pa.Table], where: str) -> pa.Table:
    """Return the rows of tables, with the types of `unify_types`."""
    types = unify_types([table.schema for table in tables], where)
    return pa.concat_tables([cast_columns(table, types, where) for table in tables], promote_options="default")

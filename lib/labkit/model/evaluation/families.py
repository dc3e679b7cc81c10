"""Families of features, by how the params declare them.

Raw columns belong to the table that they come from; computed features to the kind of their declaration.
"""

from labkit.features.row_features import RowFeatures
from labkit.params.tables import Data

KINDS = {
    "date": "dates",
    "history": "history",
    "text": "text",
    "interaction": "interactions",
    "outliers": "outlier flags",
    "missing values": "missing-value flags",
}
"""Family of each origin that `RowFeatures.find_origins` names; all other new columns are expressions."""
EXPRESSIONS, OWN = "expressions", "own features"


def find_families(row_features: RowFeatures, data: Data) -> dict[str, list[str]]:
    """Return the names of the features by family, in the order of the features.

    Parameters
    ----------
    row_features
        Fitted features.
    """
    origins = row_features.find_origins()
    named = dict.fromkeys(row_features.expressions or {}, EXPRESSIONS)
    named |= dict.fromkeys(row_features.list_own_columns(), OWN)
    families: dict[str, list[str]] = {}
    for name in row_features.outputs_:
        if name not in origins:
            family = find_table(name, data)
        else:
            family = named.get(name) or KINDS.get(origins[name], EXPRESSIONS)
        families.setdefault(family, []).append(name)
    return families


def find_table(name: str, data: Data) -> str:
    """Return the table that a raw column comes from: a joined one, or the main table."""
    for join in data.joins:
        listed = {f"{join.prefix}{column}" for column in join.columns}
        if name in listed or (not listed and join.prefix and name.startswith(join.prefix)):
            return join.table
    return data.main_table

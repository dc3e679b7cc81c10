"""The OpenAPI document of a service: what each path takes, with the columns of the model in force."""

from collections.abc import Mapping
from typing import Any

import msgspec

from labkit.serving.app import Service
from labkit.serving.explanations import ANSWER, MOST_ROWS
from labkit.serving.fed_tables import ANY_ROWS, TABLE_ROWS
from labkit.serving.invocations import FORMS
from labkit.serving.outcome_lines import OutcomesBody


def summarize(handler: Any) -> str:
    """Return the first line of a handler's docstring, without its full stop."""
    return str(handler.__doc__).partition("\n")[0].rstrip(".")


def describe_paths(paths: Mapping[str, Any], service: Service) -> dict[str, Any]:
    """Return the paths of a document with what depends on the model in force.

    Parameters
    ----------
    paths
        The paths as FastAPI describes them.
    """
    described = {"/predict": {"post": describe_predict(service)}, "/explain": {"post": describe_explain(service)}}
    made = {**described, **paths, **described}
    fed, outcomes = service.follow().fed, msgspec.json.schema(OutcomesBody)
    row, sent = make_row_schema(service), outcomes["$defs"]["Outcome"]["properties"]
    sent |= {"row": row, "known_at": {**sent["known_at"], "format": "date-time"}}
    made["/outcomes"] = {"post": {**paths["/outcomes"]["post"], "requestBody": describe_body(outcomes, None)}}
    tables = {**paths["/tables/{table}"]["post"], "requestBody": describe_body(TABLE_ROWS, None)}
    if fed is not None:
        rows = [{**one.make_schema()["properties"]["rows"]["items"], "additionalProperties": True}
                for one in fed.readers.values()]  # fmt: skip
        made_rows = {"rows": {**ANY_ROWS, "items": {"anyOf": rows}}}
        tables["requestBody"] = describe_body({**TABLE_ROWS, "properties": made_rows}, None)
        tables["parameters"] = [{**one, "schema": {"type": "string", "enum": [*fed.readers]}}
                                for one in tables["parameters"]]  # fmt: skip
    return {**made, "/tables/{table}": {"post": tables}}


def make_row_schema(service: Service) -> dict[str, Any]:
    """Return the JSON schema of a row, in either form that the model takes."""
    engine = service.follow()
    forms = [engine.reader.make_schema(), *([engine.main_rows.make_schema()] if engine.main_rows else [])]
    rows = [form["properties"]["rows"]["items"] for form in forms]
    return rows[0] if len(rows) == 1 else {"anyOf": rows}


def describe_body(schema: Mapping[str, Any], example: Any) -> dict[str, Any]:
    """Return the description of a JSON body for OpenAPI, with all parts of its schema in place."""
    parts = schema.get("$defs", {})

    def fill(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return fill(parts[str(node["$ref"]).rpartition("/")[2]])
            return {name: fill(value) for name, value in node.items() if name != "$defs"}
        return [fill(one) for one in node] if isinstance(node, list) else node

    content: dict[str, Any] = {"schema": fill(dict(schema))}
    if example is not None:
        content["example"] = example
    return {"required": True, "content": {"application/json": content}}


def describe_predict(service: Service) -> dict[str, Any]:
    """Return the description of `/predict`, with the columns of the model in force and rows to try."""
    engine = service.follow()
    schema, text = engine.reader.make_schema(), "A row has all columns; null is a missing value."
    if engine.main_rows is not None:
        schema = {"anyOf": [schema, engine.main_rows.make_schema()]}
        text += " Rows may also be those of the main table, which are joined as in training."
    body = describe_body(schema, {"rows": engine.load_example()[:1]})
    return {
        "summary": "Predict rows",
        "description": f"{text} Times are ISO 8601, UTC without a zone.",
        "operationId": "predict",
        "requestBody": body,
        "responses": {"200": {"description": "id of the request, predictions in the order of the rows, model"},
                      **describe_refusals(400, 413, 415, 422)},
    }  # fmt: skip


def describe_explain(service: Service) -> dict[str, Any]:
    """Return the description of `/explain`, whose requests are those of `/predict` with fewer rows."""
    described = describe_predict(service)
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    for form in schema.get("anyOf", [schema]):
        form["properties"]["rows"]["maxItems"] = MOST_ROWS
    return {
        **described,
        "summary": "Explain predictions by the contribution of each column",
        "operationId": "explain",
        "responses": {
            "200": {"description": ANSWER},
            **describe_refusals(400, 415, 422),
            "409": {"description": "the release has no background rows"},
            "413": {"description": f"more than {MOST_ROWS} rows, or too many bytes"},
            "429": {"description": "too many requests wait to be explained"},
        },
    }


def describe_invocation() -> dict[str, Any]:
    """Return the description of the body of `/invocations`, one of MLflow's forms."""
    rows = {"type": "array", "items": {"type": "object"}, "minItems": 1}
    split = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": {"type": "string"}},
            "data": {"type": "array", "items": {"type": "array"}},
        },
        "required": ["columns", "data"],
    }
    by_form = {"dataframe_split": split, "dataframe_records": rows, "instances": rows, "inputs": {}}
    forms = [
        {"type": "object", "properties": {name: by_form[name], "params": {}}, "required": [name]} for name in FORMS
    ]
    content = {"application/json": {"schema": {"anyOf": forms}}, "text/csv": {"schema": {"type": "string"}}}
    return {"required": True, "content": content}


def describe_refusals(*statuses: int) -> dict[str, Any]:
    """Return the responses to requests that are refused."""
    meanings = {
        400: "the body cannot be read, or a row is not as the model takes it",
        404: "the model joins no such table",
        413: "too many rows or bytes",
        415: "another content type, or a compressed body",
        422: "what is wrong, by row and column",
    }
    return {str(status): {"description": meanings[status]} for status in statuses}

"""All paths of the service but `/predict`, as a FastAPI application."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from fastapi_offline.core import _STATIC_PATH as SWAGGER_DIR

from labkit.serving.app import Service, check_json, get_header, read_body
from labkit.serving.canary import KEY_HEADER
from labkit.serving.challenger_state import describe_state, load_state
from labkit.serving.explanations import Explainer
from labkit.serving.invocations import read_invocation
from labkit.serving.metrics_text import make_metrics_text
from labkit.serving.openapi import describe_body, describe_invocation, describe_paths, describe_refusals, summarize
from labkit.serving.requests import Fault, RequestError, refuse_body
from labkit.storage.append import append_line

PAGE_DIR = Path(__file__).parent / "page"
PAGE_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:"
DOCS_POLICY = PAGE_POLICY.replace("-src 'self';", "-src 'self' 'unsafe-inline';")
"""The page of the interface starts its script, and sets styles, within the document."""
SAFE = {"x-content-type-options": "nosniff", "x-frame-options": "DENY", "referrer-policy": "no-referrer"}
MOST_FEEDBACK = 10_000
FEEDBACK_FORM = '{"values": [{"id": "…", "true": …}]}, at most ' + f"{MOST_FEEDBACK:,} values"
TEXT = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class TrueValue(msgspec.Struct, forbid_unknown_fields=True, rename={"value": "true"}):
    """The true value of a row that was predicted."""

    id: TEXT
    value: bool | float | Annotated[str, msgspec.Meta(max_length=1000)]


class Feedback(msgspec.Struct, forbid_unknown_fields=True):
    """True values that became known."""

    values: Annotated[list[TrueValue], msgspec.Meta(min_length=1, max_length=MOST_FEEDBACK)]


@dataclass(frozen=True)
class Routes:
    """The handlers; see `make_routes`."""

    service: Service
    explainer: Explainer

    async def show_page(self) -> Response:
        """Page on which to try the model."""
        content = (PAGE_DIR / "index.html").read_bytes()
        headers = {"content-security-policy": PAGE_POLICY, **SAFE}
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)

    async def show_docs(self) -> Response:
        """Interactive documentation of the interface."""
        page = get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=f"{self.service.engine.facts['experiment']}: interface",
            swagger_js_url="/swagger/swagger-ui-bundle.js",
            swagger_css_url="/swagger/swagger-ui.css",
            swagger_favicon_url="/swagger/favicon.png",
        )
        page.headers.update({"content-security-policy": DOCS_POLICY, **SAFE})
        return page

    async def ping(self) -> Response:
        """Answer whether a model is loaded: 200, or 503 while the service stops."""
        return Response(status_code=503 if self.service.is_stopping else 200)

    async def show_health(self, request: Request) -> Response:
        """Whether the service is alive and ready, which model is in force, and whether predictions are logged.

        What names columns or tables is null without the token of the service.
        """
        is_known = self.service.access.has_token(dict(request.scope["headers"]))
        counts = self.service.board.sum_counts()
        ready = not self.service.is_stopping
        log = (
            None
            if self.service.log is None
            else {name: counts[f"log_{name}"] for name in ("rows", "dropped", "failures")}
        )
        engine = self.service.follow()
        tables = (engine.fed.describe() if engine.fed else {}) if is_known else None
        outcomes = engine.outcomes.describe() if engine.outcomes is not None and is_known else None
        content = {"live": True, "ready": ready, "model": engine.describe(), "log": log, "tables": tables}
        content["outcomes"] = outcomes
        if (challenger := describe_state(self.service.settings, counts)) is not None:
            content["challenger"] = challenger if is_known else {**challenger, "reason": None}
        return JSONResponse(content, status_code=200 if ready else 503)

    async def show_version(self) -> dict[str, Any]:
        """Which model answers."""
        return self.service.follow().describe()

    async def show_model(self) -> dict[str, Any]:
        """What the model takes and returns, how good it was on the holdout, and its card."""
        engine = self.service.follow()
        told = ("task", "target", "classes", "positive", "threshold", "metric", "metrics", "estimator")
        main, meanings = engine.main_rows, engine.facts.get("meanings", {})
        columns = {
            "columns": engine.reader.describe_columns(meanings),
            "main_table_columns": None if main is None else main.reader.describe_columns(meanings),
            "joined_tables": {name: one.describe_columns({}) for name, one in engine.fed.readers.items()}
            if engine.fed
            else {},
        }
        facts = {name: engine.facts[name] for name in told if name in engine.facts}
        known: dict[str, Any] = {"is_explained": engine.background is not None}
        known |= {name: engine.facts[name] for name in ("question", "labels", "determined") if engine.facts.get(name)}
        if engine.facts["target"] in meanings:
            known["target_meaning"] = meanings[engine.facts["target"]]
        told_too = {**facts, **known, **columns, "example": engine.load_example()}
        return {**engine.describe(), **told_too, "card": engine.card}

    async def show_metrics(self) -> Response:
        """Counts of all workers for Prometheus."""
        content = make_metrics_text(self.service.board, self.service.follow(), load_state(self.service.settings))
        return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def invoke(self, request: Request) -> Response:
        """Predict in MLflow's protocol."""
        engine = self.service.follow()
        body = await read_body(request.scope, request.receive, most_bytes=self.service.settings.most_body_bytes)
        kind = request.headers.get("content-type", "")
        rows = await self.service.read(engine, lambda body: read_invocation(body, kind, engine), body)
        key = get_header(request.scope, KEY_HEADER)
        return Response(await self.service.answer(engine, rows, key=key), media_type="application/json")

    async def explain(self, request: Request) -> Response:
        """Explain predictions by the contribution of each column."""
        check_json(request.scope)
        body = await read_body(request.scope, request.receive, most_bytes=self.service.settings.most_body_bytes)
        engine = self.service.follow()
        rows = await self.service.read(engine, engine.read, body)
        return Response(await self.explainer.answer(engine, rows), media_type="application/json")

    async def take_feedback(self, request: Request) -> dict[str, int]:
        """Record true values by the ids of predicted rows; they are on disk when the response is sent."""
        check_json(request.scope)
        body = await read_body(request.scope, request.receive, most_bytes=self.service.settings.most_body_bytes)
        try:
            found = msgspec.json.decode(body, type=Feedback)
        except (ValueError, RecursionError) as error:
            raise refuse_body(error, FEEDBACK_FORM) from error
        now = time.time()
        lines = [msgspec.json.encode({"id": one.id, "true": one.value, "time": now}).decode() for one in found.values]
        append_line(Path(self.service.settings.feedback_path), "\n".join(lines), mode=0o600)
        self.service.counter.add("feedback", len(lines))
        return {"recorded": len(lines)}

    async def take_rows(self, table: str, request: Request) -> dict[str, int]:
        """Record rows of a joined table; they are on disk when the response is sent, and joined from then on."""
        check_json(request.scope)
        body = await read_body(request.scope, request.receive, most_bytes=self.service.settings.most_body_bytes)
        fed = self.service.follow().fed
        if fed is None:
            raise RequestError(404, Fault("the model joins no tables"))
        return await asyncio.to_thread(fed.add, table, body)

    async def take_outcomes(self, request: Request) -> dict[str, int]:
        """Record outcomes, which count in histories from the moment they were known; they are on disk in the end."""
        check_json(request.scope)
        body = await read_body(request.scope, request.receive, most_bytes=self.service.settings.most_body_bytes)
        outcomes = self.service.follow().outcomes
        if outcomes is None:
            raise RequestError(404, Fault("the model has no histories, so it counts no outcomes"))
        return await asyncio.to_thread(outcomes.add, body)


def make_routes(service: Service) -> FastAPI:
    """Return the FastAPI application for a service."""
    routes, name = Routes(service, Explainer(service)), service.engine.facts["experiment"]
    app = FastAPI(
        title=f"{name}: predictions", version=str(service.engine.version), docs_url=None, redoc_url=None,
        openapi_url="/openapi.json",
    )  # fmt: skip
    app.get("/", include_in_schema=False)(routes.show_page)
    app.get("/docs", include_in_schema=False)(routes.show_docs)
    app.mount("/page", StaticFiles(directory=PAGE_DIR))
    app.mount("/swagger", StaticFiles(directory=SWAGGER_DIR))
    handlers: dict[str, Callable[..., Any]] = {
        "/ping": routes.ping, "/health": routes.show_health, "/version": routes.show_version,
        "/model": routes.show_model, "/metrics": routes.show_metrics,
    }  # fmt: skip
    for path, handler in handlers.items():
        kind = {"/ping": Response, "/metrics": PlainTextResponse}.get(path, JSONResponse)
        app.get(path, summary=summarize(handler), response_class=kind)(handler)
    invocation = {"requestBody": describe_invocation(), "responses": describe_refusals(400, 413, 415)}
    app.post("/invocations", summary=summarize(routes.invoke), openapi_extra=invocation)(routes.invoke)
    app.post("/explain")(routes.explain)
    feedback = {
        "requestBody": describe_body(msgspec.json.schema(Feedback), None),
        "responses": describe_refusals(400, 413, 415, 422),
    }
    app.post("/feedback", summary=summarize(routes.take_feedback), openapi_extra=feedback)(routes.take_feedback)

    refused = {"responses": describe_refusals(400, 404, 413, 415, 422)}
    app.post("/tables/{table}", summary=summarize(routes.take_rows), openapi_extra=refused)(routes.take_rows)
    app.post("/outcomes", summary=summarize(routes.take_outcomes), openapi_extra=refused)(routes.take_outcomes)

    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: Exception) -> Response:
        """Answer with what is wrong with the request."""
        refusal = error if isinstance(error, RequestError) else RequestError(400, Fault("refused"))
        return JSONResponse(refusal.to_dict(), status_code=refusal.status)

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def refuse_plainly(request: Request, error: Exception) -> Response:
        """Answer 404 and 405 in the form of all other refusals."""
        status = getattr(error, "status_code", 404)
        text = "no such path: see /docs" if status == 404 else "this path takes another method: see /docs"
        return JSONResponse(RequestError(status, Fault(text)).to_dict(), status_code=status)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        """Answer without a traceback; the server's log has it."""
        return JSONResponse({"error": "the service failed; its log says why"}, status_code=500)

    plain = app.openapi

    def describe() -> dict[str, Any]:
        """Return the OpenAPI document of the model in force."""
        document = {**plain()}
        document["paths"] = describe_paths(document["paths"], service)
        return document

    app.openapi = describe  # type: ignore[method-assign]
    return app

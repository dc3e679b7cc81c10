"""Answers to `/explain`: why rows are predicted as they are.

An explanation takes about a thousand predictions. So the rows of a request are few, a worker explains those of one
request at a time, in a thread beside the predictions, and only a few requests may wait.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from labkit.errors import DataError
from labkit.model.explanation.shapley import Explanation
from labkit.serving.app import Service
from labkit.serving.engine import Engine
from labkit.serving.requests import Fault, RequestError

MOST_ROWS = 20
"""Maximum number of rows in one request."""
MOST_WAITING = 8
"""Maximum number of requests that a worker explains or lets wait."""
NO_BACKGROUND = (
    "this release cannot be explained, it has no background rows: run the stage `deploy` again with "
    "`deploy.background_rows` above 0, and promote the version that it makes"
)
ANSWER = (
    "id, which no log has; model as in the response to /predict; scale; background_rows and orders, how many were "
    "used; determined, if there are any, groups of columns that follow from each other: they are replaced one by "
    "one, so only the sum of their contributions means something; and for each row the base value (mean prediction of "
    "the background rows), the prediction, the contribution of each column, which with the base value add up to the "
    "prediction, and their standard errors. For classes, class names the one whose probability is explained: the class "
    "of interest or, without one, the most probable class"
)
"""What the response holds, for the document of the interface."""


class Explainer:
    """Explains the rows of requests, one request at a time."""

    def __init__(self, service: Service) -> None:
        self.service, self.turn, self.n_waiting = service, asyncio.Lock(), 0

    async def answer(self, engine: Engine, rows: Sequence[Any]) -> bytes:
        """Explain rows and return the response.

        Raises
        ------
        RequestError
            409 if the release has no background, 413 if there are too many rows, 422 if a value cannot be used, 429 if
            too many requests wait already.
        """
        if engine.background is None:
            raise RequestError(409, Fault(NO_BACKGROUND))
        if len(rows) > MOST_ROWS:
            raise RequestError(413, Fault(f"{len(rows):,} rows: send at most {MOST_ROWS} to be explained"))
        if self.n_waiting >= MOST_WAITING:
            raise RequestError(429, Fault("too many requests to explain at once: send it again in a second"))
        self.n_waiting += 1
        try:
            async with self.turn:
                columns = engine.reader.make_columns(rows)
                found = await asyncio.to_thread(engine.explain, columns, engine.background)
        except DataError as error:
            raise RequestError(422, Fault(str(error))) from error
        finally:
            self.n_waiting -= 1
        self.service.counter.add("explained", len(rows))
        return self.service.encoder.encode(name_explanations(engine, found))


def name_explanations(engine: Engine, found: Sequence[Explanation]) -> dict[str, Any]:
    """Return explanations as the response holds them."""
    return {
        "id": os.urandom(10).hex(),
        "model": engine.describe(),
        "scale": "probability" if engine.facts.get("classes") else engine.facts.get("target"),
        "background_rows": found[0].n_background,
        "orders": found[0].n_orders,
        **{name: engine.facts[name] for name in ("determined",) if engine.facts.get(name)},
        "explanations": [engine.name_explanation(one) for one in found],
    }

"""The section `features`: what is computed from each row."""

from typing import Annotated, Literal

from pydantic import Field

from labkit.params.section import Column, ImportPath, Name, Section, UsedBy

USED = UsedBy(("features", "evaluation", "deploy"))
"""The stages that import the user's own features, or compute them from raw columns."""


class DateParts(Section):
    """Parts of one time column, in its time zone."""

    zone: str = Field("UTC", description="time zone, e.g. America/New_York")
    parts: tuple[Literal["minute", "hour", "weekday", "day", "month", "day_of_year", "week"], ...] = Field(
        ("hour", "weekday", "month"), min_length=1, description="parts that become features"
    )


class History(Section):
    """Recent rate or mean of the outcome per key, from outcomes known at `predict_at`."""

    keys: tuple[Column, ...] = Field((), description="columns whose equal values share a history; empty: all rows")
    days: tuple[int, ...] = Field((7, 28), min_length=1, description="lengths of the trailing windows, in days")


class Text(Section):
    """A column of free text: its words become features, weighted by their rarity (TF-IDF)."""

    most_words: int = Field(100, ge=1, le=500, description="words that become features, the most frequent ones")
    fewest_rows: int = Field(5, ge=1, description="training rows a word needs to be kept")


class Transformer(Section):
    """A scikit-learn transformer that is fitted to some columns of the training rows, without the target."""

    path: Annotated[ImportPath, USED] = Field(description="its class, as module:name")
    columns: tuple[Column, ...] = Field(min_length=1, description="columns that it takes")
    names: tuple[Name, ...] = Field(min_length=1, description="names of the columns that it gives, in order")
    options: dict[str, bool | int | float | str | None] = Field({}, description="arguments that it is made with")


class Features(Section):
    """Columns computed from one row alone."""

    expressions: dict[Name, str] = Field({}, description="new column: expression over raw columns")
    functions: Annotated[dict[Name, ImportPath], USED] = Field(
        {}, description="new column: function that computes it from the columns that its parameters name"
    )
    transformers: dict[Name, Transformer] = Field(
        {}, description="name: scikit-learn transformer that is fitted to training rows"
    )
    dates: dict[Column, DateParts] = Field({}, description="time column: its parts that become features")
    history: dict[Name, History] = Field({}, description="name: rates of known outcomes per key, over trailing windows")
    text: dict[Column, Text] = Field({}, description="column of free text: how many of its words become features")
    interactions: tuple[tuple[Column, Column], ...] = Field(
        (), description="pairs of columns: products of numbers, or both categories as one"
    )
    drop: tuple[Column, ...] = Field((), description="columns that are not given to the model")
    categories: dict[Column, Annotated[int, Field(ge=2, le=1000)]] = Field(
        {}, description="column: categories kept of it; more than 50 are encoded by their mean target"
    )
    most_categories: int = Field(30, ge=2, le=1000, description="categories kept per column; rarer ones become `other`")
    fewest_rows: int = Field(5, ge=1, description="training rows a category needs to be kept")

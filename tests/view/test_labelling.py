"""The widget for labels: each answer is on disk before the next row shows, and nothing of a row is taken for code."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from labkit.data.labels.judgements import read_judgements
from labkit.data.labels.queue import make_queue
from labkit.errors import ParamsError
from labkit.view.labelling import LabelWidget, RowView, label_rows, make_image

ROWS = pd.DataFrame(
    {"id": ["a", "b", "c"], "review": ["<b>good</b>", "bad & ugly", "so so"], "stars": [5.0, None, 3.25]}
)
NAMES: dict[str, Any] = {"source": "new.csv:id", "annotator": "ana"}
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "params").mkdir()
    monkeypatch.setenv("LABKIT_ROOT", str(tmp_path))
    return tmp_path


@pytest.fixture
def widget(root: Path) -> Iterator[LabelWidget]:
    queue = make_queue(ROWS["id"], n_rows=3, seed=0)
    found = LabelWidget("e", queue, RowView(ROWS, text="review"), choices=["good", "bad"], model_version=2, **NAMES)
    yield found
    found.close()


def press(widget: LabelWidget, key: str, row: str | None = None) -> None:
    widget.receive(None, {"press": key, "key": widget.item["key"] if row is None else row}, [])


def list_stored() -> list[tuple[str, str | None]]:
    return [(one.key, one.label) for one in read_judgements("e").list_current()]


def test_answers_are_stored_one_by_one_and_can_be_taken_back(widget: LabelWidget) -> None:
    order = widget.queue["key"].tolist()
    assert widget.item["key"] == order[0]
    press(widget, "2")
    assert list_stored() == [(order[0], "bad")]
    # A second press that comes before the next row shows still names the row before, and is ignored.
    press(widget, "2", row=order[0])
    assert len(list_stored()) == 1
    assert widget.item["state"] == "1 of 3 done"
    press(widget, "s")
    press(widget, "z")
    press(widget, "z")
    assert widget.item["key"] == order[0]
    assert list_stored() == []
    for key in ("x", "3", "0", "Enter", "1"):
        press(widget, key)
    press(widget, "1")
    press(widget, "s")
    assert list_stored() == [(order[0], "good"), (order[1], "good"), (order[2], None)]
    assert widget.item["html"] == "<p>The queue is done.</p>"
    press(widget, "1")
    assert len(list_stored()) == 3
    first = read_judgements("e").list_current()[0]
    assert (first.drawn, first.model_version) == ("random", 2)
    assert first.seconds is not None


def test_answer_that_cannot_be_stored_keeps_its_row(root: Path, widget: LabelWidget) -> None:
    (root / "data").write_text("a file where a folder belongs")
    before = widget.item["key"]
    press(widget, "1")
    assert widget.item["key"] == before
    assert widget.item["state"].startswith("not stored: ")


def test_row_that_cannot_be_shown_is_not_labelled(root: Path) -> None:
    rows = pd.DataFrame({"id": ["a", "b", "c"], "image": ["x.png", "y" * 300 + ".png", "z\0.png"]})
    queue = pd.DataFrame({"key": rows["id"], "drawn": "random"})
    widget = LabelWidget("e", queue, RowView(rows, image="image"), choices=["good", "bad"], **NAMES)
    press(widget, "1")
    assert widget.item["key"] == "b"
    assert widget.item["html"].startswith("<p>This row cannot be shown: OSError: ")
    press(widget, "1")
    press(widget, "s")
    press(widget, "1")
    assert list_stored() == [("a", "good"), ("b", None)]
    # Even if the page shows another row than the one that is asked about, no label is stored.
    widget.item = widget.item | {"key": "a"}
    press(widget, "s")
    assert len(list_stored()) == 2
    widget.close()
    lists = RowView(pd.DataFrame({"id": [123456789], "values": [[1.0, 2.0]], "text": [None]}), text="text").make_html(0)
    assert "<td>[1.0, 2.0]</td>" in lists
    assert "<blockquote>–</blockquote>" in lists
    assert "<td>123456789</td>" in RowView(pd.DataFrame({"id": [123456789], "x": [1.5]})).make_html(0)


def test_rows_labelled_elsewhere_are_skipped_and_stay_labelled(root: Path, widget: LabelWidget) -> None:
    order = widget.queue["key"].tolist()
    other = LabelWidget("e", widget.queue, widget.row_view, choices=["good", "bad"], **NAMES)
    press(widget, "1")
    press(other, "2")
    assert list_stored() == [(order[0], "good")]
    press(other, "z")
    assert list_stored() == [(order[0], "good")]
    assert other.item["key"] == order[1]
    press(other, "2")
    again = LabelWidget("e", widget.queue, widget.row_view, choices=["good", "bad"], **NAMES)
    assert again.item["key"] == order[2]
    for one in (other, again):
        one.close()
    with pytest.raises(ParamsError, match="under which labels accepted in bulk are stored"):
        LabelWidget("e", widget.queue, widget.row_view, choices=["a", "b"], **NAMES | {"annotator": "model"})


def test_rows_are_shown_as_text_and_images_only_from_the_checkout(root: Path) -> None:
    html = RowView(ROWS, text="review").make_html(0)
    assert "<blockquote>&lt;b&gt;good&lt;/b&gt;</blockquote>" in html
    assert "<th scope='row'>stars</th><td>5</td>" in html
    assert "<td>–</td>" in RowView(ROWS).make_html(1)
    (root / "pixel.png").write_bytes(PIXEL)
    assert make_image("pixel.png").startswith("<img alt='pixel.png' src='data:image/png;base64,")
    (root.parent / "outside.png").write_bytes(PIXEL)
    for name in ("../outside.png", "dvc.yaml", "none.png", "<b>"):
        assert make_image(name).startswith("<p>No image ")
    with pytest.raises(ParamsError, match="no column 'txt' to show: the rows have id, review, stars"):
        RowView(ROWS, text="txt")


def test_batch_run_shows_the_first_rows_instead(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkit.paths.get_run_dir", lambda: root)
    queue, view = make_queue(ROWS["id"], n_rows=2, seed=0), RowView(ROWS, text="review")
    shown = label_rows("e", queue, view, choices=["good", "bad"], **NAMES).data
    assert shown.startswith("<p>First 2 of 2 rows; labels to choose from: good, bad.</p>")
    for choices in (["good"], ["good", "good"], list("0123456789")):
        with pytest.raises(ParamsError, match="where 2 to 9 different ones fit on the keys"):
            label_rows("e", queue, view, choices=choices, **NAMES)

"""The widget for labels: each answer is on disk before the next row shows, and nothing of a row is taken for code."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from labkit.data.labels.judgements import read_judgements
from labkit.data.labels.queue import make_queue
from labkit.errors import ParamsError
from labkit.view.labelling import LabelWidget, RowView, label_rows, make_image

ROWS = pd.DataFrame(
    {"id": ["a", "b", "c"], "review": ["<b>good</b>", "bad & ugly", "so so"], "stars": [5.0, None, 3.25]}
)
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
    found = LabelWidget(
        "e", queue, RowView(ROWS, text="review"), choices=["good", "bad"], annotator="ana", model_version=2
    )
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
    shown = label_rows("e", queue, view, choices=["good", "bad"], annotator="ana").data
    assert shown.startswith("<p>First 2 of 2 rows; labels to choose from: good, bad.</p>")
    for choices in (["good"], ["good", "good"], list("0123456789")):
        with pytest.raises(ParamsError, match="where 2 to 9 different ones fit on the keys"):
            label_rows("e", queue, view, choices=choices, annotator="ana")

import base64
import io
import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from IPython.utils.capture import capture_output
from labkit.view import style
from PIL import Image

FACT = "The third is twice the first."


def plot() -> style.Figure:
    return style.plot_bars({"a": 1, "b": 1.5, "c": 2}, title="Three bars", fact=FACT, unit="kg", highlight=["c"])


def test_same_figure_gives_same_bytes() -> None:
    assert style.save_png(plot()) == style.save_png(plot())


def test_shown_figure_carries_its_text_and_size() -> None:
    with capture_output() as captured:
        style.show(plot())
    (output,) = captured.outputs
    metadata = output.metadata["image/png"]
    assert metadata["alt"] == f"Bar chart: Three bars. {FACT}"
    picture = Image.open(io.BytesIO(base64.b64decode(output.data["image/png"])))
    assert picture.size == (metadata["width"] * style.SHARPNESS, metadata["height"] * style.SHARPNESS)


def test_string_can_be_replaced() -> None:
    with capture_output() as captured:
        style.show(plot(), alt="Bars that grow.")
    assert captured.outputs[0].metadata["image/png"]["alt"] == "Bars that grow."


def test_background_is_white_and_text_is_inside() -> None:
    pixels = np.asarray(Image.open(io.BytesIO(style.save_png(plot()))).convert("L"))
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    assert (edges == 255).all()
    assert pixels.min() < 80


def test_long_titles_and_facts_stay_inside() -> None:
    figure = style.plot_bars({"a": 1}, title="a long title " * 9, fact="a long fact " * 20, unit="kg")
    pixels = np.asarray(Image.open(io.BytesIO(style.save_png(figure))).convert("L"))
    assert (pixels[:, -4:] == 255).all()


def test_drawing_leaves_the_users_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = style.save_png(plot())
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "black")
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 30.0)
    monkeypatch.setitem(matplotlib.rcParams, "patch.force_edgecolor", True)
    assert style.save_png(plot()) == expected
    assert matplotlib.rcParams["axes.facecolor"] == "black"


def test_importing_draws_in_no_other_library_and_no_pyplot() -> None:
    code = "import sys, labkit.view.model_plots, labkit.view.data_plots, labkit.view.widgets; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib.pyplot", "seaborn"} & set(done.stdout.split())


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours as WCAG 2.2 defines it, 1 to 21."""

    def brightness(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    dark, light = sorted([brightness(first), brightness(second)])
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("colour", "least"), [(style.INK, 7), (style.MUTED, 4.5), (style.BLUE, 3), (style.ORANGE, 3)])
def test_text_and_marks_stand_out_from_white(colour: str, least: float) -> None:
    assert contrast(colour, "#ffffff") >= least


def test_large_numbers_are_written_in_full_and_small_ones_left_alone() -> None:
    with style.style():
        figure, (axes,) = style.make_figure("Prices", "All of them.", form="Line chart", height=2)
        axes.plot([0, 4_000_000], [0.1, 0.9])
    style.save_png(figure)
    assert "1,500,000" in [label.get_text() for label in axes.get_xticklabels()]
    assert axes.xaxis.get_offset_text().get_text() == ""
    assert "0.4" in [label.get_text() for label in axes.get_yticklabels()]

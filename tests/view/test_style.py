import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from bs4 import BeautifulSoup
from IPython.utils.capture import capture_output
from labkit.view import bins, style, svg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

FACT = "The third is twice the first."


def plot() -> style.Figure:
    return style.plot_bars({"a": 1, "b": 1.5, "c": 2}, title="Three bars", fact=FACT, unit="kg", highlight=["c"])


def test_same_figure_gives_same_bytes() -> None:
    assert style.save_svg(plot()) == style.save_svg(plot())


def test_shown_figure_carries_its_text_and_size() -> None:
    with capture_output() as captured:
        style.show(plot())
    (output,) = captured.outputs
    shown = BeautifulSoup(output.data["text/html"], "html.parser")
    assert shown.figcaption is not None
    assert shown.img is not None
    assert shown.table is not None
    assert shown.figcaption.get_text(" ") == f"Three bars {FACT}"
    assert shown.img["alt"] == f"Bar chart: Three bars. {FACT}"
    assert (shown.img["width"], shown.img["height"]) == ("700", "165")
    assert [cell.get_text() for cell in shown.table.find_all("td")] == ["a", "1.00", "b", "1.50", "c", "2.00"]
    assert shown.summary is not None
    assert shown.summary.get_text() == "Data (3 lines)"


def test_string_can_be_replaced() -> None:
    with capture_output() as captured:
        style.show(plot(), alt="Bars that grow.")
    assert '<img alt="Bars that grow."' in captured.outputs[0].data["text/html"]


def test_drawing_leaves_the_users_settings_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = style.save_svg(plot())
    monkeypatch.setitem(matplotlib.rcParams, "axes.facecolor", "black")
    monkeypatch.setitem(matplotlib.rcParams, "font.size", 30.0)
    monkeypatch.setitem(matplotlib.rcParams, "patch.force_edgecolor", True)
    assert style.save_svg(plot()) == expected
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


@pytest.mark.parametrize("theme", [svg.LIGHT, svg.DARK], ids=["light", "dark"])
def test_text_and_marks_stand_out_from_either_ground(theme: dict[str, str]) -> None:
    for colour, least in ((style.INK, 7), (style.MUTED, 4.5)):
        assert contrast(theme[colour], theme[style.GROUND]) >= least
    for colour in (*style.PALETTE, style.GREY, style.CLOUD):
        assert contrast(colour, theme[style.GROUND]) >= 3, colour


@pytest.mark.parametrize("ground", style.PALETTE)
def test_text_stands_out_from_each_colour(ground: str) -> None:
    assert contrast(style.choose_ink(ground).replace("white", "#ffffff"), ground) >= 4.5


def test_note_is_a_sentence_and_no_picture() -> None:
    shown = style.render_figure(style.make_note("Missing values", "Nothing <b>is missing."))
    assert shown == "<p><strong>Missing values</strong><br>Nothing &lt;b&gt;is missing.</p>"


def test_whole_numbers_have_a_bar_each_and_no_empty_bins_between() -> None:
    hours = np.tile(np.arange(24.0), 50)
    assert set(np.histogram(hours, bins.make_bins(hours))[0]) == {50}
    assert set(np.histogram(hours, bins.find_edges(hours, 9))[0]) == {50}
    many = np.arange(1000.0)
    assert (np.diff(bins.find_edges(many, 24)) % 1 == 0).all()


def test_limits_are_drawn_and_keep_small_bars_small() -> None:
    (axes,) = style.plot_bars({"a": 0.01}, title="Drift", fact=FACT, unit="PSI", limits=(0.1, 0.25)).axes
    assert [line.get_xdata()[0] for line in axes.lines] == [0.1, 0.25]
    assert axes.get_xlim()[1] > 0.25


def test_legend_shows_lines_as_lines() -> None:
    figure = plot()
    style.add_legend(figure, {"a": style.BLUE, "b": style.ORANGE}, marks={"b": "o"})
    lines = [handle for handle in figure.legends[0].legend_handles if isinstance(handle, Line2D)]
    assert [(line.get_linestyle(), line.get_marker()) for line in lines] == [("-", "None"), ("None", "o")]


def test_large_numbers_are_written_in_full_and_small_ones_left_alone() -> None:
    with style.style():
        figure, (axes,) = style.make_figure("Prices", "All of them.", form="Line chart", height=2)
        axes.plot([0, 4_000_000], [0.1, 0.9])
    style.save_svg(figure)
    assert "1,500,000" in [label.get_text() for label in axes.get_xticklabels()]
    assert axes.xaxis.get_offset_text().get_text() == ""
    assert "0.4" in [label.get_text() for label in axes.get_yticklabels()]


@pytest.mark.parametrize("limits", [(0.743, 0.746), (0.0, 1.0), (1e6, 1e6 + 40)])
def test_neighbouring_ticks_have_different_labels(limits: tuple[float, float]) -> None:
    axes = Figure().add_subplot()
    axes.set_xlim(*limits)
    style.set_ticks(axes, 6)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert len(labels) > 3
    assert len({*labels}) == len(labels)

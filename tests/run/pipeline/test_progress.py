"""What a person at a terminal sees."""

import io

from labkit.run.pipeline.progress import Line, Progress
from rich.console import Console


def test_output_of_others_is_shown_as_it_is() -> None:
    """A column `x [kg]` or an error that names `[/data/in]` is no markup."""
    for is_terminal in (False, True):
        stream = io.StringIO()
        progress = Progress(Console(file=stream, width=120, force_terminal=is_terminal, color_system=None))
        progress.start_stage("eda")
        progress.start_cell(1, 2, "The column [/red] x [kg]")
        progress.end_stage("failed", "nothing in [/data/in], [red]x [kg]")
        progress.show_table("shop", [Line("eda", "failed", 1.0, "nothing in [/data/in], [red]x [kg]")])
        assert stream.getvalue().count("nothing in [/data/in], [red]x [kg]") == 2

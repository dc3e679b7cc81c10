"""Which notebooks belong to stages."""

from pathlib import Path

from labkit.run.notebook_files import list_notebooks


def test_notebook_of_number_zero_belongs_to_no_stage(params_root: Path) -> None:
    folder = params_root / "notebooks"
    folder.mkdir()
    for name in ("02_wrangling", "00_board", "000_old", "01_eda", "draft"):
        (folder / f"{name}.ipynb").touch()
    assert [path.stem for path in list_notebooks()] == ["01_eda", "02_wrangling"]

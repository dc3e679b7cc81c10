"""Messages and tracebacks of executed notebooks name no path of the machine."""

from pathlib import Path

import pytest
from labkit.run.notebook.local_paths import shorten_paths
from nbformat.v4 import new_code_cell, new_notebook, new_output


def test_messages_and_tracebacks_are_relative_to_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "check out"
    (root / "params").mkdir(parents=True)
    (root / "dvc.yaml").touch()
    monkeypatch.setenv("LABKIT_ROOT", str(root))
    warning = f"{root}/.venv/lib/python3.11/site-packages/a/b.py:5: UserWarning: see {root}/data/x.csv\n"
    outputs = [
        new_output("stream", name="stderr", text=warning),
        new_output("stream", name="stdout", text="/home/ada/.local/python/lib/python3.12/json/decoder.py:3\n"),
        new_output(
            "error", ename="E", evalue=f"no file {root}/data/x.csv", traceback=[f'File "{root}/lib/own/a.py", line 1']
        ),
        new_output("display_data", {"text/plain": f"{root}/shown"}),
    ]
    notebook = new_notebook(cells=[new_code_cell("1", outputs=outputs)])
    notebook.metadata["papermill"] = {"input_path": f"{root}/a.ipynb", "output_path": None}
    found = shorten_paths(notebook)
    first, second, third, last = found.cells[0].outputs
    assert first.text == ".venv/lib/python3.11/site-packages/a/b.py:5: UserWarning: see data/x.csv\n"
    assert second.text == "lib/python3.12/json/decoder.py:3\n"
    assert (third.evalue, third.traceback) == ("no file data/x.csv", ['File "lib/own/a.py", line 1'])
    assert last.data["text/plain"] == f"{root}/shown"
    assert found.metadata["papermill"] == {"input_path": "a.ipynb", "output_path": None}
    assert notebook.cells[0].outputs[0].text == warning, "the notebook that is given stays as it is"

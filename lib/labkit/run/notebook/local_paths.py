"""Paths of this machine in executed notebooks, shortened so that pages and kept notebooks read alike everywhere.

Warnings and tracebacks name files by their full path. Paths below the checkout become relative to it; of libraries,
Python's own modules and the code of cells, what follows the folder of the installation is kept.
"""

import copy
import os
import re
from pathlib import Path

from nbformat import NotebookNode

from labkit import paths
from labkit.errors import ParamsError

NAMED_BY_PAPERMILL = ("input_path", "output_path")
FOLDER = r"(?<![\w.:/])(?:/[^\s/\"'():\x1b]+)+/"
"""Beginning of an absolute path, up to and with a slash."""
INSTALLED = re.compile(rf"{FOLDER}(?=(?:site-packages|dist-packages|lib/python3\.\d+|ipykernel_\d+)/)")


def shorten_paths(notebook: NotebookNode) -> NotebookNode:
    """Return a copy of an executed notebook whose messages and tracebacks have no path of this machine.

    Results that a notebook shows on purpose, such as tables and plots, are left as they are.
    """
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = shorten_text(output.text)
            elif output.output_type == "error":
                output.evalue = shorten_text(output.evalue)
                output.traceback = [shorten_text(part) for part in output.traceback]
    named = notebook.metadata.get("papermill", {})
    named.update({key: shorten_text(named[key]) for key in NAMED_BY_PAPERMILL if isinstance(named.get(key), str)})
    return notebook


def shorten_text(text: str) -> str:
    """Return a text with the paths in it shortened.

    >>> shorten_text("/opt/env/lib/python3.11/site-packages/sklearn/base.py:5: FutureWarning: no effect")
    'site-packages/sklearn/base.py:5: FutureWarning: no effect'
    >>> shorten_text("/tmp/ipykernel_7/12.py:3: UserWarning: see https://example.org/site-packages/x")
    'ipykernel_7/12.py:3: UserWarning: see https://example.org/site-packages/x'
    """
    for root in list_roots():
        text = re.sub(rf"(?<![\w./]){re.escape(root)}/", "", text)
    return INSTALLED.sub("", text)


def list_roots() -> list[str]:
    """Return the folder of the checkout as it may be spelled: as given, without links, below the home directory."""
    try:
        root = paths.find_root()
    except ParamsError:
        return []
    spelled = [str(root), os.path.realpath(root)]
    home = str(Path.home())
    short = [f"~{one.removeprefix(home)}" for one in spelled if one.startswith(f"{home}{os.sep}")]
    return list(dict.fromkeys([*spelled, *short]))

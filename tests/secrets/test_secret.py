"""Secrets: shown by their name only, and kept out of everything that a run leaves behind."""

import base64
import copy
import html
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import labkit as package
import nbformat
import pytest
from labkit.errors import ParamsError, StageError
from labkit.run.notebook.executor import run_notebook
from labkit.run.notebook.source import read_source
from labkit.secrets.detection import check_files, find_secret
from labkit.secrets.redaction import Mask, mask
from labkit.secrets.secret import Secret, read_secrets

from tests.conftest import Labkit, call_in_process
from tests.run.notebook.small_notebooks import make_notebook
from tests.shop import list_files

URL = "postgresql://shop:s3cret<&'\"pw@db.example/shop"
TOKEN = "ghp_" + "0123456789abcdefghij" * 2


def test_secret_shows_its_name_wherever_it_is_shown() -> None:
    secret = Secret("warehouse", URL)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{[secret]}", secret._repr_html_()]
    assert {string.strip("[]") for string in shown} == {"secret warehouse"}
    assert f"{secret:>20}" == "  [secret warehouse]"
    assert secret.reveal() == URL
    assert secret == Secret("other", URL)
    assert secret != URL


@pytest.mark.parametrize("keep", [pickle.dumps, copy.deepcopy, json.dumps, vars])
def test_secret_does_not_get_into_files_by_itself(keep: Any) -> None:
    with pytest.raises(TypeError):
        keep(Secret("warehouse", URL))


FORMS = {
    "plain": URL,
    "repr": repr(URL),
    "json": json.dumps(URL),
    "html": html.escape(URL),
    "html of repr": html.escape(repr(URL)),
    "quoted": quote(URL),
    "quoted whole": quote(URL, safe=""),
    "base64": base64.b64encode(URL.encode()).decode(),
    "password": "the password s3cret<&'\"pw is wrong",
    "password, quoted": quote("s3cret<&'\"pw"),
    "coloured": URL[:5] + "\x1b[31m" + URL[5:20] + "\x1b[0m" + URL[20:],
}


@pytest.mark.parametrize("form", FORMS)
def test_mask_knows_every_form_of_a_secret(form: str) -> None:
    masked = mask(f"before {FORMS[form]} after", {"warehouse": URL})
    assert "[secret warehouse]" in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")
    assert "s3cret" not in masked
    assert "czNjcmV0" not in masked


def test_mask_takes_the_longest_and_every_line() -> None:
    key = "-----BEGIN THING-----\nfirst line of it\nsecond line of it"
    secrets = {"short": "abcdefgh", "long": "abcdefgh-ijkl", "key": key}
    assert mask("abcdefgh-ijkl abcdefgh", secrets) == "[secret long] [secret short]"
    assert mask("  second line of it", secrets) == "  [secret key]"
    assert mask("nothing", {}) == "nothing"


@pytest.mark.parametrize(
    ("string", "cleaned"),
    [
        ("key AKIAIOSFODNN7EXAMPLE.", "key [redacted]."),
        (f"token={TOKEN}", "token=[redacted]"),
        ("xoxb-1234567890-abcdef", "[redacted]"),
        ("github_pat_0123456789012345678901", "[redacted]"),
        ("a mysql://me:hidden@db/shop b", "a mysql://[redacted]@db/shop b"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----\nafter", "[redacted]\nafter"),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", "[redacted]\nMIIE"),
        ("http://127.0.0.1:8080/path?to=a@b.c", "http://127.0.0.1:8080/path?to=a@b.c"),
        ("iVBORw0KGgo/AKIAIOSFODNN7EXAMPLE+aaaa", "iVBORw0KGgo/AKIAIOSFODNN7EXAMPLE+aaaa"),
        ("see https://example.org/a:b@c", "see https://example.org/a:b@c"),
    ],
)
def test_known_forms_of_tokens_are_redacted(string: str, cleaned: str) -> None:
    cleaner = Mask()
    assert cleaner.clean(string) == cleaned
    assert bool(cleaner.describe_redacted()) == (string != cleaned)


def test_pictures_are_left_alone_and_types_stay() -> None:
    output = nbformat.v4.new_output(
        "display_data",
        {"image/png": TOKEN, "image/svg+xml": TOKEN, "text/plain": [TOKEN], "application/json": {"n": 3}},
    )
    cleaned = Mask().clean(output)
    assert type(cleaned) is type(output)
    assert cleaned.data == {
        "image/png": TOKEN,
        "image/svg+xml": "[redacted]",
        "text/plain": ["[redacted]"],
        "application/json": {"n": 3},
    }


@pytest.mark.parametrize(
    ("tree", "places"),
    [
        ({"api_key": "x"}, ["api_key"]),
        ({"a": {"db_password": "x"}}, ["a.db_password"]),
        ({"TOKEN": "x"}, ["TOKEN"]),
        ({"a": [{"client_secret": "x"}]}, ["a.0.client_secret"]),
        ({"a": ["b", TOKEN]}, ["a.1"]),
        ({TOKEN: 1}, [TOKEN]),
        ({"api_key": ""}, []),
        ({"api_key": 7}, []),
        ({"keys": "x", "monkey": "x", "tokenizer": "x", "secretary": "x"}, []),
    ],
)
def test_secrets_in_the_open_are_found(tree: dict[str, Any], places: list[str]) -> None:
    assert [".".join(keys) for keys in find_secret(tree)] == places


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "secrets.warehouse: the environment variable WAREHOUSE_URL is not set: export it first"),
        ("", "secrets.warehouse: the environment variable WAREHOUSE_URL is not set: export it first"),
        ("short", "WAREHOUSE_URL holds 5 characters: a secret needs at least 8"),
    ],
)
def test_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch, value: str | None, message: str) -> None:
    monkeypatch.delenv("WAREHOUSE_URL", raising=False)
    if value is not None:
        monkeypatch.setenv("WAREHOUSE_URL", value)
    with pytest.raises(ParamsError) as caught:
        read_secrets({"warehouse": "WAREHOUSE_URL"}, where="params/shop.yaml")
    assert str(caught.value).startswith("params/shop.yaml: ")
    assert message in str(caught.value)


def test_file_that_holds_a_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "choice.json").write_text(json.dumps({"url": URL}))
    with pytest.raises(StageError, match="model/choice.json holds the value of the secret warehouse"):
        check_files(tmp_path, {"warehouse": URL})
    check_files(tmp_path, {})
    check_files(tmp_path, {"other": "something else"})


LEAKS = [
    'url = os.environ["WAREHOUSE_URL"]',
    "print(url)",
    "print('error:', url, file=sys.stderr)",
    "url",
    "{'url': [url]}",
    "display(HTML(f'<b title=\"{html.escape(url)}\">{html.escape(url)}</b>'))",
    "display(JSON({'url': url}))",
    "display({'text/markdown': url, 'application/vnd.x+json': {url: [url]}}, raw=True, metadata={'alt': url})",
    "handle = display('nothing yet', display_id=True)",
    "handle.update(url)",
    "sys.stdout.write(url[:9]); sys.stdout.flush(); time.sleep(0.4); sys.stdout.write(url[9:20]); sys.stdout.flush()\n"
    "print('between', file=sys.stderr); sys.stderr.flush(); time.sleep(0.4); print(url[20:])",
    "os.write(1, url.encode()); time.sleep(0.4)",
    "os.system('printenv WAREHOUSE_URL')",
    "warnings.warn(url)",
    "logging.warning(url)",
    "import pandas; pandas.DataFrame({'url': [url]}).style",
    "import ipywidgets; ipywidgets.Text(value=url)",
    "print(dict(os.environ))",
    f"print('a token nobody declared:', {'ghp_'!r} + {TOKEN[4:]!r})",
    "try:\n    raise KeyError(url)\nexcept KeyError as error:\n    sys.excepthook(*sys.exc_info())",
    "connect = lambda address: 1 / 0\nconnect(url)",
]
IMPORTS = "import html, logging, os, sys, time, warnings\nfrom IPython.display import HTML, JSON, display"


@pytest.mark.slow
def test_nothing_that_a_cell_puts_out_shows_the_secret(tmp_path: Path) -> None:
    raising = "class Refused(Exception): pass\nraise Refused(f'cannot reach {url}')"
    path = make_notebook(tmp_path / "a.ipynb", 'experiment = ""', IMPORTS, *LEAKS[:-1], raising)
    before = path.read_bytes()
    cleaner = Mask({"warehouse": URL})
    environment = {**os.environ, "WAREHOUSE_URL": URL}
    # With that a kernel would leave what subprocesses print to the terminal.
    environment.pop("PYTEST_CURRENT_TEST")
    executed = tmp_path / "executed.ipynb"
    ended = run_notebook(
        read_source(path),
        executed,
        parameters={"experiment": "shop"},
        environment=environment,
        on_cell=lambda *_: None,
        mask=cleaner,
    )
    assert ended.failure is not None
    assert ended.failure.error_message == "Refused: cannot reach [secret warehouse]"
    notebook = nbformat.read(executed, as_version=4)
    outputs = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    silent = [cell.source for cell in notebook.cells if cell.cell_type == "code" and not cell.outputs]
    assert [source.split()[0] for source in silent] == ["experiment", "#", "import", "url", "handle.update(url)"]
    assert json.dumps(outputs).count("[secret warehouse]") >= 20
    assert_without(executed.read_bytes())
    for printed in outputs:
        streams = [output.text for output in printed if output.output_type == "stream" and output.name == "stdout"]
        assert_without("".join(streams).encode())
    assert "[redacted]" in executed.read_text()
    assert (
        "that looked like a token or password by [redacted]: declare it under `secrets`" in cleaner.describe_redacted()
    )
    assert path.read_bytes() == before


def assert_without(content: bytes) -> None:
    """Assert that neither the secret nor the token nor a revealing part of them is there."""
    for form in [*FORMS.values(), URL[:20], "s3cret", TOKEN]:
        assert form.encode() not in content


def find_bytes(root: Path, *words: bytes) -> list[str]:
    """Return the files below a folder in which one of some words stands."""
    files: Iterator[Path] = (path for path in root.rglob("*") if path.is_file())
    return [str(path.relative_to(root)) for path in files if any(word in path.read_bytes() for word in words)]


SECRETS = "secrets: {warehouse: WAREHOUSE_URL}\n"
CELLS = """
import os, sys
url = step.secret("warehouse").reveal()
print(step.secret("warehouse"), url)
print("half of it:", url[:20], end=""); sys.stdout.flush(); print(url[20:])
step.log(**{f"rows {url}": 3})
step.log_child(f"candidate {url}", params={"address": url, url: 1}, metrics={f"mae {url}": 1})
print("ghp_" + "0123456789abcdefghij" * 2)
with open(os.environ["LABKIT_RUN_DIR"] + "/log.jsonl") as stream:
    assert bytes.fromhex("733363726574").decode() not in stream.read()
"""


def add_cells(root: Path, end: str) -> Path:
    """Let the exploration use the secret in many ways, and end in one more."""
    params = root / "params" / "diabetes.yaml"
    params.write_text(params.read_text() + SECRETS)
    path = root / "notebooks" / "01_eda.ipynb"
    notebook = nbformat.read(path, as_version=4)
    last = notebook.cells[-2]
    assert "step.finish(" in last.source
    last.source = CELLS + end + last.source
    nbformat.write(notebook, path)
    return path


@pytest.mark.slow
def test_whole_run_leaves_the_secret_nowhere(checkout: Path, labkit: Labkit) -> None:
    add_cells(checkout, 'step.finish(f"found {url}")\nstep.finish = lambda headline: None\n')
    done = labkit("run", "diabetes", "--until", "eda", WAREHOUSE_URL=URL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "found [secret warehouse]" in done.stdout
    assert "warning: eda: replaced 1 string that looked like a token or password by [redacted]" in done.stdout
    page = (checkout / "reports" / "diabetes" / "01_eda.html").read_text()
    assert "half of it: [secret warehouse]" in page
    assert "Replaced 1 string that looked like a token" in page
    assert_nowhere(checkout, done.stdout + done.stderr)
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{checkout / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("diabetes").experiment_id])
    assert {"candidate [secret warehouse]", "eda"} <= {run.info.run_name for run in runs}
    assert {"rows secret warehouse", "mae secret warehouse"} <= {key for run in runs for key in run.data.metrics}
    assert {"[secret warehouse]"} <= {value for run in runs for value in run.data.params.values()}

    path = checkout / "notebooks" / "01_eda.ipynb"
    path.write_text(path.read_text().replace("step.finish = lambda", "raise ValueError(url)\\n\\nstep.finish = lambda"))
    failed = labkit("run", "diabetes", "--until", "eda", WAREHOUSE_URL=URL)
    assert failed.returncode == 1
    assert "stage eda failed: ValueError: [secret warehouse]" in failed.stderr
    assert_nowhere(checkout, failed.stdout + failed.stderr)


def assert_nowhere(root: Path, printed: str) -> None:
    """Assert that no file of a checkout, and nothing printed, shows the secret."""
    assert "s3cret" not in printed
    words = [form.encode() for form in (URL, "s3cret", "czNjcmV0", quote("s3cret<&'\"pw"), TOKEN)]
    assert find_bytes(root, *words) == []


@pytest.mark.slow
def test_variable_is_asked_for_before_anything_starts(checkout: Path) -> None:
    add_cells(checkout, "")
    before = list_files(checkout)
    done = call_in_process(checkout, "run", "diabetes", WAREHOUSE_URL="")
    assert done.returncode == 2
    assert done.stderr == (
        "labkit: params/diabetes.yaml: secrets.warehouse: the environment variable WAREHOUSE_URL is not set: "
        "export it first\n"
    )
    assert list_files(checkout) == before
    assert call_in_process(checkout, "params", "diabetes", WAREHOUSE_URL="").returncode == 0


def test_notebook_by_hand_asks_its_step(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_cells(checkout, "")
    monkeypatch.setenv("WAREHOUSE_URL", URL)
    step = package.start("eda", "diabetes")
    assert step.secret("warehouse").reveal() == URL
    with pytest.raises(ParamsError, match="no secret 'warehous' under `secrets`: did you mean 'warehouse'"):
        step.secret("warehous")


@pytest.mark.slow
def test_error_of_a_stage_without_a_notebook_is_masked_too(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    from labkit.run.kernels.session import Kernels
    from labkit.run.pipeline.experiment_run import RunRequest
    from labkit.run.pipeline.progress import Progress
    from labkit.run.pipeline.sample_run import run_sample
    from rich.console import Console

    add_cells(checkout, "")
    monkeypatch.setenv("WAREHOUSE_URL", URL)

    def refuse(params: Any, sample_rows: int | None) -> str:
        raise OSError(f"cannot connect to {URL}")

    printed = StringIO()
    progress, kernels = Progress(Console(file=printed)), Kernels(is_cold=True)
    how: dict[str, Any] = {"plain": {"source": refuse}, "progress": progress, "kernels": kernels}
    with kernels, pytest.raises(StageError) as caught:
        run_sample("diabetes", rows=50, request=RunRequest(), **how)
    assert str(caught.value) == "cannot connect to [secret warehouse]"
    assert caught.value.__suppress_context__
    assert_nowhere(checkout, printed.getvalue())

"""A running service answers, logs, counts and refuses; it needs nothing from another machine."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from labkit.model.release import bundle
from labkit.serving import prediction_log
from labkit.serving.supervisor import Supervisor
from playwright.sync_api import Browser
from prometheus_client.parser import text_string_to_metric_families

from tests.model.tables import make_table
from tests.serving.running import Client, get_port, make_rows, start, wait_for, write_release

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("service")]
FRAME = make_table(30)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    folder = tmp_path_factory.mktemp("service")
    with start(folder, write_release(folder / "release")) as supervisor:
        yield supervisor


@pytest.fixture
def client(service: Supervisor) -> Client:
    return Client(get_port(service))


def test_predictions_are_those_of_the_release(service: Supervisor, client: Client) -> None:
    answer = client.predict(make_rows(FRAME))
    expected = bundle.load_release(service.folder.parent / "release").predict(FRAME)
    found = np.array([[row["no"], row["yes"]] for row in answer["probabilities"]])
    np.testing.assert_array_equal(found, expected)
    assert answer["predictions"] == ["yes" if row[1] >= 0.3 else "no" for row in expected]
    assert answer["threshold"] == 0.3
    assert answer["model"]["version"] == 1
    status, content = client.ask("/invocations", {"dataframe_records": make_rows(FRAME)})
    assert status == 200
    assert json.loads(content)["probabilities"] == answer["probabilities"]


def test_many_rows_do_not_hold_up_one(client: Client) -> None:
    many = client.predict(make_rows(FRAME) * 100)
    assert many["predictions"][:30] == client.predict(make_rows(FRAME))["predictions"]
    assert len(many["predictions"]) == 3000


def test_every_prediction_is_logged_and_feedback_joins_it(service: Supervisor, client: Client) -> None:
    rows = make_rows(FRAME)[:2]
    answer = client.predict(rows)
    folder = Path(str(service.settings.log_folder))

    def find() -> list[dict[str, object]]:
        return [line for line in prediction_log.iterate_lines(folder) if str(line["id"]).startswith(answer["id"])]

    wait_for(lambda: len(find()) == 2)
    first = find()[0]
    assert first["inputs"] == rows[0]
    assert (first["prediction"], first["probabilities"]) == (answer["predictions"][0], answer["probabilities"][0])
    assert (first["version"], first["threshold"]) == (1, 0.3)
    status, content = client.ask("/feedback", {"values": [{"id": f"{answer['id']}-0", "true": "yes"}]})
    assert (status, json.loads(content)) == (200, {"recorded": 1})
    reported = pd.read_json(Path(service.settings.feedback_path), lines=True)
    assert reported.iloc[-1][["id", "true"]].tolist() == [f"{answer['id']}-0", "yes"]
    logged = pd.concat([pd.read_json(path, lines=True) for path in folder.glob("*.jsonl")])
    assert logged.merge(reported, on="id")["true"].tolist() == ["yes"]


@pytest.mark.parametrize(
    ("path", "body", "headers", "method", "status"),
    [
        ("/predict", {"rows": []}, {}, None, 422),
        ("/predict", b"", {}, "POST", 400),
        ("/predict", b"{}", {"content-type": "text/plain"}, None, 415),
        ("/predict", b"{}", {"content-type": "application/json; charset=utf-7"}, None, 415),
        ("/predict", b"{}", {"content-encoding": "gzip"}, None, 415),
        ("/predict", b"x" * (17 * 1024 * 1024), {}, None, 413),
        ("/predict", b"{}", {"host": "evil.example"}, None, 421),
        ("/ping", b"{}", {"host": "10.0.3.17:8000"}, None, 405),
        ("/predict", b"{}", {"origin": "http://evil.example"}, None, 403),
        ("/predict", None, {}, "GET", 405),
        ("/predict", b"{}", {}, "DELETE", 405),
        ("/invocations", b"{}", {}, None, 400),
        ("/invocations", b"{}", {"content-type": "text/plain"}, None, 415),
        ("/explain", b"{}", {"content-type": "text/plain"}, None, 415),
        ("/explain", b"{", {}, None, 400),
        ("/explain", {"rows": [{"a b": 1}]}, {}, None, 422),
        ("/explain", {"rows": make_rows(FRAME)[:21]}, {}, None, 413),
        ("/explain", None, {}, "GET", 405),
        ("/feedback", {"values": [{"id": 1, "true": 1}]}, {}, None, 422),
        ("/feedback", {"values": []}, {}, None, 422),
        ("/nothing", None, {}, None, 404),
        ("/page/../worker.py", None, {}, None, 404),
        ("/health", b"{}", {}, None, 405),
    ],
)
def test_request_is_refused_in_one_form(
    service: Supervisor, path: str, body: object, headers: dict[str, str], method: str | None, status: int
) -> None:
    client = Client(get_port(service))
    try:
        found, content = client.ask(path, body, headers=headers, method=method)
    except (BrokenPipeError, ConnectionResetError):
        assert status == 413  # refused, and closed, before the client has sent everything
        return
    assert found == status
    refusal = json.loads(content)
    assert refusal["error"]
    assert "Traceback" not in content.decode()
    assert ".py" not in content.decode()


def test_health_version_model_and_metrics(client: Client) -> None:
    assert client.ask("/ping")[0] == 200
    health = json.loads(client.ask("/health")[1])
    assert (health["live"], health["ready"], health["model"]["version"]) == (True, True, 1)
    assert json.loads(client.ask("/version")[1])["experiment"] == "shop"
    model = json.loads(client.ask("/model")[1])
    assert model["card"] == "# Card"
    assert [column["name"] for column in model["columns"]] == list(FRAME)
    before = read_metrics(client)
    client.predict([{**row, "a_b": -6000.0} for row in make_rows(FRAME)[:7]])
    after = read_metrics(client)
    missing = int(FRAME[:7].isna().to_numpy().sum())
    assert after["labkit_rows_total"] - before["labkit_rows_total"] == 7
    assert after["labkit_values_outside_range_total"] - before["labkit_values_outside_range_total"] == 7
    assert after["labkit_missing_values_total"] - before["labkit_missing_values_total"] == missing
    assert after["labkit_request_seconds_count"] > before["labkit_request_seconds_count"]


def test_explanations_add_up_to_the_predictions(client: Client) -> None:
    rows, before = make_rows(FRAME)[:3], read_metrics(client)
    status, content = client.ask("/explain", {"rows": rows})
    assert status == 200, content
    answer, predicted = json.loads(content), client.predict(rows)["probabilities"]
    assert answer["scale"] == "probability"
    assert (answer["background_rows"], answer["orders"], answer["model"]["version"]) == (5, 10, 1)
    for found, expected in zip(answer["explanations"], predicted, strict=True):
        assert list(found["contributions"]) == list(found["standard_errors"]) == list(FRAME)
        assert found["class"] == "yes"
        assert found["prediction"] == pytest.approx(expected["yes"], abs=1e-6)
        assert found["base"] + sum(found["contributions"].values()) == pytest.approx(found["prediction"], abs=1e-9)
    assert read_metrics(client)["labkit_explained_rows_total"] - before["labkit_explained_rows_total"] == 3


def read_metrics(client: Client) -> dict[str, float]:
    families = text_string_to_metric_families(client.ask("/metrics")[1].decode())
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_interface_describes_the_columns_of_the_model(client: Client) -> None:
    document = json.loads(client.ask("/openapi.json")[1])
    body = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
    columns = body["schema"]["properties"]["rows"]["items"]["properties"]
    assert list(columns) == list(FRAME)
    assert columns["flag"]["anyOf"][0] == {"type": "boolean"}
    assert client.ask("/predict", body["example"])[0] == 200
    assert {"400", "413", "415", "422"} <= document["paths"]["/predict"]["post"]["responses"].keys()
    forms = document["paths"]["/invocations"]["post"]["requestBody"]["content"]
    assert forms.keys() == {"application/json", "text/csv"}
    found = {path: document["paths"][path]["get"]["responses"]["200"] for path in ("/ping", "/metrics")}
    assert [list(one.get("content", {})) for one in found.values()] == [[], ["text/plain"]]
    explained = document["paths"]["/explain"]["post"]
    described = explained["requestBody"]["content"]["application/json"]
    assert list(described["schema"]["properties"]["rows"]["items"]["properties"]) == list(FRAME)
    assert described["schema"]["properties"]["rows"]["maxItems"] == 20
    assert sorted(explained["responses"]) == ["200", "400", "409", "413", "415", "422", "429"]
    fed = document["paths"]["/tables/{table}"]["post"]["responses"]
    assert {"400", "404", "413", "415", "422"} <= fed.keys()
    assert client.ask("/explain", described["example"])[0] == 200


def test_page_and_interface_in_a_browser(service: Supervisor, browser: Browser) -> None:
    context = browser.new_context()
    page, complaints = context.new_page(), []
    root = f"http://127.0.0.1:{get_port(service)}"
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on(
        "request", lambda request: None if request.url.startswith((root, "data:")) else complaints.append(request.url)
    )
    page.goto(f"{root}/")
    page.wait_for_selector("#result meter")
    page.wait_for_selector("#contributions tr")
    assert page.locator("#contributions tr").count() == len(FRAME.columns)
    assert "on average over 5 training rows" in page.inner_text("#base")
    assert page.inner_text("#question") == "Will they buy?"
    assert page.locator("#result .bar span:first-child").all_inner_texts() == ["no", "buys"]
    assert "Probability of buys" in page.inner_text("#base")
    assert "buys is predicted from a probability of 0.3 on" in page.inner_text("#result")
    before = page.inner_text("#result")
    page.fill("#field-1", "4000")
    page.wait_for_function("before => document.getElementById('result').innerText !== before", arg=before)
    page.fill("#field-1", "many")
    page.wait_for_selector('#field-1[aria-invalid="true"]')
    assert "a_b: not a number" in page.inner_text("#result")
    assert not page.is_visible("#why")
    page.focus("#slider-1")
    page.keyboard.press("End")
    page.wait_for_selector("#result meter")
    assert page.input_value("#field-1") == "5000"
    assert all("status of 422" in complaint for complaint in complaints)
    complaints.clear()
    page.goto(f"{root}/docs")
    page.click("text=Predict rows")
    page.wait_for_selector("text=A row has all columns")
    assert complaints == []
    context.close()


def test_slow_client_is_cut_off(service: Supervisor) -> None:
    with socket.create_connection(("127.0.0.1", get_port(service))) as slow:
        slow.settimeout(60)
        slow.sendall(b"POST /predict HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{")
        started = time.monotonic()
        while slow.recv(1000):
            pass
        assert time.monotonic() - started > 5


def test_worker_needs_no_pandas() -> None:
    heavy = ("pandas", "sklearn", "scipy", "pyarrow", "mlflow", "onnx", "lightgbm")
    code = f"import labkit.serving.worker, sys; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_token_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_SERVE_TOKEN", "open sesame")
    with start(tmp_path, write_release(tmp_path / "release")) as supervisor:
        client, body = Client(get_port(supervisor)), {"rows": make_rows(FRAME)[:1]}
        assert client.ask("/ping")[0] == client.ask("/health")[0] == 200
        assert client.ask("/predict", body)[0] == client.ask("/metrics")[0] == 401
        assert client.ask("/predict", body, headers={"authorization": "Bearer wrong"})[0] == 401
        assert client.ask("/predict", body, headers={"authorization": "Bearer open sesame"})[0] == 200


def test_client_of_mlflow_gets_the_same_predictions(client: Client, service: Supervisor) -> None:
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    scoring = ScoringServerClient("127.0.0.1", get_port(service))
    scoring.wait_server_ready(timeout=30)
    assert json.loads(scoring.get_version())["experiment"] == "shop"
    expected = client.predict(make_rows(FRAME))["predictions"]
    for params in (None, {"unused": 1}):
        assert scoring.invoke(FRAME, params=params).get_predictions()[0].tolist() == expected
    with pytest.raises(Exception, match="error code 400, response: .*row 0: a_b: missing"):
        scoring.invoke(FRAME.drop(columns="a_b"))

"""What can be proved of a deployment on AWS without AWS: the release through S3, requests to its services, the script."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from labkit.model.release import runtime
from labkit.packages.package_files import write_package_files
from labkit.packages.service_folder import DIGESTS, make_digest_list
from moto import mock_aws

from tests.conftest import ROOT
from tests.serving.running import write_release

AWS = ROOT / "deploy" / "aws"
REGION = "eu-central-1"


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield


def load(name: str) -> Any:
    return json.loads((AWS / name).read_text())


def test_release_is_the_same_after_s3(account: None, tmp_path: Path) -> None:
    release = write_release(tmp_path / "made" / "release")
    write_package_files("service", release.parent, "shop")
    bucket = boto3.resource("s3", region_name="us-east-1").create_bucket(Bucket="bucket")
    for path in release.parent.rglob("*"):
        if path.is_file():
            bucket.upload_file(str(path), path.relative_to(release.parent).as_posix())
    for found in bucket.objects.all():
        place = tmp_path / "fetched" / found.key
        place.parent.mkdir(parents=True, exist_ok=True)
        bucket.download_file(found.key, str(place))
    digest = hashlib.sha256((tmp_path / "fetched/release/manifest.json").read_bytes()).hexdigest()
    assert digest == runtime.compute_release_digest(release)
    assert runtime.check_release(tmp_path / "fetched" / "release", digest=digest)
    assert not os.access(tmp_path / "fetched" / "serve", os.X_OK), "which is why the script sets it"
    assert "\nchmod +x serve\n" in (AWS / "ec2-user-data.sh").read_text()


def test_requests_are_valid_and_of_one_image(account: None) -> None:
    sagemaker, ecs = boto3.client("sagemaker", region_name=REGION), boto3.client("ecs", region_name=REGION)
    model, task = load("sagemaker-model.json"), load("ecs-task.json")
    sagemaker.create_model(**model)
    sagemaker.create_endpoint_config(**load("sagemaker-endpoint-config.json"))
    sagemaker.create_endpoint(EndpointName="diabetes", EndpointConfigName="diabetes-1")
    registered = ecs.register_task_definition(**task)["taskDefinition"]["containerDefinitions"][0]
    assert registered["image"] == model["PrimaryContainer"]["Image"]
    assert registered["portMappings"][0]["containerPort"] == 8080
    assert sagemaker.describe_endpoint(EndpointName="diabetes")["EndpointConfigName"] == "diabetes-1"


def test_script_is_valid_and_installs_as_the_folder_describes(tmp_path: Path) -> None:
    script = AWS / "ec2-user-data.sh"
    subprocess.run(["/bin/bash", "-n", str(script)], check=True)
    write_package_files("service", tmp_path, "diabetes")
    readme, commands = (tmp_path / "README.md").read_text(), script.read_text()
    for line in commands.splitlines():
        if line.startswith((".venv/bin/pip", "python3 -m venv")):
            assert line in readme
    assert "ExecStart=/opt/labkit/diabetes/serve" in (tmp_path / "labkit-diabetes.service").read_text()
    assert "FOLDER=/opt/labkit/$NAME-" in commands
    assert 'ln -sfn "$FOLDER" "/opt/labkit/$NAME"' in commands


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folder: None, ""),
        (lambda folder: (folder / "serve").write_text("#!/bin/sh\nexec evil\n"), "serve: FAILED"),
        (lambda folder: (folder / "release" / "added").touch(), "> release/added"),
        (lambda folder: (folder / "requirements.lock").unlink(), "requirements.lock: FAILED open or read"),
        (lambda folder: (folder / "SHA256SUMS").write_text(""), "SHA256SUMS: FAILED"),
    ],
)
def test_script_installs_only_what_the_digest_covers(
    change: Callable[[Path], object], words: str, tmp_path: Path
) -> None:
    folder = tmp_path / "fetched"
    write_release(folder / "release")
    write_package_files("service", folder, "diabetes")
    (folder / "requirements.lock").write_text("numpy==2\n")
    (folder / DIGESTS).write_text(make_digest_list(folder))
    digest = hashlib.sha256((folder / DIGESTS).read_bytes()).hexdigest()
    change(folder)
    script = (AWS / "ec2-user-data.sh").read_text()
    checks = script[script.index('echo "$DIGEST  SHA256SUMS"') : script.index('mv "$FOLDER.part"')]
    command = ["/bin/bash", "-euo", "pipefail", "-c", f"DIGEST={digest}\n{checks}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is (words == "")
    assert words in done.stdout + done.stderr

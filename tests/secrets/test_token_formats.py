"""Published formats of tokens are found wherever they stand; what only resembles one is left alone.

Each token is put together from its prefix and its rest, so that no scanner of this repository takes it for a real one.
"""

import base64
import hashlib
import random
import string

import pytest
from labkit.secrets.detection import find_secret
from labkit.secrets.redaction import REDACTED, Mask

LETTERS = string.ascii_letters + string.digits


def make_random(n: int, letters: str = LETTERS) -> str:
    """Return n characters, the same ones each time."""
    return "".join(random.Random(n).choices(letters, k=n))


def encode_url(content: bytes) -> str:
    """Return URL-safe base64 without padding, as JSON Web Tokens have it."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


HEADER, CLAIMS = encode_url(b'{"alg":"HS256","typ":"JWT"}'), encode_url(b'{"sub":"1234567890","name":"shop"}')
HEX, UPPER = "0123456789abcdef", string.ascii_uppercase + string.digits
TOKENS = {
    "Hugging Face": "hf" + "_" + make_random(34, string.ascii_letters),
    "Hugging Face, organization": "api" + "_org_" + make_random(34, string.ascii_letters),
    "OpenAI, old": "sk" + "-" + make_random(48),
    "OpenAI, project": "sk" + "-proj-" + make_random(70) + "_T3-" + make_random(60),
    "OpenAI, service account": "sk" + "-svcacct-" + make_random(60),
    "OpenAI, admin": "sk" + "-admin-" + make_random(60),
    "Anthropic": "sk" + "-ant-" + "api03-" + make_random(93) + "-AA",
    "GitHub, personal": "gh" + "p_" + make_random(36),
    "GitHub, OAuth": "gh" + "o_" + make_random(36),
    "GitHub, user": "gh" + "u_" + make_random(36),
    "GitHub, server": "gh" + "s_" + make_random(36),
    "GitHub, refresh": "gh" + "r_" + make_random(76),
    "GitHub, fine-grained": "github" + "_pat_" + make_random(22) + "_" + make_random(59),
    "GitLab, personal": "gl" + "pat-" + make_random(20),
    "GitLab, routable": "gl" + "pat-" + make_random(27) + ".01." + make_random(9, HEX),
    "GitLab, deployment": "gl" + "dt-" + make_random(20),
    "npm": "np" + "m_" + make_random(36),
    "PyPI": "py" + "pi-" + "AgEIcHlwaS5vcmc" + make_random(150),
    "Stripe, secret": "sk" + "_live_" + make_random(24),
    "Stripe, restricted": "rk" + "_live_" + make_random(24),
    "Stripe, test": "sk" + "_test_" + make_random(99),
    "Slack, bot": "xox" + "b-" + make_random(12, string.digits) + "-" + make_random(24),
    "Slack, user": "xox" + "p-" + make_random(12, string.digits) + "-" + make_random(24),
    "Slack, refresh": "xox" + "e-1-" + make_random(40),
    "Slack, rotated": "xox" + "e.xox" + "p-1-" + make_random(40),
    "Slack, app": "xap"
    + "p-1-A"
    + make_random(10, UPPER)
    + "-"
    + make_random(12, string.digits)
    + "-"
    + make_random(64),
    "AWS, access key": "AK" + "IA" + make_random(16, UPPER),
    "AWS, temporary": "AS" + "IA" + make_random(16, UPPER),
    "Google, API key": "AI" + "za" + make_random(35),
    "Google, OAuth": "ya" + "29." + make_random(80),
    "Google, client": "GOC" + "SPX-" + make_random(28),
    "Databricks": "da" + "pi" + make_random(32, HEX),
    "Databricks, numbered": "da" + "pi" + make_random(32, HEX) + "-2",
    "SendGrid": "S" + "G." + make_random(22) + "." + make_random(43),
    "JSON Web Token": f"{HEADER}.{CLAIMS}.{encode_url(hashlib.sha256(b'key').digest())}",
}
AWS_SECRET = make_random(38) + "/+"
KEY_BODY = "\n".join(make_random(64) for _ in range(4))
KINDS = ("", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", "DSA ")


def redact(content: str) -> str:
    """Return what is left of a cell's output."""
    return str(Mask().clean(content))


@pytest.mark.parametrize(
    "frame", ["{}", "token={}", 'key: "{}",', "export KEY='{}'\n", "Bearer {} ok", "({}).", "k={}&a=b"]
)
@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
def test_token_is_redacted_wholly_and_refused_in_params(token: str, frame: str) -> None:
    assert redact(frame.format(token)) == frame.format(REDACTED)
    assert list(find_secret({"deploy": {"owner": frame.format(token)}})) == [["deploy", "owner"]]


@pytest.mark.parametrize("name", ["aws_secret_access_key", "AWS_SECRET_ACCESS_KEY", "SecretAccessKey"])
@pytest.mark.parametrize("sign", [" = ", "=", ": ", '": "'])
def test_secret_key_of_aws_is_found_by_the_name_before_it(name: str, sign: str) -> None:
    assert AWS_SECRET not in redact(f"before {name}{sign}{AWS_SECRET} after")
    assert redact(f"before {name}{sign}{AWS_SECRET} after") == f"before {REDACTED} after"
    assert redact(AWS_SECRET) == AWS_SECRET, "alone it cannot be distinguished from any other encoded bytes"


@pytest.mark.parametrize("kind", KINDS)
def test_private_key_is_redacted_wholly(kind: str) -> None:
    begin, end = f"-----BEGIN {kind}PRIVATE " + "KEY-----", f"-----END {kind}PRIVATE " + "KEY-----"
    assert redact(f"a\n{begin}\n{KEY_BODY}\n{end}\nb") == f"a\n{REDACTED}\nb"


def test_private_key_of_pgp_is_redacted_wholly() -> None:
    begin, end = "-----BEGIN PGP PRIVATE " + "KEY BLOCK-----", "-----END PGP PRIVATE " + "KEY BLOCK-----"
    assert redact(f"{begin}\n\n{KEY_BODY}\n{end}") == REDACTED


def test_address_of_a_slack_channel_is_redacted() -> None:
    address = "https://hooks.slack.com/services/"
    assert redact(address + "T" + make_random(9, UPPER) + "/B" + make_random(9, UPPER) + "/" + make_random(24)) == (
        address + REDACTED
    )


IMAGE = base64.b64encode(b"\x89PNG\r\n\x1a\n" + random.Random(0).randbytes(60_000)).decode()
NEAR_MISSES = {
    "commit of git": hashlib.sha1(b"a", usedforsecurity=False).hexdigest(),
    "short commit": hashlib.sha1(b"a", usedforsecurity=False).hexdigest()[:7],
    "UUID": "123e4567-e89b-12d3-a456-426614174000",
    "MD5": hashlib.md5(b"a", usedforsecurity=False).hexdigest(),
    "SHA-256": "sha256:" + hashlib.sha256(b"a").hexdigest(),
    "SHA-512": hashlib.sha512(b"a").hexdigest(),
    "SHA-384 of a script": "sha384-" + base64.b64encode(hashlib.sha384(b"a").digest()).decode(),
    "image": "data:image/png;base64," + IMAGE,
    "image in lines": "\n".join(IMAGE[start : start + 76] for start in range(0, len(IMAGE), 76)),
    "URL-safe image": IMAGE.replace("/", "_").replace("+", "-"),
    "key within an image": "iVBORw0KGgo/" + "AK" + "IA" + make_random(16, UPPER) + "+aaaa",
    "JSON in base64": base64.b64encode(b'{"data": [1, 2, 3], "layout": {"title": "a plot"}}').decode(),
    "unsigned JSON Web Token": f"{HEADER}.{CLAIMS}.",
    "package": "sk-learn hf_hub npm_package pypi-server gh_pages sk_test_size xoxo-party dapiserver SG.small",
    "model": "hf_distilbert_base_uncased_finetuned_sst_2_english",
    "experiment": "sk-proj-prices-of-houses risk-models-2024 task-0123456789",
    "columns": "glucose_level, sk_live_births_per_thousand_people, ghp_index, api_organisation_name_of_the_applicant",
    "public key": "-----BEGIN PUBLIC KEY-----\n" + KEY_BODY + "\n-----END PUBLIC KEY-----",
    "certificate": "-----BEGIN CERTIFICATE-----\n" + KEY_BODY + "\n-----END CERTIFICATE-----",
    "address": "https://example.org:8080/a/b?c=d@e.f",
    "name in capitals": "AKIAWHATEVER ASIAN_MARKETS_2024",
    "name of a variable": "aws_secret_access_key = os.environ['AWS_SECRET_ACCESS_KEY']",
}


@pytest.mark.parametrize("content", NEAR_MISSES.values(), ids=NEAR_MISSES.keys())
def test_what_resembles_a_token_is_left_alone(content: str) -> None:
    assert redact(content) == content
    assert list(find_secret({"deploy": {"owner": content}})) == []


def test_token_printed_in_two_parts_is_redacted() -> None:
    token = TOKENS["OpenAI, project"]
    parts = [token[:90], token[90:]]
    outputs = [{"output_type": "stream", "name": "stdout", "text": part} for part in parts]
    cleaner = Mask()
    cleaner.join_streams(outputs)
    assert "".join(output["text"] for output in outputs) == REDACTED

"""No secret in a file, a record of W&B, a log line or a page; and nothing is ruined that the config needs."""

import base64
import json
import logging
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
import yaml
from hydra.core.override_parser.types import Quote, QuotedString

from vicinal.config.redaction import Formatter, redact, redact_code, redacted
from vicinal.experiment import Experiment
from vicinal.jobs.reproduce import reproduce
from vicinal.jobs.run import run
from vicinal.runs import environment

Train = Callable[..., tuple[int, str, str]]
ODD = "od\"d\\pä'ss w=ö{r}d"
HEX = "0123456789abcdef0123456789abcdef01234567"
VARIABLES = {
    "WANDB_API_KEY": HEX,
    "GITHUB_PAT": "pat-without-a-form",
    "DB_PASSWD": "hunter2",
    "SENTRY_DSN": "https://abc123def@sentry.example.org/17",
    "PROXY_AUTH": ODD,
    "APP_SECRET": "line-one-of-two\nline-two-of-two",
    "MODEL_CREDENTIALS": "cr3d,ent:ial",
}
ADDRESSES = {"WANDB_BASE_URL": "http://me:basepa55@localhost:9", "HTTPS_PROXY": "http://me:pr0xy/pa55@localhost:9"}
NETRC = "netrc-pa55word"
IN_CODE = ("AKIAIOSFODNN7EXAMPLX", "MIIEvQIBADANBgkqhkiG9w0BAQEF", "plain-old-pa55word")
DIFF = f"""+aws = "{IN_CODE[0]}"
+-----BEGIN PRIVATE KEY-----
+{IN_CODE[1]}
+-----END PRIVATE KEY-----
+db_password = '{IN_CODE[2]}'
+strength = 0.25
"""
TOKEN = "hf_" + "Ab1" * 10
SECRETS = [
    *(value for value in VARIABLES.values() if "\n" not in value),
    *("line-one-of-two", "line-two-of-two", "basepa55", "pr0xy/pa55", NETRC, TOKEN, *IN_CODE),
]
SMALL = ("model=mlp", "model.hidden=[8]", "dataset.train_size=100", "dataset.val_size=50", "trainer.epochs=1")


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """All of them, where secrets are; and a text with those that can be in a command line or an error."""
    for name, value in {**VARIABLES, **ADDRESSES}.items():
        monkeypatch.setenv(name, value)
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine example.org login me password {NETRC}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setattr(environment, "code", lambda: ("c0ffee", DIFF))
    yield " ".join([*VARIABLES.values(), *ADDRESSES.values(), NETRC, TOKEN]).replace("\n", " ")
    netrc.unlink()


def leaks(folder: Path) -> list[str]:
    """Files with a secret in a form in which somebody could read it."""
    found = []
    for file in (path for path in folder.rglob("*") if path.is_file()):
        data = file.read_bytes()
        for secret in SECRETS:
            forms = {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret, safe=""), quote(secret)}
            if any(form.encode() in data for form in forms):
                found.append(f"{file.relative_to(folder)}: {secret}")
    return found


def test_no_secret_in_what_a_sweep_writes_prints_and_tells_wandb(
    planted: str, train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    value = QuotedString(text=planted, quote=Quote.single).with_quotes()
    words = (f"dataset.root={value}", f"wandb.tags=[{TOKEN}]")
    code, out, err = train(*SMALL, *words, "mixup=none,input", "-m")
    assert (code, err) == (0, "")
    assert [secret for secret in SECRETS if secret in out] == []
    (sweep,) = (tmp_path / "outputs/sweeps").iterdir()
    names = {file.name for file in (tmp_path / "outputs").rglob("*") if file.is_file()}
    assert {"sweep.json", "report.html", "summary.csv", "config.yaml", "environment.json", "train.log"} <= names
    assert len(list((tmp_path / "outputs").rglob("*.wandb"))) == 2
    assert leaks(tmp_path / "outputs") == []
    recorded = json.loads(next((tmp_path / "outputs/runs").glob("*/environment.json")).read_text())
    assert recorded["git"]["diff"] == (
        "+aws = \"<token>\"\n+<private key>\n+db_password = '<db_password>'\n+strength = 0.25\n"
    )
    (root,) = (
        word for word in json.loads((sweep / "sweep.json").read_text())["command"] if word.startswith("dataset.root")
    )
    assert "<WANDB_API_KEY> <GITHUB_PAT> <DB_PASSWD> <SENTRY_DSN>" in root


def test_no_secret_in_what_a_failure_leaves(
    planted: str, compose: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = compose(*SMALL, "wandb.mode=offline")
    monkeypatch.setattr("sys.argv", ["train.py", planted])

    def refuse(experiment: Experiment) -> None:
        raise PermissionError(f"server says no to {planted}")

    monkeypatch.setattr("vicinal.jobs.session.make_model", refuse)  # W&B's run is open by then
    with pytest.raises(PermissionError):
        run(experiment)
    assert len(list(experiment.folder.path.rglob("*.wandb"))) == 1
    assert leaks(experiment.folder.path) == []
    logged = experiment.folder.log.read_text()
    assert "PermissionError: server says no to <WANDB_API_KEY> <GITHUB_PAT> <DB_PASSWD>" in logged


def test_a_config_whose_values_are_those_of_variables_is_intact(
    compose: Callable[..., Experiment], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*SMALL, "seed=1234567", f"dataset.root={tmp_path}", "wandb.project=our-own", "scheduler.min_lr=0.00125"]
    plain = compose(*words)
    expected = yaml.safe_load(Path(_written(plain)).read_text())
    values = {
        "TOKEN_KIND": "vicinal.mixing.InputMixup",
        "A_KEY": "digits",
        "B_SECRET": "vicinal.mixing",
        "C_TOKEN": "mlp",
        "D_PASSWORD": "momentum",
        "E_KEY": "outputs",
        "F_AUTH": "1",
        "G_KEY": "false",
        "H_TOKEN": "0.00125",
        "I_SECRET": str(tmp_path),
        "J_KEY": "our-own",
        "K_PAT": "digits-mlp",
        "L_KEY": "1234567",
        "M_PWD": "auto",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    experiment = compose(*words)
    assert yaml.safe_load(Path(_written(experiment)).read_text()) == expected
    run(experiment)
    result = experiment.folder.completed() or {}
    assert (result["name"], result["config"]) == (plain.name, plain.settings())
    assert result["choices"]["mixup"] == "input"
    assert reproduce(experiment.folder.path).verdict() == "bit-identical"


def _written(experiment: Experiment) -> Path:
    from vicinal.jobs.provenance import config_file

    file = experiment.folder.path.parents[2] / "written.yaml"
    file.write_bytes(config_file(experiment))
    return file


@pytest.mark.parametrize("secret", [ODD, "plain-old-secret", "ünïcödé-ßecret", 'a"b\\c%20d/e:f@g', "two  spaces $HOME"])
def test_every_way_of_writing_a_secret_is_known(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    monkeypatch.setenv("MY_TOKEN", secret)
    ways = [
        *(secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]),
        *(quote(secret), quote(secret, safe=""), quote_plus(secret), quote(secret).replace("%2F", "%2f")),
        *(shlex.quote(secret), json.dumps(json.dumps(secret))[3:-3], base64.b64encode(secret.encode()).decode()),
        *(yaml.safe_dump(secret, width=1000, allow_unicode=True)[:-1].removesuffix("\n..."), secret.replace("'", "''")),
    ]
    for way in ways:
        shown = redact(f"before {way} after")
        assert shown.strip("'\"").replace("'", "").replace('"', "") == "before <MY_TOKEN> after", way


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("MY_KEY", "1", "1 11 abc"),
        ("MY_KEY", "abc", "1 11 abc"),
        ("PIN_PASSWORD", "4711", "4711 of 47110"),
        ("PIN_PASSWORD", "471108", "<PIN_PASSWORD> of 4711081, 0.471108"),
        ("DB_PWD", "hunter2", "<DB_PWD>, hunter22, 'DB=<DB_PWD>'"),
        ("PWD", "hunter2", "hunter2, hunter22, 'DB=hunter2'"),
        ("TOKENIZERS_PARALLELISM", "false-or-true", "false-or-true"),
        ("PATH", "/usr/bin-or-not", "/usr/bin-or-not"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "/tmp", "/tmp"),
        ("GOOGLE_APPLICATION_CREDENTIALS", "not-a-path-there", "<GOOGLE_APPLICATION_CREDENTIALS>"),
    ],
)
def test_short_values_and_places(monkeypatch: pytest.MonkeyPatch, name: str, value: str, shown: str) -> None:
    monkeypatch.setenv(name, value)
    assert redact(shown.replace(f"<{name}>", value)) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("at https://me:pa55@example.org/x?a=b", "at https://<user>:<password>@example.org/x?a=b"),
        (
            "postgres://u:p@h:5432/db, redis://:p@h",
            "postgres://<user>:<password>@h:5432/db, redis://<user>:<password>@h",
        ),
        ("http://host:8080/path?mail=a@b.org", "http://host:8080/path?mail=a@b.org"),
        ("ssh://git@example.org/x git@example.org:x", "ssh://git@example.org/x git@example.org:x"),
        ("key ghp_" + "a1" * 18, "key <token>"),
        ("sk-proj-" + "a1_-" * 8, "<token>"),
        ("Authorization: Bearer abcdef.ghi", "Authorization: <authorization>"),
        (f"commit {HEX}", f"commit {HEX}"),
    ],
)
def test_addresses_and_tokens_of_any_origin(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_values_are_redacted_and_keys_and_numbers_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "12345678")
    content = {"12345678": 12345678, "a": ["12345678", None, True, 1.5], "api_key": "anything", "token_count": "x"}
    clean = {"12345678": 12345678, "a": ["<MY_KEY>", None, True, 1.5], "api_key": "<api_key>", "token_count": "x"}
    assert redacted(content) == clean
    assert content["a"] == ["12345678", None, True, 1.5]


def test_code_keeps_what_is_no_secret() -> None:
    code = '+token: Tensor\n+key = "dataset.root"\n+tokens = split(text)\n+x = self.password\n'
    assert redact_code(code) == code
    assert redact_code(f"+wandb = '{HEX}'\n+password: s3cr3t99\n") == "+wandb = '<api key>'\n+password: <password>\n"


def test_a_log_line_and_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "a-secret-value")
    try:
        raise ValueError("no: a-secret-value\x1b[2J")
    except ValueError as error:
        about = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("x", logging.INFO, "", 1, "saw %s\x07", ("a-secret-value",), about)
    first, *_, last = Formatter("%(message)s").format(record).split("\n")
    assert (first, last) == ("saw <MY_TOKEN>\\x07", "ValueError: no: <MY_TOKEN>\\x1b[2J")


def test_a_damaged_netrc_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (b"machine", b"\xff\xfe\x00", b"default login a password\n"):
        (tmp_path / "netrc").write_bytes(content)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert redact("as it was") == "as it was"
    monkeypatch.setenv("NETRC", os.fspath(tmp_path))
    assert redact("as it was") == "as it was"

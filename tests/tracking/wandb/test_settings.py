"""W&B's settings: what is refused before anything starts, and which variables speak where the config is silent."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from vicinal.config.schema import WandbConfig
from vicinal.errors import UserError
from vicinal.tracking.wandb.settings import OWN, ineffective_variables, requested_mode, with_variables

Read = Callable[[Path], Any]
Train = Callable[..., tuple[int, str, str]]

LONG = "x" * 129
QUIET = ("trainer.epochs=1", "dataset.train_size=100", "trainer.device=cpu")


def values(**changes: Any) -> dict[str, Any]:
    return asdict(WandbConfig(**changes))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"project": "a/b?"}, "wandb.project=a/b?: must have none of the characters /\\#?%:"),
    ({"project": "a:b"}, "wandb.project=a:b: must have none of the characters /\\#?%:"),
    ({"project": ""}, "wandb.project='': must be 1 to 128 printable characters"),
    ({"project": "a\nb"}, "wandb.project=a\\nb: must be 1 to 128 printable characters"),
    ({"project": LONG}, f"wandb.project={'x' * 64}... (129 characters): must be 1 to 128 printable characters"),
    ({"entity": "my lab"}, "wandb.entity=my lab: must have no spaces"),
    ({"entity": "lab/x"}, "wandb.entity=lab/x: must have none of the characters /\\#?%:"),
    ({"name": "  "}, "wandb.name='  ': must be 1 to 128 printable characters"),
    ({"name": "a\x1b[31m"}, "wandb.name=a\\x1b[31m: must be 1 to 128 printable characters"),
    ({"name": "a\udcff"}, "wandb.name=a\\udcff: must be 1 to 128 printable characters"),
    ({"group": LONG}, f"wandb.group={'x' * 64}... (129 characters): must be 1 to 128 printable characters"),
    ({"notes": "a\x00b"}, "wandb.notes=a\\x00b: must be up to 10000 printable characters and line breaks"),
    ({"tags": ["a", ""]}, "wandb.tags=[a,'']: each must be 1 to 64 printable characters"),
    ({"tags": ["x" * 65]}, f"wandb.tags=[{'x' * 64}... (65 characters)]: each must be 1 to 64 printable characters"),
    ({"tags": ["a", "b", "a"]}, "wandb.tags=[a,b,a]: must have no tag twice"),
]


@pytest.mark.parametrize(("changes", "line"), REFUSED, ids=[line for _, line in REFUSED])
def test_a_setting_that_wandb_would_refuse_is_one_line(changes: dict[str, Any], line: str) -> None:
    for mode in ("auto", "disabled"):
        with pytest.raises(UserError) as refused:
            with_variables(values(mode=mode, **changes))
        assert str(refused.value) == line


def test_wandb_itself_agrees_with_the_longest_and_oddest_that_is_allowed() -> None:
    import wandb

    odd = {"project": "ä b" + "x" * 125, "tags": ["t" * 64, "ü [1], x"], "notes": "one\n\ttwo", "name": "n/a?" * 32}
    settled = with_variables(values(mode="offline", **odd))
    assert {key: settled[key] for key in odd} == odd
    agreed = wandb.Settings(project=settled["project"], run_tags=settled["tags"], run_name=settled["name"])
    assert (agreed.project, agreed.run_tags) == (odd["project"], tuple(odd["tags"]))


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("WANDB_MODE", "bogus", "WANDB_MODE=bogus: must be one of online, offline, disabled"),
        ("WANDB_MODE", "shared", "WANDB_MODE=shared: must be one of online, offline, disabled"),
        ("WANDB_DISABLED", "perhaps", "WANDB_DISABLED=perhaps: must be true or false"),
        ("WANDB_PROJECT", "a/b", "WANDB_PROJECT=a/b: must have none of the characters /\\#?%:"),
        ("WANDB_NAME", LONG, f"WANDB_NAME={'x' * 64}... (129 characters): must be 1 to 128 printable characters"),
        ("WANDB_RUN_GROUP", " ", "WANDB_RUN_GROUP=' ': must be 1 to 128 printable characters"),
        ("WANDB_TAGS", "a,,b", "WANDB_TAGS=[a,'',b]: each must be 1 to 64 printable characters"),
        *(
            ("WANDB_BASE_URL", url, "WANDB_BASE_URL: must be the address of a W&B server, such as https://api.wandb.ai")
            for url in ("api.wandb.ai", "ftp://u:secret@host", "http://host:99999", "http://", "https://wandb.ai")
        ),
    ],
)
def test_a_variable_is_checked_like_a_key_unless_wandb_is_disabled(
    variable: str, value: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    for mode in ("auto", "online", "offline"):
        with pytest.raises(UserError) as refused:
            with_variables(values(mode=mode))
        assert str(refused.value) == line
    assert with_variables(values(mode="disabled"))["project"] == "vicinal"
    assert ineffective_variables(with_variables(values(mode="disabled"))) == []


def test_variables_speak_where_the_config_is_silent_and_are_said_to_be_unheard_where_it_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = {"project": "p", "entity": "e", "name": "n", "notes": "o", "group": "g", "tags": ["a", "b"]}
    names = {"group": "WANDB_RUN_GROUP"}
    assert {key: value for key, value in with_variables(values()).items() if key in said} == {
        **dict.fromkeys(said),
        "project": "vicinal",
        "tags": [],
    }
    for key, value in said.items():
        text = "a, b" if key == "tags" else str(value)
        monkeypatch.setenv(names.get(key, f"WANDB_{key.upper()}"), text)
    settled = with_variables(values())
    assert {key: settled[key] for key in said} == said
    assert ineffective_variables(settled) == []
    other = with_variables(values(project="q", tags=[], group="g"))
    assert [other[key] for key in said] == ["q", "e", "n", "o", "g", []]
    assert ineffective_variables(other) == [
        "WANDB_PROJECT has no effect: wandb.project=q",
        "WANDB_TAGS has no effect: wandb.tags=[]",
    ]


@pytest.mark.parametrize(
    ("mode", "environment", "wished", "lines"),
    [
        ("auto", {"WANDB_DISABLED": "true", "WANDB_MODE": "online"}, "disabled", []),
        ("auto", {"WANDB_DISABLED": "False", "WANDB_MODE": "dryrun"}, "offline", []),
        ("online", {"WANDB_DISABLED": "1"}, "online", ["WANDB_DISABLED has no effect: wandb.mode=online"]),
        ("online", {"WANDB_MODE": "offline"}, "online", ["WANDB_MODE has no effect: wandb.mode=online"]),
        ("offline", {"WANDB_MODE": "dryrun", "WANDB_DISABLED": "0"}, "offline", []),
        ("offline", {"WANDB_DIR": "/x"}, "offline", ["WANDB_DIR has no effect: W&B's files are in the run's folder"]),
        ("offline", {"WANDB_DIR": "/x", "WANDB_SWEEP_ID": "s"}, "offline", []),
        ("offline", {"WANDB_RESUME": ""}, "offline", []),
    ],
)
def test_mode_and_what_has_no_effect(
    mode: str, environment: dict[str, str], wished: str, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert requested_mode(mode)[0] == wished
    assert ineffective_variables(with_variables(values(mode=mode))) == lines


@pytest.mark.parametrize("words", [("wandb.tags=['']",), ("wandb.project=a/b", "seed=0,1", "-m"), ()])
def test_a_refusal_leaves_nothing_behind(
    words: tuple[str, ...], train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled" if words else "bogus")
    code, out, err = train(*words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("error: " + (words[0].split("=")[0] if words else "WANDB_MODE=bogus"))
    assert [path for path in tmp_path.rglob("*") if path != tmp_path / "outputs"] == []


def test_what_the_environment_says_is_recorded_and_is_what_wandb_has(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_offline_run: Read
) -> None:
    spoken = {
        "PROJECT": "p",
        "ENTITY": "lab",
        "NAME": "my run",
        "NOTES": "two\nlines",
        "TAGS": "b,a",
        "MODE": "offline",
    }
    for name, value in spoken.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    for name in OWN - {f"WANDB_{name}" for name in spoken}:  # bad for W&B, and unheard
        monkeypatch.setenv(name, "bogus")
    code, out, err = train(*QUIET, "wandb.group=mine")
    assert (code, err) == (0, "")
    for name in OWN:
        monkeypatch.delenv(name)
    run = read_offline_run(tmp_path)
    assert (run.project, run.entity, run.name, run.notes) == ("p", "lab", "my run", "two\nlines")
    assert (run.group, sorted(run.tags), run.exit_code) == ("mine", ["a", "b"], 0)
    stored = run.config["wandb"]
    assert stored == values(project="p", entity="lab", name="my run", notes="two\nlines", group="mine", tags=["b", "a"])
    said = [line for line in out.splitlines() if "has no effect" in line]
    assert "WANDB_RUN_GROUP has no effect: wandb.group=mine" in said
    assert "WANDB_DIR has no effect: W&B's files are in the run's folder" in said
    assert len(said) == len(OWN) - len(spoken) + 1  # all but those that were heard; the mode is none of OWN

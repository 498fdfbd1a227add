"""The sweeps that W&B hands out: what an agent makes of the files, run as an agent would run it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb.sdk.lib import config_util
from wandb.wandb_agent import Agent

from vicinal.config.schema import CONF

from .. import forked

ROOT = CONF.parent
FILES = sorted((CONF / "wandb_sweeps").glob("*.yaml"))
Read = Callable[[Path], Any]
SUGGESTED = {"grid_alpha": {"mixup.alpha": 0.4, "seed": 2}, "bayes_alpha": {"mixup.alpha": 0.3217}}


class Started:
    """What the agent would start instead of a process."""

    def __init__(self, command: list[str], env: dict[str, str], **_: Any) -> None:
        self.command, self.env = command, env


def handed_out(file: Path, values: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    """The process that wandb's own agent starts when the server suggests these values."""
    config = yaml.safe_load(file.read_text())
    started: list[Started] = []

    def start(**words: Any) -> Started:
        started.append(Started(**words))
        return started[0]

    monkeypatch.setattr("wandb.wandb_agent.AgentProcess", start)
    monkeypatch.setenv("WANDB_SWEEP_ID", "sw33p1d0")
    monkeypatch.setenv("WANDB_DIR", str(folder))
    monkeypatch.setenv("WANDB_RUN_ID", "")  # the agent sets it; this way it is taken back
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", "")
    (folder / "wandb" / "sweep-sw33p1d0").mkdir(parents=True, exist_ok=True)
    agent = Agent(api=None, queue=None, sweep_id="sw33p1d0")
    agent._sweep_command = config["command"]
    args = {name: {"value": value} for name, value in values.items()}
    agent._command_run({"type": "run", "run_id": "ag3ntrun", "program": config["program"], "args": args})
    return started[0]


def test_there_are_a_grid_and_a_search() -> None:
    assert {file.stem: yaml.safe_load(file.read_text())["method"] for file in FILES} == {
        "grid_alpha": "grid",
        "bayes_alpha": "bayes",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_parameters_have_dotted_names_and_no_blocks_and_replace_no_group(file: Path) -> None:
    config = yaml.safe_load(file.read_text())
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    for name, words in config["parameters"].items():
        assert "parameters" not in words
        assert name not in groups
    assert config["metric"] == {"name": "val/acc1", "goal": "maximize"}


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_command_line_of_an_agent_trains_the_run_it_has_asked_for(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_offline_run: Read
) -> None:
    values = SUGGESTED[file.stem]
    started = handed_out(file, values, tmp_path, monkeypatch)
    strategy = {"grid_alpha": "input", "bayes_alpha": "cutmix"}[file.stem]
    words = [f"{name}={value}" for name, value in values.items()]
    assert started.command == ["/usr/bin/env", "python", "train.py", f"mixup={strategy}", *words]
    assert (started.env["WANDB_RUN_ID"], started.env["WANDB_SWEEP_ID"]) == ("ag3ntrun", "sw33p1d0")
    own = ["trainer.epochs=2", "dataset.train_size=200", f"output_dir={tmp_path / 'outputs'}"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # `python` is the tests' own
    environment = {**started.env, "WANDB_MODE": "offline", "PATH": path}
    done = subprocess.run([*started.command, *own], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "outputs" / "runs").iterdir()
    result = json.loads((folder / "result.json").read_text())
    offline = read_offline_run(folder)
    assert (offline.id, result["wandb"]["mode"], result["wandb"]["id"]) == ("ag3ntrun", "offline", "ag3ntrun")
    assert result["choices"]["mixup"] == strategy
    assert result["config"]["mixup"]["alpha"] == values["mixup.alpha"]
    assert result["seed"] == values.get("seed", 0)
    # What the agent's file says is in W&B's config too, and nothing of ours is lost to it.
    assert {name: offline.config[name] for name in values} == values
    assert offline.config["mixup"] == result["config"]["mixup"]
    assert offline.summary["val/acc1"] == result["val"]["acc1"]  # what the search goes by
    assert (offline.exit_code, len(offline.history)) == (0, 2)

    # Asked for again, as another run of the sweep: nothing is trained, and that run has its numbers too.
    params = Path(environment["WANDB_SWEEP_PARAM_PATH"])
    again = {**environment, "WANDB_RUN_ID": "ag3ntru2", "WANDB_SWEEP_PARAM_PATH": str(params)}
    config_util.save_config_file_from_dict(str(params), {name: {"value": value} for name, value in values.items()})
    before = (folder / "checkpoint.pt").read_bytes()
    done = forked.run([*started.command[3:], *own], ROOT, again)  # without the imports
    assert done.returncode == 0, done.stderr
    assert (folder / "checkpoint.pt").read_bytes() == before
    (second,) = folder.glob("wandb/offline-run-*-ag3ntru2")
    told = read_offline_run(second)
    assert (told.id, told.exit_code) == ("ag3ntru2", 0)
    assert told.history == offline.history
    assert told.summary["val/acc1"] == result["val"]["acc1"]

"""What a result was made with, and that no secret goes into a file."""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vicinal.data import RunData
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.runs import environment

SECRET = "0123456789abcdef0123456789abcdef01234567"
ROOT = Path(__file__).parents[2]


def git(folder: Path, *words: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    return subprocess.run(["git", "-C", folder, *identity, *words], check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of the test's own, which the package seems to run from."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "code.py").write_text("lr = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    monkeypatch.setattr(environment, "__file__", str(folder / "environment.py"))
    monkeypatch.setattr(environment, "code", environment.code.__wrapped__)
    return folder


def test_hardware_and_versions() -> None:
    found = environment.describe(torch.device("cpu"), "bf16", 2)
    for name in environment.PACKAGES:
        assert found["versions"][name] == importlib.metadata.version(name)
    assert found["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert found["python"] == platform.python_version()
    assert (found["device"], found["precision"], found["threads"]) == ("cpu", "bf16", 2)
    assert found["cpus"] == os.cpu_count()
    assert json.loads(json.dumps(found)) == found


def test_commit_of_this_checkout() -> None:
    try:
        commit = git(ROOT, "rev-parse", "HEAD").strip()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not in a git checkout")
    assert environment.code()[0] == commit


def test_clean_and_changed_code(checkout: Path) -> None:
    commit = git(checkout, "rev-parse", "HEAD").strip()
    assert environment.code() == (commit, "")
    (checkout / "code.py").write_text("lr = 2\n")
    found, diff = environment.code()
    assert found == commit
    assert diff == git(checkout, "diff", "HEAD")
    assert "-lr = 1\n+lr = 2\n" in diff
    git(checkout, "add", ".")  # staged, it is a change still
    assert environment.code() == (commit, diff)


def test_a_file_that_git_does_not_track_yet_is_code_too(checkout: Path) -> None:
    (checkout / "conf").mkdir()
    (checkout / "conf/fade.yaml").write_text("_target_: fade.Fade\n")
    (checkout / "fade.py").write_text("strength = 0.25\n")
    (checkout / "data.bin").write_bytes(b"0")
    diff = environment.code()[1]
    assert "+_target_: fade.Fade\n" in diff
    assert "+strength = 0.25\n" in diff
    assert "data.bin" not in diff


def test_a_change_in_another_encoding_is_no_obstacle(checkout: Path) -> None:
    (checkout / "code.py").write_bytes("lr = 1  # Grüße\n".encode("latin-1"))
    assert "+lr = 1  # Gr\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}e" in environment.code()[1]


def test_what_runs_have_left_is_no_code(checkout: Path) -> None:
    run = "digits-cnn-input-alpha0.2-0123456789-s0"
    places = (
        f"out/runs/{run}",
        "out/sweeps/mixup-0123456789/jobs",
        f"x/out/reproductions/{run}-again2",
    )
    for place in places:
        (checkout / place).mkdir(parents=True)
        (checkout / place / "config.yaml").write_text("secret_of_a_run: 1\n")
    (checkout / "runs").mkdir()
    (checkout / "runs/own.py").write_text("own = 1\n")  # a name like ours is not enough
    diff = environment.code()[1]
    assert "secret_of_a_run" not in diff
    assert "+own = 1\n" in diff


def test_a_large_difference_says_what_it_leaves_out(checkout: Path) -> None:
    (checkout / "a.py").write_text("small = 1\n")
    for name in ("b.yaml", "c.yaml", "d.yaml", "e.yaml", "f.yaml"):
        (checkout / name).write_text("x: 1\n" * environment.LONGEST_DIFF)
    diff = environment.code()[1]
    assert "+small = 1\n" in diff
    assert diff.endswith("left out, beyond 262144 characters: b.yaml, c.yaml, d.yaml, e.yaml and 1 more\n")
    (checkout / "code.py").write_text("x = 1\n" * environment.LONGEST_DIFF)
    assert len(environment.code()[1]) < environment.LONGEST_DIFF + 300


def test_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    assert environment.code.__wrapped__() == (None, "")  # no repository
    monkeypatch.setattr(environment, "__file__", str(ROOT / "src" / "environment.py"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.code.__wrapped__() == (None, "")  # no program


def test_secrets_are_redacted(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setenv("MY_PASSWORD", "correct horse battery")
    monkeypatch.setenv("SHORT_KEY", "1")  # too short to be one: redacting it would garble the rest
    monkeypatch.setattr(sys, "argv", ["train.py", f"+key={SECRET}", "seed=1"])
    (checkout / "code.py").write_text(f'lr = 1\npassword = "correct horse battery"\nkey = "{SECRET}"\n')
    found = environment.describe(torch.device("cpu"), "fp32", 1)
    assert found["command"] == ["train.py", "+key=<WANDB_API_KEY>", "seed=1"]
    assert '+password = "<MY_PASSWORD>"\n+key = "<WANDB_API_KEY>"' in found["git"]["diff"]
    assert SECRET not in json.dumps(found)


@pytest.mark.parametrize("fails", [False, True])
def test_no_file_of_a_run_has_a_secret(
    compose: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """Not even where the command line, the config and an error message do."""
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    monkeypatch.setattr(sys, "argv", ["train.py", f"dataset.root={SECRET}"])
    experiment = compose(f"dataset.root={SECRET}", "model=mlp", "dataset.train_size=100", "trainer.epochs=1")
    if fails:

        def refuse(experiment: Experiment, data: RunData) -> None:
            raise PermissionError(f"server says no to {SECRET}")

        monkeypatch.setattr("vicinal.jobs.session.make_loaders", refuse)
        with pytest.raises(PermissionError):
            run(experiment)
    else:
        run(experiment)
    files = [file for file in experiment.folder.path.rglob("*") if file.is_file()]
    assert len(files) == (6 if fails else 10)
    assert [file.name for file in files if SECRET.encode() in file.read_bytes()] == []
    assert b"<WANDB_API_KEY>" in experiment.folder.environment.read_bytes()


def test_what_a_gpu_does_in_tf32_is_what_torch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the process, whichever of torch's two ways has set them; another device has none."""
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        assert environment.numerics(gpu) == {"tf32": "convolutions"}  # torch's own default
        monkeypatch.setenv("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1")
        assert environment.numerics(gpu) == {"tf32": "matrix products and convolutions"}
        monkeypatch.setenv("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "0")
        torch.set_float32_matmul_precision("high")
        assert environment.numerics(gpu) == {"tf32": "matrix products and convolutions"}
        torch.backends.cudnn.allow_tf32 = False
        assert environment.numerics(gpu) == {"tf32": "matrix products"}
        torch.set_float32_matmul_precision("highest")
        assert environment.numerics(gpu) == {"tf32": "nothing"}
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])
    assert environment.numerics(torch.device("cpu")) == {}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert environment.numerics(gpu) == {}


def test_another_tf32_is_a_difference_and_an_older_result_has_none() -> None:
    made = {"device": "cuda", "precision": "fp32", "threads": 1, "versions": {"torch": "2.15.0"}}
    then, here = (environment.fixed({**made, "tf32": tf32}) for tf32 in ("convolutions", "nothing"))
    assert environment.differences(then, here) == ["tf32 convolutions, then nothing"]
    assert environment.differences(environment.fixed(made), here) == []

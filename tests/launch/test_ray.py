"""``hydra/launcher=ray`` on two raylets: lost workers and nodes cost no result, and a hopeless run only its own."""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus

import hydra_plugins.vicinal_ray
from tests import ray_cluster
from tests.conftest import Train
from tests.sweep_commands import SMALL, SweepCommand, end_all, rows
from vicinal.errors import UserError
from vicinal.launch import ray_cluster as nodes_of
from vicinal.launch import ray_worker
from vicinal.launch.ray_worker import Place, Setup


@pytest.fixture(autouse=True)
def ray_is_here(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests that are marked ``ray`` have it; variables that it reads stay those of a test."""
    if request.node.get_closest_marker("ray") and (reason := ray_cluster.missing()):
        pytest.skip(reason)
    before = variables(dict(os.environ))
    yield
    for name in variables(dict(os.environ)):
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture
def cluster() -> Iterator[ray_cluster.Cluster]:
    with ray_cluster.running() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    yield
    end_all()


class Sweep(SweepCommand):
    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        quiet = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        super().__init__(folder, (*words, "-m"), {**os.environ, **quiet, **environment})

    def code(self) -> int:
        return self.process.wait(600)

    def epochs(self, seed: int) -> int:
        return sum(file.read_bytes().count(b"\n") for file in self.folder.glob(f"outputs/runs/*-s{seed}/metrics.jsonl"))


def variables(environment: dict[str, str]) -> dict[str, str]:
    """Those by which a command finds a cluster."""
    return {name: value for name, value in environment.items() if name.startswith("RAY_")}


def results(folder: Path) -> dict[int, dict[str, Any]]:
    found = [json.loads(file.read_text()) for file in folder.glob("outputs/runs/*/result.json")]
    return {result["config"]["seed"]: result for result in found}


@pytest.mark.slow
@pytest.mark.ray
def test_a_sweep_survives_what_a_cluster_does(cluster: ray_cluster.Cluster, tmp_path: Path) -> None:
    """The command is interrupted, a worker killed and a node lost: all runs have the rows of a serial sweep."""
    words, serial, folder = ("trainer.epochs=40", "seed=range(5)"), tmp_path / "serial", tmp_path / "ray"
    ray = ("hydra/launcher=ray", f"hydra.launcher.address={cluster.address}", "wandb.project=${oc.env:OWN}")
    own = {**variables(cluster.environment), "OWN": "of-the-command"}
    first = Sweep(folder, *words, *ray, **own)
    first.until(lambda: first.epochs(0) > 1)
    first.process.terminate()
    assert first.code() == 143
    assert "\ninterrupted: 0 of 5 runs are completed; rerun the same command to resume\n" in first.said
    assert "(seed=0 pid=" in first.said
    [record] = folder.glob("outputs/runs/*-s0/train.log")  # Ray may lose the last lines of the output
    assert "SIGINT: everything is saved" in record.read_text()
    assert first.epochs(2) == 0  # what waits does not begin
    assert not results(folder)

    again = Sweep(folder, *words, *ray, **own)
    before = again.epochs(0)
    again.until(lambda: again.epochs(0) > before)
    worker = again.until(lambda: cluster.workers(0))[0]
    os.kill(worker, signal.SIGKILL)
    again.until(lambda: [other for other in cluster.workers(0) if other != worker])
    again.until(lambda: cluster.workers(1))
    os.kill(cluster.raylet(1), signal.SIGKILL)
    assert again.code() == 0, again.said[-2000:]
    assert not list(folder.glob("outputs/.ray-*"))

    assert Sweep(serial, *words).code() == 0
    assert rows(folder) == rows(serial)
    environments = [json.loads(file.read_text()) for file in folder.glob("outputs/runs/*/environment.json")]
    assert any("continued" in record for record in environments)
    assert {result["config"]["wandb"]["project"] for result in results(folder).values()} == {"of-the-command"}


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_whose_retries_are_used_up_costs_itself_alone(tmp_path: Path) -> None:
    """On a Ray of the command's own."""
    words = ("hydra/launcher=ray", "hydra.launcher.max_retries=0", "trainer.epochs=40", "seed=range(2)")
    home = {"HOME": str(tmp_path)}  # where Ray keeps a token
    sweep = Sweep(tmp_path / "ray", *words, VICINAL_CORES="1", RAY_memory_monitor_refresh_ms="0", **home)
    sweep.until(lambda: sweep.epochs(0) > 1)
    [worker] = [
        pid
        for child in ray_cluster.children(sweep.process.pid)
        for pid in ray_cluster.children(child)
        if ray_cluster.command(pid).startswith("ray::seed=0")
    ]
    os.kill(worker, signal.SIGKILL)
    assert sweep.code() == 1
    assert sweep.said.splitlines()[-1] == "error: 1 of 2 jobs failed; the reasons are in the table"
    assert "Started a local Ray instance" not in sweep.said
    found = results(sweep.folder)
    assert found[0]["status"] == "failed"
    assert found[0]["error"].startswith("Ray: The worker died unexpectedly")
    assert found[1]["status"] == "completed"
    assert found[1]["hardware"]["threads"] == 1


@pytest.mark.ray
@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("num_cpus=0", "must be an integer >= 1"),
        ("num_cpus=.5", "must be an integer >= 1"),
        ("num_cpus=9999", "no node has more than "),
        ("num_gpus=-1", "must be null, between 0 and 1, or an integer >= 1"),
        ("num_gpus=1.5", "must be null, between 0 and 1, or an integer >= 1"),
        ("num_gpus=true", "must be null, between 0 and 1, or an integer >= 1"),
        ("num_gpus=0.5", "no node has more than 0, so a run would wait for ever"),
        ("max_retries=x", "must be an integer >= 0, or -1 for no limit"),
        ("max_retries=-2", "must be an integer >= 0, or -1 for no limit"),
        ("retry_exceptions=1", "must be true or false"),
        ("runtime_env=x", "must be a mapping"),
        ("runtime_env.env_vars={A:1}", "runtime_env['env_vars'] must be"),
        ("address=''", "must be null, auto or an address"),
        ("address=127.0.0.1:1", "no Ray cluster answers ([Errno 111] Connection refused)"),
        ("address=nonsense", "no Ray cluster answers (ValueError: Invalid address format: nonsense)"),
    ],
)
def test_a_wrong_value_is_one_line_before_anything_is_written(
    train: Train, tmp_path: Path, word: str, said: str
) -> None:
    key = word.partition("=")[0]
    word = f"+hydra.launcher.{word}" if "env_vars" in word else f"hydra.launcher.{word}"
    code, _, err = train(*SMALL, "hydra/launcher=ray", word, "seed=0,1", "-m")
    assert code == 1
    assert err.startswith(f"error: hydra.launcher.{key.partition('.')[0]}=")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


@pytest.mark.ray
def test_an_address_that_is_silent_is_given_up(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes_of, "ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        code, _, err = train(*SMALL, "hydra/launcher=ray", f"hydra.launcher.address={address}", "seed=0,1", "-m")
    assert code == 1
    assert err == f"error: hydra.launcher.address={address}: no Ray cluster has answered within 0.1 s\n"


def test_without_ray_its_extra_is_named(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hydra_plugins.vicinal_ray, "find_spec", lambda name: None)
    code, _, err = train(*SMALL, "hydra/launcher=ray", "seed=0,1", "-m")
    assert (code, err) == (1, "error: hydra/launcher=ray needs ray: pip install -e '.[ray]'\n")


@pytest.mark.parametrize(
    ("cpus", "gpus", "places"),
    [(1, 0, 8), (3, 0, 2), (9, 0, 0), (1, 1, 2), (1, 2, 1), (1, 0.5, 4), (1, 0.4, 4), (1, 0.6, 2), (4, 0.25, 2)],
)
def test_how_many_runs_a_node_has_room_for(cpus: int, gpus: float, places: int) -> None:
    """A part of a GPU is a part of one GPU."""
    assert nodes_of.Node("", "", 8, 2).places(cpus, gpus) == places
    assert nodes_of.Node("", "", 99, 1).places(1, 0.1) == 10  # although 1 // 0.1 is 9


def test_what_no_single_node_has_is_refused() -> None:
    nodes = [nodes_of.Node("", "", 64, 0), nodes_of.Node("", "", 4, 8)]
    nodes_of.check_room(nodes, 4, 8)
    for cpus, gpus, said in (
        (65, 0, "hydra.launcher.num_cpus=65: no node has more than 64, so a run would wait for ever"),
        (1, 9, "hydra.launcher.num_gpus=9: no node has more than 8, so a run would wait for ever"),
        (5, 1, "hydra.launcher.num_gpus=1: no node has so many GPUs and hydra.launcher.num_cpus=5"),
    ):
        with pytest.raises(UserError) as refusal:
            nodes_of.check_room(nodes, cpus, gpus)
        assert str(refusal.value).startswith(said)


# What a worker does, in this process.


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place as if another command had described it; what it changes of this process is put back."""
    environment, path, folder = dict(os.environ), sys.path[:], Path.cwd()
    monkeypatch.setattr(ray_worker, "_node", lambda: "10.0.0.3")
    (tmp_path / "mark").touch()
    yield Place({"PATH": os.environ["PATH"], "VICINAL_DATA": "/data"}, str(tmp_path), (), "out", f"{tmp_path}/mark")
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    os.chdir(folder)


def returns(done: JobReturn) -> Callable[..., bytes]:
    def job(raises: bool = False) -> bytes:
        import cloudpickle

        return bytes(cloudpickle.dumps(lambda number, words: done))

    return job


def test_a_worker_is_where_the_command_is(here: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")  # Ray sets it, and torch would obey
    monkeypatch.setenv("RAY_JOB_ID", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert ray_worker.look(here) == ""
    assert Path.cwd() == tmp_path.resolve()
    assert {name: value for name, value in os.environ.items() if name != "PATH"} == {
        "VICINAL_DATA": "/data",
        "RAY_JOB_ID": "1",
        "CUDA_VISIBLE_DEVICES": "3",
    }


def test_a_node_without_the_shared_disk_is_named(here: Place, tmp_path: Path) -> None:
    (tmp_path / "mark").unlink()
    shared = "node 10.0.0.3 does not see it; on several machines it has to be on a shared disk"
    assert ray_worker.look(here) == f"output_dir=out: {shared}"
    away = Place(here.environment, f"{tmp_path}/away", (), "out", here.mark)
    assert ray_worker.look(away) == (
        f"node 10.0.0.3 does not see this folder: {tmp_path}/away (No such file or directory)"
    )


@pytest.mark.parametrize(("gpus", "seen"), [(True, "3"), (False, "")])
def test_a_run_sees_the_gpus_that_ray_gives_it(
    here: Place, monkeypatch: pytest.MonkeyPatch, gpus: bool, seen: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    done = JobReturn(status=JobStatus.COMPLETED, _return_value=0.5)
    assert ray_worker.work(Setup(here, gpus, False, returns(done)()), 0, []).return_value == 0.5
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


@pytest.mark.parametrize("raises", [False, True])
def test_a_run_that_fails_is_done_again_if_that_is_asked_for(here: Place, raises: bool) -> None:
    """Ray does so with a task that raises."""
    setup = Setup(here, False, raises, returns(JobReturn(status=JobStatus.FAILED, _return_value=UserError("bad")))())
    if raises:
        with pytest.raises(UserError, match="bad"):
            ray_worker.work(setup, 0, [])
    else:
        assert ray_worker.work(setup, 0, []).status == JobStatus.FAILED


def _stopped(number: int, words: Sequence[str]) -> JobReturn:
    os.kill(os.getpid(), int(words[0]))
    return JobReturn(status=JobStatus.COMPLETED)


@pytest.mark.parametrize(
    ("number", "end"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)],
)
def test_a_signal_before_the_training_ends_the_task(
    here: Place, number: signal.Signals, end: type[BaseException]
) -> None:
    import cloudpickle

    before = signal.getsignal(number)
    with pytest.raises(end):
        ray_worker.work(Setup(here, False, False, cloudpickle.dumps(_stopped)), 0, [str(int(number))])
    assert signal.getsignal(number) is before

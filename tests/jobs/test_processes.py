"""Several processes train one run: the same bytes as one, whatever happens to them on the way."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from vicinal.tracking.run_files import TIME_FIELDS

from ..forked import ROOT, Forked
from ..proc import processes_with

pytestmark = pytest.mark.slow

TINY = (
    "dataset.train_size=90",  # batches of 32, 32 and 26, whose parts are not all of one size
    "dataset.val_size=50",
    "trainer.batch_size=32",
    "trainer.epochs=2",
    "trainer.threads=1",
    "trainer.eval_batch_size=100",
    "trainer.log_every=1",
    "trainer.shards=4",
    "trainer.deterministic=true",
    "tracker=none",
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
STRATEGIES = ("none", "manifold", "cutmix mixup.per_sample=true", "puzzlemix", "regmixup", "remix")
NORMALISED = ("model=preact_resnet18", "model.width=16")
NETWORKS = {
    "cnn": (),
    "averaged weights, dropout, fp32": (
        "model=mlp",
        "model.dropout=0.3",
        "trainer.ema_decay=0.9",
        *["trainer.precision=fp32"],
    ),
    "batch norm in bf16": (*NORMALISED, "trainer.precision=bf16", "dataset.augment=true"),
    "a strategy that asks the network before": (*NORMALISED, "mixup=puzzlemix", "trainer.epochs=1"),
}


def start(folder: Path, size: int, words: Sequence[str]) -> list[Forked]:
    """Start the processes of a run as torchrun does."""
    folder.mkdir(exist_ok=True)
    meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": free_port(), "WORLD_SIZE": str(size)}
    return [
        Forked(
            words,
            folder,
            folder / f"out{rank}.txt",
            {**ENVIRONMENT, **(meeting if size > 1 else {}), "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(size)
    ]


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return str(free.getsockname()[1])


def said(folder: Path, rank: int = 0) -> str:
    return (folder / f"out{rank}.txt").read_text()


def forget(folder: Path) -> None:
    for out in folder.glob("out*.txt"):
        out.unlink()


def train(folder: Path, size: int, words: Sequence[str] = TINY) -> Path:
    """Train to the end, and return the folder of the run."""
    processes = start(folder, size, words)
    codes = [process.wait(300) for process in processes]
    assert codes == [0] * size, "\n".join(said(folder, rank)[-1000:] for rank in range(size))
    for rank in range(1, size):
        assert said(folder, rank) == ""
    [run] = folder.glob("outputs/runs/*")
    return run


def record(run: Path) -> tuple[bytes, list[dict[str, Any]], dict[str, Any]]:
    """All that a run has found, without the times: bytes of the weights, rows, scores."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    result = json.loads((run / "result.json").read_text())
    kept = {key: result[key] for key in ("run_id", "test", "val", "val_best", "best_epoch", "status")}
    rows = [{key: row[key] for key in row if key not in TIME_FIELDS} for row in rows]
    return (run / "checkpoint.pt").read_bytes(), rows, kept


@pytest.mark.parametrize("words", NETWORKS.values(), ids=NETWORKS.keys())
def test_the_number_of_processes_changes_nothing(words: tuple[str, ...], tmp_path: Path) -> None:
    runs = {size: train(tmp_path / str(size), size, [*TINY, *words]) for size in (1, 2, 4)}
    assert json.loads((runs[4] / "result.json").read_text())["hardware"]["processes"] == 4
    for name in ("result.json", "metrics.jsonl", "predictions.npz", "mixed.png"):
        assert (runs[2] / name).exists()
    assert (runs[1] / "mixed.png").read_bytes() == (runs[4] / "mixed.png").read_bytes()
    assert (runs[1] / "predictions.npz").read_bytes() == (runs[4] / "predictions.npz").read_bytes()
    assert record(runs[1]) == record(runs[2]) == record(runs[4])


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda words: words.partition(" ")[0])
def test_every_strategy_has_the_same_bits_in_two_processes(strategy: str, tmp_path: Path) -> None:
    words = [*TINY, "trainer.shards=2", "trainer.epochs=1", *f"mixup={strategy}".split()]
    assert record(train(tmp_path / "one", 1, words)) == record(train(tmp_path / "two", 2, words))


def test_sums_of_any_order_differ_in_the_last_digits_alone(tmp_path: Path) -> None:
    words = [*TINY, "trainer.deterministic=false", "trainer.epochs=1", "trainer.precision=fp32"]
    (_, [one], _), (_, [four], _) = (record(train(tmp_path / str(size), size, words)) for size in (1, 4))
    assert one["mixing/lam"] == four["mixing/lam"]
    assert four["train/loss"] == pytest.approx(one["train/loss"], rel=1e-5)
    assert four["val/nll"] == pytest.approx(one["val/nll"], rel=1e-4)


def test_a_run_goes_on_in_another_number_of_processes(tmp_path: Path) -> None:
    words = [*TINY, "trainer.epochs=3", "model=mlp", "model.dropout=0.3", "trainer.checkpoint_every=1steps"]
    whole, struck = train(tmp_path / "whole", 1, words), tmp_path / "struck"
    for size, signalled, number in ((2, 1, signal.SIGTERM), (1, 0, signal.SIGINT), (4, 2, signal.SIGUSR1)):
        processes = start(struck, size, words)
        wait_for_steps(struck, processes)
        processes[signalled].send_signal(number)
        codes = [process.wait(120) for process in processes]
        if codes == [0] * size:  # it was done before the signal came
            break
        assert codes == [128 + number] * size, said(struck)
        assert "everything is saved" in said(struck)
        assert all(said(struck, rank) == "" for rank in range(1, size))
    forget(struck)
    assert record(train(struck, 2, words)) == record(whole)


def test_the_death_of_one_process_ends_all_and_costs_no_bit(tmp_path: Path) -> None:
    words = [*TINY, "trainer.epochs=3", "trainer.checkpoint_every=1steps"]
    whole, struck = train(tmp_path / "whole", 2, words), tmp_path / "struck"
    for dead in (1, 0):
        processes = start(struck, 2, words)
        wait_for_steps(struck, processes)
        processes[dead].kill()
        assert processes[dead].wait(60) == -signal.SIGKILL
        assert processes[1 - dead].wait(60) == 1
        line = said(struck, 1 - dead).splitlines()[-1]
        assert line.startswith("error: another process" if dead else "rank 1: error: another process"), line
    forget(struck)
    assert record(train(struck, 2, words)) == record(whole)


def wait_for_steps(folder: Path, processes: list[Forked]) -> None:
    """Wait until the run has a checkpoint that is newer than this session."""
    began = time.time()
    while not any(path.stat().st_mtime > began for path in folder.glob("outputs/runs/*/checkpoint.pt")):
        assert all(process.poll() is None for process in processes), said(folder)
        time.sleep(0.005)


def test_what_is_completed_or_wrong_ends_all_processes(tmp_path: Path) -> None:
    train(tmp_path, 2)
    processes = start(tmp_path, 2, TINY)
    assert [process.wait(60) for process in processes] == [0, 0]
    assert "already completed" in said(tmp_path)
    for words, line in {
        "trainer.shards=3": "error: trainer.shards=3: must be a multiple of 2, the number of processes: 2 or auto",
        "dataset.train_size=10 trainer.shards=8": "error: trainer.shards=8: must be at most 5, half of the training "
        "images",
        "trainer.shards=32": "error: trainer.shards=32: must be at most 16, half of trainer.batch_size",
        "seed=0,1 -m": "error: -m: 2 processes are for one run; start the sweep without torchrun or srun; "
        "hydra/launcher=parallel trains several runs at a time, hydra/launcher=slurm hydra.launcher.tasks_per_node=N "
        "each run in N processes",
    }.items():
        folder = tmp_path / "wrong"
        processes = start(folder, 2, [*TINY, *words.split()])
        codes = [process.wait(60) for process in processes]
        assert codes[0] == 1
        assert said(folder).splitlines()[-1] == line
        assert said(folder, 1) == ""
        assert not (folder / "outputs").exists()


def test_torchrun_itself(tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    words = [*TINY, "trainer.shards=auto", f"output_dir={tmp_path}/outputs", "tracker=wandb", "wandb.mode=offline"]
    done = subprocess.run(
        [*torchrun, str(ROOT / "train.py"), *words],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    [run] = tmp_path.glob("outputs/runs/*")
    result = json.loads((run / "result.json").read_text())
    assert (result["config"]["trainer"]["shards"], result["hardware"]["processes"]) == (2, 2)
    assert len(list(tmp_path.rglob("run-*.wandb"))) == 1  # of rank 0
    assert torch.load(run / "checkpoint.pt", weights_only=True)["epoch"] == 2


def test_torchrun_starts_a_run_again_whose_process_died(tmp_path: Path) -> None:
    words = [*TINY, "trainer.shards=auto", "trainer.epochs=20", "trainer.checkpoint_every=1steps"]
    port = free_port()
    flags = ("--nproc-per-node=2", f"--master-port={port}", "--max-restarts=1")
    with (tmp_path / "out.txt").open("wb") as out:
        torchrun = subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *flags, str(ROOT / "train.py"), *words],
            cwd=tmp_path,
            env=ENVIRONMENT,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        while not list(tmp_path.glob("outputs/runs/*/checkpoint.pt")):
            assert torchrun.poll() is None, (tmp_path / "out.txt").read_text()[-2000:]
            time.sleep(0.005)
        [second] = processes_with(MASTER_PORT=port, RANK="1")
        os.kill(second, signal.SIGKILL)
        code = torchrun.wait(300)
    finally:
        torchrun.kill()
        torchrun.wait()
    told = (tmp_path / "out.txt").read_text()
    assert code == 0, told[-2000:]
    assert told.count("each batch in 2 parts (trainer.shards), by 2 processes") == 2  # by rank 0
    assert told.count("going on in epoch") == 1
    [run] = tmp_path.glob("outputs/runs/*")
    assert record(run) == record(train(tmp_path / "whole", 2, words))

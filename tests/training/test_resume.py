"""A run that was interrupted and continued is the run that was not, to the last bit; and the comparison can tell."""

import copy
import io
import json
import logging
import re
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from vicinal.data import Loader
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs import session
from vicinal.jobs.run import run
from vicinal.mixing import MixPlan
from vicinal.runs import checkpoint
from vicinal.runs.folder import RunFolder
from vicinal.tracking.console import Console
from vicinal.tracking.run_files import TIME_FIELDS, RunFiles
from vicinal.tracking.wandb.tracker import WandbTracker
from vicinal.training import loop
from vicinal.training.learner import Learner
from vicinal.training.state import TrainState
from vicinal.training.train_metrics import DivergedError

Compose = Callable[..., Experiment]
Record = dict[str, Any]

TINY = (
    "output_dir=outputs",
    "dataset.train_size=130",  # four batches of 30, and one of 10
    "dataset.val_size=50",
    "trainer.batch_size=30",
    "trainer.epochs=3",
    "trainer.precision=fp32",
    "trainer.threads=1",
    "trainer.eval_batch_size=150",  # three batches of test images
)
STEPS = 5
EPOCHS = 3
MLP = ("model=mlp", "model.hidden=[16]", "model.dropout=0.2", *TINY)


class Killed(BaseException):
    """A kill -9, as far as a process can do that to itself: nobody catches it, nothing is saved."""


PLACES = {
    "step": (Learner, "step"),
    "begin": (Loader, "pending"),
    "evaluation": (loop, "evaluate"),
    "row": (RunFiles, "epoch"),
    "end_epoch": (TrainState, "end_epoch"),
    "best": (loop, "score_best_epoch"),
    "finish": (Console, "finish"),
    "complete": (RunFolder, "complete"),
}


class Events:
    """Counts what happens in a run, and does something at a moment: (name, number from 1, what to do)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        self.before: dict[tuple[str, int], Callable[[], object]] = {}
        self.after: dict[tuple[str, int], Callable[[], object]] = {}
        for name, (owner, attribute) in PLACES.items():
            monkeypatch.setattr(owner, attribute, self._watched(name, getattr(owner, attribute)))

    def _watched(self, name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **keys: Any) -> Any:
            self.counts[name] += 1
            moment = name, self.counts[name]
            self.before.pop(moment, int)()
            value = original(*args, **keys)
            self.after.pop(moment, int)()
            return value

        return watched


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> Events:
    return Events(monkeypatch)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the output folder is relative, so that no path tells two tests' results apart


def record(experiment: Experiment) -> Record:
    """All that a run leaves behind, but times."""
    folder = experiment.folder
    result = json.loads(folder.result.read_bytes())
    assert {"seconds", "images_per_second", "wandb"} < result.keys()
    for name in ("seconds", "images_per_second", "wandb", "checksum"):
        del result[name]
    rows = folder.metrics.read_text()
    text, count = re.subn(rf', "({"|".join(TIME_FIELDS)})": [^,}}]+', "", rows)
    assert count == len(TIME_FIELDS) * len(rows.splitlines()) == len(TIME_FIELDS) * experiment.trainer.epochs
    assert not folder.previous.exists()
    files = {"weights": folder.checkpoint.read_bytes(), "predictions": folder.predictions.read_bytes()}
    return {**files, "rows": text, "result": result}


WHOLE: dict[tuple[str, ...], Record] = {}


def uninterrupted(compose: Compose, *words: str) -> Record:
    """What a run leaves that nobody interrupts."""
    if words not in WHOLE:
        experiment = compose(*words)
        run(experiment)
        WHOLE[words] = record(experiment)
        shutil.rmtree(experiment.folder.path)
    return WHOLE[words]


@contextmanager
def interrupted() -> Iterator[None]:
    with pytest.raises(SystemExit) as stop:
        yield
    assert stop.value.code == 128 + signal.SIGTERM


def terminate() -> None:
    signal.raise_signal(signal.SIGTERM)


def kill() -> None:
    raise Killed


def finished(compose: Compose, *words: str) -> Record:
    """Go on until done."""
    experiment = compose(*words)
    run(experiment)
    return record(experiment)


def assert_same(ours: Record, theirs: Record) -> None:
    assert ours["rows"] == theirs["rows"]
    assert ours["result"] == theirs["result"]
    assert ours["weights"] == theirs["weights"]
    assert ours["predictions"] == theirs["predictions"]


STRATEGIES = ("mixup=none", "mixup=input", "mixup=manifold mixup.alpha=1", "mixup=cutmix mixup.alpha=1")
METHODS = (
    *(
        "resizemix",
        "fmix",
        "gridmix",
        "smoothmix",
        "saliencymix",
        "puzzlemix",
        "patchup mixup.block=3",
        "alignmix",
        "moex",
    ),
    *(
        "noisy_features",
        "ricap",
        "zeta",
        "cutout mixup.size=3",
        "random_erasing",
        "regmixup",
        "remix",
        "unimix",
        "balanced",
        "one_of",
    ),
)
VARIANTS = {
    **{method.split()[0]: f"mixup={method}" for method in METHODS},
    "transmix": "model=vit_tiny model.width=16 optimizer=adamw optimizer.lr=0.001 mixup=transmix",
    "three-in-a-window": "mixup=input mixup.members=3 mixup.window=[0.2,0.8] mixup.alpha_end=2 mixup.per_sample=true",
    "parts": "mixup=manifold mixup.law=truncated mixup.low=0.3 mixup.partner=other_class mixup.labels=majority",
    "nearest-tapered": "mixup=cutmix mixup.law=uniform mixup.partner=nearest mixup.taper=true mixup.clean_weight=1-lam",
    **{strategy.split()[0]: strategy for strategy in STRATEGIES},
    **{f"{strategy.split()[0]}-bf16-ema": f"{strategy} trainer.precision=bf16 trainer.ema_decay=0.7"
       for strategy in STRATEGIES},
    "per-sample": "mixup=cutmix mixup.per_sample=true mixup.prob=0.7",
    "manifold-per-sample-blocks": "mixup=manifold mixup.layers=[input,block1,hidden] mixup.per_sample=true",
    "augmented": "dataset.augment=true dataset.flip=true dataset.crop_padding=2",
    "mirrored-by-turns": "dataset.augment=true dataset.flip=alternating dataset.crop_fill=reflect",
    "augmented-cutmix-ema": "dataset.augment=true mixup=cutmix trainer.ema_decay=0.9 trainer.label_smoothing=0.1",
    "augmix-dropout": "dataset.augment=augmix",
    "class-balanced": "dataset.sampler=class_balanced mixup=remix",
    "no-validation": "dataset.val_size=0 trainer.ema_decay=0.5",
    "one-image-left-over": "dataset.train_size=121",
    "adamw": "optimizer=adamw optimizer.lr=0.01",
    "adam-bf16-ema": "optimizer=adam trainer.precision=bf16 trainer.ema_decay=0.7",
    "sgd-plain": "optimizer.momentum=0 scheduler=constant",
    "nesterov-clipped": "optimizer.nesterov=true trainer.clip_grad_norm=0.5",
    "constant-warm-up": "scheduler=constant scheduler.warmup_epochs=1.5",
    "cosine-warm-up": "scheduler=cosine scheduler.warmup_epochs=1.5 scheduler.min_lr=0.001",
    "multistep": "scheduler=multistep scheduler.milestones=[1,2.2]",
    "multistep-warm-up-adamw": "scheduler=multistep scheduler.milestones=[1,2.2] scheduler.warmup_epochs=0.6 "
                               "optimizer=adamw",
    "onecycle": "scheduler=onecycle",
    "norm-biases-apart": "model=preact_resnet18 model.width=4 optimizer.norm_bias_lr=8 scheduler=onecycle "
                         "scheduler.anneal_strategy=linear",
    "onecycle-adamw-ema": "scheduler=onecycle optimizer=adamw trainer.ema_decay=0.7",
    "batch-norm": "model=preact_resnet18 model.width=4 trainer.ema_decay=0.7 mixup=manifold",
    "batch-norm-channels-first": "model=preact_resnet18 model.width=4 trainer.channels_last=false mixup=cutmix",
    "perceptron": "model=mlp model.hidden=[16] model.dropout=0.3 mixup=manifold",
    "looks-at-every-step": "trainer.log_every=1",
}  # fmt: skip
"""What is told apart from the tiny default: each part of a checkpoint is at work in some."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_interrupted_twice(compose: Compose, events: Events, variant: str) -> None:
    """In the second step, where the panel of mixed images is half full, and late, in the epoch of the verdict."""
    words = (*TINY, *VARIANTS[variant].split())
    whole = uninterrupted(compose, *words)
    steps = events.counts["step"]
    events.counts.clear()
    events.after |= {("step", 2): terminate, ("step", 2 * steps // 3 + 1): terminate}
    for _ in range(2):
        with interrupted():
            run(compose(*words))
    assert_same(finished(compose, *words), whole)
    assert events.counts["step"] == steps == EPOCHS * (4 if variant == "one-image-left-over" else STEPS)


MOMENTS = {
    "first-step": ("after", "step", 1),
    "inside-the-first-step": ("before", "step", 1),
    "inside-the-panel": ("after", "step", 3),
    "panel-just-full": ("after", "step", 4),
    "last-step-of-an-epoch": ("after", "step", STEPS),
    "clean-training-images": ("before", "evaluation", 1),
    "validation": ("before", "evaluation", 2),
    "test": ("before", "evaluation", 3),
    "epoch-is-about-to-end": ("before", "end_epoch", 1),
    "epoch-has-ended": ("after", "end_epoch", 1),
    "row-is-written": ("before", "row", 2),
    "row-was-written": ("after", "row", 2),
    "next-epoch-has-begun": ("after", "begin", 2),
    "first-step-of-the-next": ("after", "step", STEPS + 1),
    "first-step-of-the-last-epoch": ("after", "step", 2 * STEPS + 1),
    "last-step": ("after", "step", 3 * STEPS),
    "last-validation": ("before", "evaluation", 8),
    "last-test": ("before", "evaluation", 9),
    "after-the-last-row": ("after", "row", 3),
    "best-weights-are-tested": ("before", "best", 1),
    "after-the-verdict": ("after", "best", 1),
    "all-is-told": ("after", "finish", 1),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_interrupted_at_any_moment(compose: Compose, events: Events, moment: str) -> None:
    words = (*TINY, "mixup=manifold", "trainer.ema_decay=0.7", "dataset.augment=true")
    whole = uninterrupted(compose, *words)
    events.counts.clear()
    when, name, number = MOMENTS[moment]
    getattr(events, when)[name, number] = terminate
    with interrupted():
        run(compose(*words))
    assert_same(finished(compose, *words), whole)
    assert events.counts["step"] == EPOCHS * STEPS  # not one is repeated
    assert not events.before
    assert not events.after


@settings(
    max_examples=20,
    phases=[Phase.explicit, Phase.generate],  # a shorter example would say no more
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    variant=st.sampled_from(sorted(set(VARIANTS) - {"batch-norm", "batch-norm-channels-first"})),
    cuts=st.lists(st.tuples(st.integers(1, 9), st.sampled_from([terminate, kill])), min_size=1, max_size=4),
    every=st.sampled_from(["1", "2", "3steps", "1steps", "7steps"]),
)
@pytest.mark.slow
def test_interrupted_and_killed_anywhere(
    compose: Compose, events: Events, variant: str, cuts: list[tuple[int, Callable[[], None]]], every: str
) -> None:
    """Each cut is after some steps of its own session."""
    words = (*TINY, *VARIANTS[variant].split(), f"trainer.checkpoint_every={every}")
    whole = uninterrupted(compose, *words)
    experiment = compose(*words)
    for number, action in cuts:
        events.counts.clear()
        events.after = {("step", number): action}
        with suppress(SystemExit, Killed):
            run(compose(*words))
    events.after = {}
    assert_same(finished(compose, *words), whole)
    shutil.rmtree(experiment.folder.path)


@pytest.mark.parametrize("moment", ["inside-the-panel", "validation", "next-epoch-has-begun", "last-step"])
def test_interrupted_where_checkpoints_are_written_beside_the_training(
    compose: Compose, events: Events, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """As on a GPU: each file has the bytes of its moment, and the last one is there when the process leaves."""
    words = (*TINY, "mixup=manifold", "trainer.ema_decay=0.7", "trainer.checkpoint_every=1steps")
    whole = uninterrupted(compose, *words)
    monkeypatch.setattr(session, "writes_beside", lambda experiment: True)
    asked, written, write = [], [], checkpoint.save

    def ask(content: dict[str, Any]) -> dict[str, Any]:
        asked.append(io.BytesIO())
        torch.save(checkpoint._plain({"run_id": experiment.run_id, **content}), asked[-1])
        return copied(content)

    def save(file: Path, content: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint._plain(content), buffer)
        written.append(buffer)
        assert threading.current_thread() is not threading.main_thread() or "training" not in content
        write(file, content)

    copied = checkpoint.copied
    monkeypatch.setattr(checkpoint, "copied", ask)
    monkeypatch.setattr(checkpoint, "save", save)
    experiment = compose(*words)
    events.counts.clear()
    when, name, number = MOMENTS[moment]
    getattr(events, when)[name, number] = terminate
    with interrupted():
        run(experiment)
    assert [each.getvalue() for each in written] == [each.getvalue() for each in asked]
    assert_same(finished(compose, *words), whole)
    assert events.counts["step"] == EPOCHS * STEPS  # not one is repeated


def test_an_error_of_a_checkpoint_beside_the_training_is_that_of_one_in_line(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the file before stays."""
    write, reasons, left = checkpoint.write, [], []

    def full(file: Path, data: bytes, durable: bool = True) -> None:
        if len(calls) == 2:
            raise OSError(28, "No space left on device", str(file))
        calls.append(write(file, data, durable))

    monkeypatch.setattr(checkpoint, "write", full)
    for beside in (False, True):
        calls: list[None] = []
        monkeypatch.setattr(session, "writes_beside", lambda experiment, beside=beside: beside)
        experiment = compose(*MLP)
        with pytest.raises(OSError, match="No space left on device"):
            run(experiment)
        reasons.append(json.loads(experiment.folder.result.read_bytes())["error"])
        left.append(len(checkpoint.load(experiment.folder.checkpoint)["training"]["history"]["rows"]))
        shutil.rmtree(experiment.folder.path)
    assert reasons[0] == reasons[1]
    assert left == [1, 1]


def test_after_a_checkpoint_that_could_not_be_written_the_next_one_is(
    compose: Compose, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In line, where an error of the disk has passed; and the result is that of a training without it."""
    whole = uninterrupted(compose, *MLP)
    write, threads = checkpoint.write, []

    def full_once(file: Path, data: bytes, durable: bool = True) -> None:
        threads.append(threading.current_thread() is threading.main_thread())
        if len(threads) == 2:
            raise OSError(28, "No space left on device", str(file))
        write(file, data, durable)

    monkeypatch.setattr(checkpoint, "write", full_once)
    monkeypatch.setattr(session, "writes_beside", lambda experiment: True)
    assert_same(finished(compose, *MLP), whole)
    assert threads[:4] == [False, False, True, False]
    assert "the last checkpoint could not be written: [Errno 28] No space left on device" in caplog.text


@pytest.mark.parametrize("every", ["1steps", "3steps", "4steps", "7steps"])
@pytest.mark.parametrize("step", [1, 5, 14])
def test_a_kill_loses_at_most_the_steps_between_two_checkpoints(
    compose: Compose, events: Events, every: str, step: int
) -> None:
    words = (*MLP, f"trainer.checkpoint_every={every}")
    whole = uninterrupted(compose, *words)
    events.counts.clear()
    events.after["step", step] = kill
    with pytest.raises(Killed):
        run(compose(*words))
    assert_same(finished(compose, *words), whole)
    number = int(every.removesuffix("steps"))
    repeated = events.counts["step"] - EPOCHS * STEPS
    assert repeated == (step - 1) % number + 1 <= number  # the step that was cut off is one of them


@pytest.mark.parametrize(
    ("every", "step", "repeated"),
    [("1", 4, 4), ("1", 6, 1), ("1", 15, 5), ("2", 10, 10), ("2", 11, 1), ("2", 15, 5), ("1epoch", 7, 2)],
)
def test_a_kill_loses_at_most_the_epochs_between_two_checkpoints(
    compose: Compose, events: Events, every: str, step: int, repeated: int
) -> None:
    words = (*MLP, f"trainer.checkpoint_every={every}")
    whole = uninterrupted(compose, *words)
    events.counts.clear()
    events.before["step", step] = kill
    with pytest.raises(Killed):
        run(compose(*words))
    assert_same(finished(compose, *words), whole)
    # The step that was cut off is counted as it begins.
    assert events.counts["step"] - EPOCHS * STEPS == repeated


@pytest.mark.parametrize("stop", [Killed, KeyboardInterrupt])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_beside_the_result(compose: Compose, events: Events, stop: type[BaseException], when: str) -> None:
    """Between the final weights and ``result.json`` nothing is trained again; after it nothing is done at all."""

    def end() -> None:
        raise stop

    words = (*MLP, "trainer.ema_decay=0.7")
    whole = uninterrupted(compose, *words)
    getattr(events, when)["complete", events.counts["complete"] + 1] = end
    with pytest.raises(stop):
        run(compose(*words))
    assert compose(*words).folder.result.exists() == (when == "after")
    events.counts.clear()
    assert_same(finished(compose, *words), whole)
    assert events.counts["step"] == 0
    assert events.counts["complete"] == (when == "before")


def test_killed_as_the_final_weights_are_taken_out_of_the_way(
    compose: Compose, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = uninterrupted(compose, *MLP)
    events.before["complete", events.counts["complete"] + 1] = kill
    with pytest.raises(Killed):
        run(compose(*MLP))
    for target in ("vicinal.jobs.provenance.write", "vicinal.jobs.session.restore", "vicinal.runs.checkpoint.keep"):
        with monkeypatch.context() as patch:
            patch.setattr(target, lambda *_: kill())
            with pytest.raises(Killed):
                run(compose(*MLP))
    events.counts.clear()
    assert_same(finished(compose, *MLP), whole)
    assert events.counts["step"] == 0


def test_rows_newer_than_the_checkpoint_are_taken_back(compose: Compose, events: Events) -> None:
    words = (*MLP, "trainer.checkpoint_every=3")
    whole = uninterrupted(compose, *words)
    events.counts.clear()
    events.before["step", 12] = kill
    experiment = compose(*words)
    with pytest.raises(Killed):
        run(experiment)
    rows = experiment.folder.rows()
    assert [row["epoch"] for row in rows] == [1, 2]
    with experiment.folder.metrics.open("a") as metrics:
        metrics.write('{"epoch": 3, "st')  # and a kill in the middle of a line
    events.counts.clear()
    seen: list[str] = []
    events.before["step", 1] = lambda: seen.append(experiment.folder.metrics.read_text())
    assert_same(finished(compose, *words), whole)
    assert seen == [""]  # the only checkpoint is of the very beginning


def test_the_console_goes_on_where_it_was(
    compose: Compose, events: Events, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run(compose(*MLP))
    lines = _console_lines(capsys.readouterr().out)
    shutil.rmtree("outputs")
    events.counts.clear()
    events.after["step", STEPS + 2] = terminate
    with interrupted():
        run(compose(*MLP))
    assert "SIGTERM: everything is saved; rerun the same command to resume" in caplog.messages
    run(compose(*MLP))
    assert _console_lines(capsys.readouterr().out) == lines
    assert len(lines) == EPOCHS
    assert "going on in epoch 2 after step 2" in caplog.messages


def _console_lines(out: str) -> list[str]:
    return [line.split("  lr ")[0] for line in out.splitlines() if line.startswith("epoch ")]


def test_sessions_that_differ_are_said(
    compose: Compose, events: Events, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    words = tuple(word for word in MLP if not word.startswith("trainer.threads"))
    describe = session.describe

    def elsewhere(threads: int, torch_version: str, laws: str = "0", digits: str = "0") -> None:
        def described(*args: Any) -> dict[str, Any]:
            about = describe(*args)
            about["sources"]["vicinal/mixing/laws.py"] = laws
            return about | {"versions": about["versions"] | {"torch": torch_version}}

        monkeypatch.setattr("vicinal.training.hardware.auto_threads", lambda: threads)
        monkeypatch.setattr(session, "describe", described)
        monkeypatch.setattr("vicinal.build._file_hashes", lambda experiment: {"digits.csv.gz": digits})

    for threads, version in ((1, "2.13.0+cpu"), (2, "2.13.0+cu130")):
        elsewhere(threads, version)
        events.counts.clear()
        events.after["step", 3] = terminate
        with interrupted():
            run(compose(*words))
    elsewhere(2, "2.15.0", laws="1", digits="1")
    result = run(compose(*words))
    assert result["data"] == {"digits.csv.gz": "1"}
    changes = {
        "threads 1, then 2": "the last bits may differ",
        "torch 2.13.0, then 2.15.0": "the last bits may differ",
        "other code (vicinal/mixing/laws.py)": "rerun=true trains from the beginning",
        "other data (digits.csv.gz)": "rerun=true trains from the beginning",
    }
    assert result["changed"] == list(changes)
    warnings = [text for text in caplog.messages if "not continued as it was begun" in text]
    assert warnings == [f"it is not continued as it was begun: {what}; {then}" for what, then in changes.items()]


# The negative control: a checkpoint that forgets or changes one part, and a comparison that has to notice.

RICH = (
    *TINY,
    "mixup=manifold",
    "mixup.layers=[input,block1,hidden]",
    "mixup.alpha=1",
    "dataset.augment=true",
    "trainer.ema_decay=0.7",
    "scheduler.warmup_epochs=0.5",
)
"""Every part of the state is at work."""
CUT = STEPS + 3

State = dict[str, Any]
Change = Callable[[State], object]


def nudge(tensor: torch.Tensor) -> None:
    """One number, the largest, goes to its neighbour."""
    where = largest(tensor)
    tensor[where] = torch.nextafter(tensor[where], torch.tensor(torch.inf))


def push(tensor: torch.Tensor) -> None:
    """One number, the largest, changes by so much that steps of the learning rate's size do not round it away."""
    tensor[largest(tensor)] *= 1.01


def largest(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.unravel_index(tensor.abs().argmax(), tensor.shape)


def advance(state: State, key: str) -> None:
    """One number more has been drawn from a stream."""
    generator = torch.Generator()
    generator.set_state(state[key])
    torch.rand(1, generator=generator)
    state[key] = generator.get_state()


def fresh(state: State, key: str) -> None:
    """The stream begins again."""
    state[key] = torch.Generator().manual_seed(0).get_state()


def whole(state: State) -> State:
    """The sums over whole batches: those of their only part."""
    [totals] = state["totals"].values()
    return totals


def momentum(state: State) -> dict[int, State]:
    return state["learner"]["optimizer"]["state"]


CHANGES: dict[str, Change] = {
    "learner.model": lambda s: nudge(s["learner"]["model"]["block1.0.weight"]),
    "learner.model, bias": lambda s: nudge(s["learner"]["model"]["head.bias"]),
    "learner.optimizer, no momentum": lambda s: momentum(s).clear(),
    "learner.optimizer, one buffer": lambda s: momentum(s)[5]["momentum_buffer"].zero_(),
    "learner.optimizer, one number": lambda s: push(momentum(s)[0]["momentum_buffer"]),
    "learner.optimizer, learning rate": lambda s: s["learner"]["optimizer"]["param_groups"][0].update(lr=0.01),
    "learner.optimizer, weight decay": lambda s: s["learner"]["optimizer"]["param_groups"][0].update(weight_decay=0.1),
    "learner.scheduler": lambda s: s["learner"]["scheduler"].update(last_epoch=0),
    "learner.scheduler, the part": lambda s: s["learner"]["scheduler"]["_schedulers"][1].update(last_epoch=1),
    "learner.ema": lambda s: nudge(s["learner"]["ema"]["module"]["head.bias"]),
    "learner.ema, started": lambda s: s["learner"]["ema"].update(started=False),
    "learner.ema, forgotten": lambda s: s["learner"]["ema"].update(module=s["learner"]["model"]),
    "streams.epoch, order": lambda s: advance(s["streams"]["epoch"], "order"),
    "streams.epoch, order anew": lambda s: fresh(s["streams"]["epoch"], "order"),
    "streams.epoch, augmentation": lambda s: advance(s["streams"]["epoch"], "augmentation"),
    "streams.mixing": lambda s: advance(s["streams"]["mixing"], 0),
    "streams.mixing, anew": lambda s: fresh(s["streams"]["mixing"], 0),
    "streams.lent, dropout": lambda s: s["streams"]["lent"]["dropout"].__setitem__(0, s["streams"]["lent"]["init"][0]),
    "streams.lent, forgotten": lambda s: s["streams"]["lent"].pop("dropout"),
    "train_metrics.steps": lambda s: whole(s)["train_metrics"].update(steps=2),
    "train_metrics.samples": lambda s: whole(s)["train_metrics"].update(samples=89),
    "train_metrics.sums": lambda s: whole(s)["train_metrics"]["sums"].__setitem__(0, 0.0),
    "train_metrics.first_bad": lambda s: whole(s)["train_metrics"]["first_bad"].fill_(1),
    "mixing_stats.batches": lambda s: whole(s)["mixing_stats"].update(batches=4),
    "mixing_stats.samples": lambda s: whole(s)["mixing_stats"].update(samples=89),
    "mixing_stats.mixed": lambda s: whole(s)["mixing_stats"].update(mixed=89),
    "mixing_stats.layers": lambda s: whole(s)["mixing_stats"]["layers"].update(input=7),
    "mixing_stats.sums": lambda s: whole(s)["mixing_stats"]["sums"].__setitem__(0, 1.0),
    "mixing_stats.at_least": lambda s: whole(s)["mixing_stats"]["at_least"].__setitem__(19, 30),
    "mixing_stats.waiting": lambda s: whole(s)["mixing_stats"]["waiting"].pop(),
    "history.rows": lambda s: s["history"]["rows"][0].update({"val/acc1": 0.125}),
    "history.rows, forgotten": lambda s: s["history"]["rows"].clear(),
    "history.best_epoch": lambda s: s["history"].update(best_epoch=None),
    "history.best_weights": lambda s: nudge(s["history"]["best_weights"]["head.bias"]),
    "lr": lambda s: s.update(lr=0.01),
}
"""Named by the part of the state that they change, up to the comma."""
UNSEEN = {
    "learner.scaler": "empty: fp16 needs a GPU",
    "history.predictions": "empty before the end of the last epoch",
    "mixed_examples": "shown, and no part of the files: the test below",
    "clock": "times",
}


@pytest.fixture
def cut(
    compose: Compose, events: Events, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Record, Path, dict[str, Any]]:
    """What the uninterrupted run leaves, and a checkpoint in the second epoch of a run that another time has begun.

    It is interrupted once; all later tests go on from copies.
    """
    whole = uninterrupted(compose, *RICH)
    experiment, kept = compose(*RICH), tmp_path_factory.getbasetemp() / "cut"
    if not kept.exists():
        events.counts.clear()
        events.after["step", CUT] = terminate
        with interrupted():
            run(experiment)
        shutil.copytree("outputs", kept)
    elif not Path("outputs").exists():
        shutil.copytree(kept, "outputs")
    return whole, experiment.folder.checkpoint, checkpoint.load(experiment.folder.checkpoint)


def test_every_part_of_the_state_is_changed_by_the_control(cut: tuple[Record, Path, dict[str, Any]]) -> None:
    state = cut[2]["training"]
    state |= whole(state)
    del state["totals"]
    nested = ("learner", "streams", "train_metrics", "mixing_stats", "history")
    parts = {f"{name}.{part}" for name in nested for part in state[name]} | (state.keys() - set(nested))
    assert parts == {name.partition(",")[0] for name in CHANGES} | UNSEEN.keys()
    assert state["learner"]["scaler"] == {}
    assert cut[2].keys() == {"run_id", "training", "wandb_id", "made_with", "changed", "seconds"}


def test_the_control_itself_changes_nothing(compose: Compose, cut: tuple[Record, Path, dict[str, Any]]) -> None:
    whole, file, content = cut
    checkpoint.save(file, copy.deepcopy(content))
    assert_same(finished(compose, *RICH), whole)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_checkpoint_is_noticed(
    compose: Compose, cut: tuple[Record, Path, dict[str, Any]], change: str
) -> None:
    whole, file, content = cut
    if change.startswith("history.best"):  # which only counts if the first epoch stays the best
        content["training"]["history"]["rows"][0]["val/acc1"] = 1.0
        checkpoint.save(file, content)
        whole = finished(compose, *RICH)
        assert whole["result"]["best_epoch"] == 1
        compose(*RICH).folder.begin()
    CHANGES[change](content["training"])
    checkpoint.save(file, content)
    if change == "train_metrics.first_bad":
        with pytest.raises(DivergedError, match=f"since step {STEPS + 1}"):
            run(compose(*RICH))
        return
    found = finished(compose, *RICH)
    parts = {name for name in whole if found[name] != whole[name]}
    expected = {
        "train_metrics.samples": {"rows"},
        "train_metrics.sums": {"rows"},
        "lr": {"rows"},
        "history.rows": {"rows"},
    }
    assert parts >= ({"rows"} if change.startswith("mixing_stats") else expected.get(change, {"weights"}))


@pytest.mark.slow
def test_a_part_that_is_missing_is_refused(compose: Compose, cut: tuple[Record, Path, dict[str, Any]]) -> None:
    _, file, content = cut
    training = content["training"]
    lost = [(training, name) for name in training if name != "clock"]
    lost += [(training["learner"], name) for name in ("model", "optimizer", "scheduler", "ema")]
    lost += [(training["streams"], name) for name in training["streams"]]
    lost += [(training["learner"]["model"], "head.bias"), (training["learner"]["ema"], "started")]
    for state, name in lost:
        value = state.pop(name)
        checkpoint.save(file, content)
        with pytest.raises(UserError, match=rf"the checkpoint does not fit the code any more \(.*{name}"):
            run(compose(*RICH))
        state[name] = value


def test_one_mixing_draw_changes_the_weights(compose: Compose, events: Events, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lambda of one image, by one unit in the last place, in one step of fifteen."""
    words = (*TINY, "mixup=input", "mixup.alpha=1")
    whole = uninterrupted(compose, *words)
    step = Learner.step

    def nudged(self: Learner, images: torch.Tensor, labels: torch.Tensor, plan: MixPlan) -> Any:
        if events.counts["step"] == STEPS + 1:
            plan = replace(plan, lam=plan.lam.clone())
            nudge(plan.lam)
        return step(self, images, labels, plan)

    monkeypatch.setattr(Learner, "step", nudged)
    events.counts.clear()
    found = finished(compose, *words)
    assert found["weights"] != whole["weights"]
    first, *rest = zip(found["rows"].splitlines(), whole["rows"].splitlines(), strict=True)
    assert first[0] == first[1]
    assert all(ours != theirs for ours, theirs in rest)


def test_neighbouring_epochs_differ(compose: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every part that training changes; and each part says in its own way what was saved."""
    saved: list[dict[str, Any]] = []
    save = checkpoint.save

    def watched(file: Path, content: dict[str, Any]) -> None:
        saved.append(copy.deepcopy(content))
        save(file, content)

    monkeypatch.setattr(checkpoint, "save", watched)
    run(compose(*RICH))
    states = [content["training"] for content in saved if "training" in content]
    assert len(states) == 1 + EPOCHS  # the beginning is the first
    assert len(saved) == len(states) + 1
    for before, after in pairwise(states):
        same = {
            f"{name}.{part}"
            for name in ("learner", "streams", "history", "clock")
            for part in before[name]
            if written(before[name][part]) == written(after[name][part])
        }
        rarely = {"history.best_epoch", "history.best_weights", "history.predictions"}
        assert same <= rarely | {"learner.scaler", "clock.epoch"}
        assert before["lr"] != after["lr"]
        assert whole(before)["train_metrics"]["steps"] == whole(after)["train_metrics"]["steps"] == 0


def written(part: Any) -> str:
    """Text that tells two states apart to the last bit."""
    if isinstance(part, torch.Tensor):
        return str(part.dtype) + str(part.flatten().tolist())
    if isinstance(part, dict):
        return str({key: written(value) for key, value in part.items()})
    if isinstance(part, (list, tuple)):
        return str([written(value) for value in part])
    return repr(part)


@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 9])
def test_the_panel_of_mixed_images_is_the_same(
    compose: Compose, events: Events, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    shown: list[tuple[torch.Tensor, list[str]]] = []

    def show(self: WandbTracker, images: torch.Tensor, captions: list[str]) -> None:
        shown.append((images.clone(), list(captions)))

    monkeypatch.setattr(WandbTracker, "mixed_images", show)
    words = (*MLP, "mixup.alpha=1", "wandb.images=7")
    run(compose(*words))
    ((images, captions),) = shown
    assert len(images) == len(captions) == 7
    shutil.rmtree("outputs")
    shown.clear()
    events.counts.clear()
    events.after["step", step] = terminate
    with interrupted():
        run(compose(*words))
    assert len(shown) == (step >= 4)
    shown.clear()
    run(compose(*words))
    ((again, texts),) = shown  # each session shows it once
    assert torch.equal(images, again)
    assert texts == captions

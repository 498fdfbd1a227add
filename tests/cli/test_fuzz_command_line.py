"""Generated command lines, valid and not: never a traceback, one line for a mistake, and nothing left behind by it.

The lines follow from a seed, so that a failure can be run again. More of them:

    python -m tests.cli.test_fuzz_command_line 1000
"""

import gc
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import pytest

from tests import parsed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SEED, COUNT = 15, 200
SECONDS = 60
"""After which a line is taken for one that never ends."""
SMALL = ("dataset.train_size=20", "dataset.val_size=10", "trainer.batch_size=20", "trainer.clean_subset=0")
LAST = ("trainer.epochs=1", "trainer.compile=false", "trainer.threads=1", "trainer.device=cpu", "wandb.mode=disabled")
"""Words that keep what is really trained small, whatever else is asked for."""
NUMBERS = (
    *(
        "-1",
        "0",
        "1",
        "2",
        "0.5",
        "1e-320",
        "1e400",
        "-1e400",
        "nan",
        "inf",
        "-inf",
        "2147483648",
        "9223372036854775808",
    ),
    *("9" * 400, "9" * 5000, "0x10", "1_000", "1e3", "-0.0", "00", "1.5.2", "1e", "1000000", "4294967296"),
)
TEXTS = (
    *(
        "",
        "null",
        "true",
        "''",
        "a b",
        "a=b",
        "é",
        "日本",
        "%",
        "100%",
        "x,y",
        "[",
        "]",
        "{",
        "}",
        "[]",
        "{}",
        "[[1]]",
        "[null]",
    ),
    *(
        "{a:1}",
        "{a:{b:1}}",
        "[1,2,3]",
        "'a\tb'",
        "'a\nb'",
        '"~/x"',
        '"~nobody_here/x"',
        "/etc/passwd",
        "/proc/nothing/x",
    ),
    *(
        "${seed}",
        "${nothing}",
        "${",
        "${oc.env:NOT_SET}",
        "${oc.decode:x}",
        "${foo:1}",
        "\\",
        "a:b",
        "---",
        "*",
        "glob(*)",
    ),
    *("???", "auto", "cpu", "5mins", "200steps", "input", "[input,nothing]", "sort(1,2)", "choice(1,2)", "x" * 300),
)
SWEPT = (
    *(
        "1,2",
        "0.1,0.2",
        "range(3)",
        "range(0)",
        "range(0,1,0)",
        "range(1000000000)",
        "range(0,1,1e-9)",
        "interval(0,1)",
    ),
    *(
        "choice(1,2)",
        "shuffle(range(3))",
        "null,1",
        "1,1.0",
        "input,none",
        "{alpha:0.1},{alpha:0.2}",
        "[1],[2]",
        "true,false",
    ),
    *("nan,1", "range(0.1,0.4,0.1)", "glob(*)", "-1,0", "a,b,"),
)
GROUPS = {
    "dataset": ("digits", "imagefolder", "cifar10", "nothing"),
    "model": ("cnn", "mlp", "preact_resnet18", "resnet18", "wide_resnet28_10", "cn"),
    "optimizer": ("sgd", "adam", "adamw", "adamm"),
    "scheduler": ("constant", "cosine", "multistep", "onecycle", "step"),
    "mixup": ("none", "input", "manifold", "cutmix", "[input,none]", "../x"),
    "trainer": ("default", "5", "null"),
    "wandb": ("default", "off", "5", "[1]"),
    "experiment": ("mnist_cnn", "alpha_sweep", "nothing", "null"),
}
HYDRA = (
    *(
        "hydra.verbose=5",
        "hydra.mode=X",
        "hydra/launcher=nothing",
        "hydra.sweeper.max_batch_size=0",
        "hydra.job.name=[1]",
    ),
    *("hydra.job_logging=null", "hydra.searchpath=5", "~hydra", "+hydra.x=1", "hydra/sweeper=nothing", "hydra.run=5"),
)
FLAGS = (
    *(
        "--cfg job",
        "--cfg nothing",
        "--cfg",
        "--help",
        "--hydra-help",
        "--info all",
        "--info x",
        "--resolve",
        "--version",
    ),
    *(
        "--shell-completion",
        "--experimental-rerun x",
        "--config-dir nothing",
        "--config-name nothing",
        "--package mixup --cfg job",
    ),
    *("--foo", "--multirn", "--config-path x", "-x", "-1", "--", "--run", "-m --cfg job", "-sc query=bash"),
)
GARBAGE = (
    "a",
    "=",
    "=1",
    "a..b=1",
    ".a=1",
    "a.=1",
    "a =1",
    "~",
    "+",
    "++a",
    "~a.b",
    "a@b=1",
    "1=1",
    "@",
    "seed==1",
    "seed:=1",
    "'",
)
RECIPES = (
    *(
        "",
        "5",
        "- 1",
        "a: b: c",
        "\ta: 1",
        "seed: 1\nseed: 2",
        "seed: [1",
        "seed: *a",
        "seed: !!python/name:os.system",
        "seed: ${",
    ),
    *("defaults: 5", "defaults: [mixup: cutmix]", "defaults:\n  - override /mixup: x", "defaults:\n  - override /x: y"),
    *(
        "defaults:\n  - /mixup: none",
        "mixup: {alpha: .nan}",
        "trainer: {epochs: many}",
        "lr: 1",
        "hydra: {sweeper: {params: 5}}",
    ),
    *(
        "hydra: {mode: 5}",
        "hydra: {sweeper: {params: {seed: 5}}}",
        "mixup: 5",
        "trainer: []",
        "seed: 2020-01-01",
        "1: 2",
        "? [a]\n: b",
    ),
)


@dataclass
class Case:
    """One command line, and what its folder holds before."""

    words: list[str]
    recipe: bytes | None = None
    names: list[str] = field(default_factory=list)
    """Of which a refusal must have one."""


def generate(count: int, seed: int) -> Iterator[Case]:
    """So many command lines, always the same ones."""
    from vicinal.config.validation import dotted_keys

    draw = random.Random(seed)
    keys = sorted(
        {*dotted_keys(), "nothing", "lr", "trainer.nothing", "mixup.nothing.more", "model.hidden", "mixup.layers"}
    )
    for _ in range(count):
        yield _case(draw, keys)


def _case(draw: random.Random, keys: list[str]) -> Case:
    kind = draw.choices(("keys", "groups", "sweep", "hydra", "flags", "garbage", "recipe"), (40, 12, 16, 6, 8, 8, 10))[
        0
    ]
    own: list[str] = []
    recipe, dry = None, True
    if kind == "keys":
        dry = draw.random() < 0.5
        own = [_word(draw, keys, (*NUMBERS, *TEXTS)) for _ in range(draw.choice((1, 1, 1, 2)))]
    elif kind == "groups":
        chosen = draw.sample(sorted(GROUPS), draw.choice((1, 2)))
        own = [f"{draw.choice(('', '', '', '+', '~'))}{group}={draw.choice(GROUPS[group])}" for group in chosen]
        own += [_word(draw, keys, NUMBERS)] if draw.random() < 0.5 else []
    elif kind == "sweep":
        own = [_word(draw, keys, SWEPT), *(["mixup=none,input"] if draw.random() < 0.3 else []), "-m"]
    elif kind == "hydra":
        own = [draw.choice(HYDRA), *(["-m"] if draw.random() < 0.5 else [])]
    elif kind == "flags":
        own = [*draw.choice(FLAGS).split(" "), *([_word(draw, keys, NUMBERS)] if draw.random() < 0.5 else [])]
    elif kind == "garbage":
        own = [draw.choice(GARBAGE) + draw.choice(("", "", "=", "1", "%")), *(["-m"] if draw.random() < 0.2 else [])]
    else:
        head = draw.choice(("# @package _global_\n", "# @package _global_\n", "", "\ufeff# @package _global_\n"))
        recipe = (head + draw.choice(RECIPES)).encode(draw.choice(("utf-8", "utf-8", "utf-16")))
        recipe += draw.choice((b"", b"", b"\n# caf\xe9", b"\x00"))
        own = ["--config-dir", "own", "experiment=own"]
    names = [name for word in ("dry_run=true", *own) for name in _names(word)] + (
        ["own", "seed", "trainer", "mixup", "hydra"] if recipe else []
    )
    words = ["dry_run=true", *own] if dry else [*SMALL, *own, *LAST]
    return Case(words, recipe, names)


def _word(draw: random.Random, keys: list[str], values: tuple[str, ...]) -> str:
    return f"{draw.choice(('', '', '', '', '+', '++', '~'))}{draw.choice(keys)}={draw.choice(values)}"


def _names(word: str) -> list[str]:
    """What a refusal of that word may call it."""
    if word.startswith("--") or word in ("-m", "-x", "-sc"):
        return ["--"]
    key = word.partition("=")[0].strip("+~ ")
    return [name for name in (key, key.partition(".")[0], word) if name]


def faults(case: Case, code: int, out: str, err: str, left: list[str]) -> list[str]:
    """What is wrong with how a command line ended."""
    found = []
    if "Traceback" in out + err:
        found.append("a traceback")
    if code not in (0, 1) and not (code == 2 and any(word.startswith("-") for word in case.words)):
        found.append(f"exit code {code}")
    if code == 0 or code not in (1, 2):
        return found + (["a dry run leaves files"] if code == 0 and left and "dry_run=true" in case.words else [])
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    if len(lines) != 1:
        found.append(f"{len(lines)} lines that begin with error:")
    elif not any(name in lines[0] for name in case.names):
        found.append("the key is not named")
    if left and "diverged" not in err:
        found.append("files are left")
    return found


def run(case: Case, folder: Path) -> tuple[int, str, str, list[str]]:
    """The command line in a forked process, in a folder of its own: exit code, stdout, stderr and files left behind."""
    work = Path(tempfile.mkdtemp(dir=folder))
    if case.recipe is not None:
        (work / "own/experiment").mkdir(parents=True)
        (work / "own/experiment/own.yaml").write_bytes(case.recipe)
    before = set(work.rglob("*"))
    streams = [folder / f"{work.name}.out", folder / f"{work.name}.err"]
    pid = os.fork()
    if pid == 0:
        _child(case, work, streams)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    out, err = (stream.read_text(errors="replace") for stream in streams)
    left = sorted(str(path.relative_to(work)) for path in set(work.rglob("*")) - before)
    shutil.rmtree(work)
    return code, out, err, left


def _child(case: Case, work: Path, streams: list[Path]) -> None:
    code: object = 1
    try:
        os.chdir(work)
        os.environ |= {"HOME": str(work), "HYDRA_FULL_ERROR": "0"}
        for number, stream in enumerate(streams, start=1):
            os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT, 0o644), number)
        signal.alarm(SECONDS)
        sys.argv = ["train.py", *case.words]
        from vicinal.cli import train as main

        main.FULL_ERROR = False
        main.main()
        code = 0
    except SystemExit as stop:
        code = stop.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


def main(count: int, seed: int, folder: Path) -> None:
    """Run the lines one after another and print what is wrong, a JSON object a line, and how they ended."""
    import torch

    parts = ("experiment", "jobs.run", "live.monitor", "report.report")
    for name in ("torch._dynamo", *(f"vicinal.{part}" for part in parts)):
        import_module(name)  # once for all
    parsed.parse()
    gc.collect()
    gc.freeze()  # else each process would copy what it only looks at
    torch.set_num_threads(1)
    codes: dict[int, int] = {}
    for number, case in enumerate(generate(count, seed)):
        began = time.perf_counter()
        code, out, err, left = run(case, folder)
        codes[code] = codes.get(code, 0) + 1
        if wrong := faults(case, code, out, err, left):
            said = {"number": number, "wrong": wrong, "words": case.words, "recipe": repr(case.recipe), "code": code}
            print(json.dumps(said | {"seconds": time.perf_counter() - began, "left": left[:3], "said": err[-300:]}))
    print(json.dumps({"codes": codes}), flush=True)


@pytest.mark.slow
def test_generated_command_lines(tmp_path: Path) -> None:
    # a process of its own: it forks, and others in this one may have started threads
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "tests.cli.test_fuzz_command_line", str(COUNT), str(SEED), str(tmp_path)]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    *wrong, last = ended.stdout.splitlines()
    assert wrong == []
    codes = json.loads(last)["codes"]
    assert sum(codes.values()) == COUNT
    assert codes["0"] >= 20
    assert codes["1"] >= 100


if __name__ == "__main__":
    os.environ |= {"OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled", "CUDA_VISIBLE_DEVICES": ""}
    arguments = [*sys.argv[1:], *(str(COUNT), str(SEED))[len(sys.argv) - 1 :]]
    with tempfile.TemporaryDirectory() as scratch:
        main(int(arguments[0]), int(arguments[1]), Path(arguments[2] if len(arguments) > 2 else scratch))

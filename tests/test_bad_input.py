"""Wrong command lines: one line that names the key, the value and what is allowed; exit code 1; nothing left behind."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
EXPERIMENTS = ", ".join(sorted(path.stem for path in (REPO / "conf/experiment").glob("*.yaml")))
ROOT = "seed, output_dir, rerun, busy, dry_run, dataset, model, optimizer, scheduler, mixup, trainer, wandb"
TRAINER = (
    "epochs, batch_size, eval_batch_size, device, precision, threads, channels_last, compile, deterministic, "
    "label_smoothing, clip_grad_norm, ema_decay, checkpoint_every, stream, clean_subset, log_every"
)
DATASET = (
    "root, cache_dir, channels, image_size, classes, mean, std, val_size, train_size, split_seed, augment, "
    "crop_padding, flip"
)
EVERY = "must be an integer >= 1, of epochs, or of steps: 200steps"
TREE = "expected train/<class>/*.jpg and test/<class>/*.jpg"
SWEEP = "several values are a sweep, which needs -m; a list is written [a,b]"

# A command line, and its message; {tmp} is a folder with no_test/train/cat/ in it.
REFUSED = [
    # types
    ("trainer.epochs=many", "trainer.epochs=many: must be an integer >= 1"),
    ("trainer.epochs=1.5", "trainer.epochs=1.5: must be an integer >= 1"),
    ("trainer.epochs=null", "trainer.epochs=null: must be an integer >= 1"),
    ("trainer.compile=perhaps", "trainer.compile=perhaps: must be one of auto, max, true, false"),
    ("trainer.compile=max", "trainer.compile=max: must be auto, true or false: cpu has no CUDA graphs"),
    ("trainer.clip_grad_norm=big", "trainer.clip_grad_norm=big: must be null or a finite number > 0"),
    ("wandb.tags=abc", "wandb.tags=abc: must be a list of strings or null"),
    ("output_dir=null", "output_dir=null: must be a string"),
    ("optimizer.lr=fast", "optimizer.lr=fast: must be a number"),
    ("optimizer.lr=[1,2]", "optimizer.lr=[1,2]: must be a number"),
    ("optimizer.lr={a:1}", "optimizer.lr={a:1}: must be a number"),
    ("mixup.alpha=null", "mixup.alpha=null: must be a number"),
    ("dataset.augment=3", "dataset.augment=3: must be true or false"),
    ("dataset.mean=0.5", "dataset.mean=0.5: must be a list of numbers or null"),
    ("model=mlp model.hidden=64", "model.hidden=64: must be a list of integers"),
    ("mixup=manifold mixup.layers=input", "mixup.layers=input: must be a list of strings"),
    ("seed=null", "seed=null: must be an integer >= 0"),
    ("seed=1.5", "seed=1.5: must be an integer >= 0"),
    # keys
    ("epochs=1", f"epochs=1: no such key; allowed: {ROOT}"),
    ("+epochs=1", f"epochs=1: no such key; allowed: {ROOT}"),
    ("+foo.bar=1", f"foo={{bar:1}}: no such key; allowed: {ROOT}"),
    ("trainr.epochs=1", f"trainr.epochs=1: no such key; did you mean trainer? allowed: {ROOT}"),
    ("trainer.epoch=1", f"trainer.epoch=1: no such key; did you mean epochs? allowed: {TRAINER}"),
    ("+trainer.epoch=1", f"trainer.epoch=1: no such key; did you mean epochs? allowed: {TRAINER}"),
    (
        "+wandb.projekt=x",
        "wandb.projekt=x: no such key; did you mean project? "
        "allowed: mode, project, entity, name, group, notes, tags, images",
    ),
    (
        "dataset.train_sise=100",
        "dataset.train_sise=100: vicinal.data.sources.digits has no such argument; "
        f"did you mean train_size? allowed: {DATASET}",
    ),
    (
        "+dataset.train_sise=100",
        "dataset.train_sise=100: vicinal.data.sources.digits has no such argument; "
        f"did you mean train_size? allowed: {DATASET}",
    ),
    (
        "model.widht=3",
        "model.widht=3: vicinal.models.cnn.CNN has no such argument; allowed: conv_dropout, hidden_dropout",
    ),
    (
        "+model.widht=3",
        "model.widht=3: vicinal.models.cnn.CNN has no such argument; allowed: conv_dropout, hidden_dropout",
    ),
    (
        "scheduler.gama=0.1",
        "scheduler.gama=0.1: vicinal.training.schedules.cosine has no such argument; "
        "allowed: min_lr, warmup_epochs",
    ),
    (
        "mixup.aplha=1",
        "mixup.aplha=1: vicinal.mixing.InputMixup has no such argument; "
        "did you mean alpha? allowed: alpha, prob, per_sample",
    ),
    ("~mixup.alpha", "mixup.alpha=???: is missing; vicinal.mixing.InputMixup needs it"),
    ("~optimizer.lr", "optimizer.lr=???: is missing; torch.optim.SGD needs it"),
    ("~seed", "seed=???: is missing"),
    ("+seed=3", "+seed=3: seed is there already; leave out the +"),
    ("+experiment=mnist_cnn", "+experiment=mnist_cnn: experiment is there already; leave out the +"),
    # options
    ("mixup=cutmx", "mixup=cutmx: no such option; did you mean cutmix? allowed: cutmix, input, manifold, none"),
    (
        "model=resnet19",
        "model=resnet19: no such option; did you mean resnet18? allowed: cnn, mlp, preact_resnet18, preact_resnet34, "
        "resnet18, torchvision, wide_resnet28_10",
    ),
    ("wandb=off", "wandb=off: no such option; allowed: default"),
    ("experiment=nothing", f"experiment=nothing: no such option; allowed: {EXPERIMENTS}"),
    ("mixup=null", "mixup=null: must be the name of an option; --help lists them"),
    (
        "mixup._target_=vicinal.mixing.Nope",
        "mixup._target_=vicinal.mixing.Nope: must be the path of a class or function that can be imported",
    ),
    # ranges
    ("mixup.alpha=-1", "mixup.alpha=-1: must be a finite number >= 0"),
    ("mixup.alpha=nan", "mixup.alpha=nan: must be a finite number >= 0"),
    ("mixup.alpha=inf", "mixup.alpha=inf: must be a finite number >= 0"),
    ("mixup.prob=1.5", "mixup.prob=1.5: must be a finite number in [0, 1]"),
    ("mixup.prob=-0.1", "mixup.prob=-0.1: must be a finite number in [0, 1]"),
    ("seed=-1", "seed=-1: must be an integer >= 0"),
    ("trainer.batch_size=0", "trainer.batch_size=0: must be an integer >= 1"),
    ("trainer.label_smoothing=2", "trainer.label_smoothing=2: must be a finite number in [0, 1]"),
    ("trainer.ema_decay=1.5", "trainer.ema_decay=1.5: must be null or a finite number in [0, 1]"),
    ("busy=no", "busy=no: must be one of wait, skip"),
    ("trainer.checkpoint_every=0", "trainer.checkpoint_every=0: must be an integer >= 1"),
    ("trainer.checkpoint_every=0steps", f"trainer.checkpoint_every=0steps: {EVERY}"),
    ("trainer.checkpoint_every=5mins", f"trainer.checkpoint_every=5mins: {EVERY}"),
    ("trainer.threads=0", "trainer.threads=0: must be auto or an integer >= 1"),
    ("trainer.threads=all", "trainer.threads=all: must be auto or an integer >= 1"),
    ("trainer.threads=2.5", "trainer.threads=2.5: must be auto or an integer >= 1"),
    ("dataset.train_size=0", "dataset.train_size=0: must be null or an integer >= 1"),
    ("optimizer.lr=0", "optimizer.lr=0: must be a finite number > 0"),
    ("optimizer=adamw optimizer.betas=[0.9]", "optimizer.betas=[0.9]: must be a list of 2"),
    (
        "optimizer=adamw optimizer.betas=[0.9,1]",
        "optimizer.betas=[0.9,1]: each must be a finite number in [0, 1)",
    ),
    ("model.conv_dropout=1", "model.conv_dropout=1: must be a probability in [0, 1)"),
    ("wandb.mode=ofline", "wandb.mode=ofline: must be one of auto, online, offline, disabled"),
    ("scheduler=onecycle scheduler.pct_start=2", "scheduler.pct_start=2: must be in (0, 1)"),
    # what does not fit together
    (
        "mixup=manifold mixup.layers=[input,blok1]",
        "mixup.layers=blok1: no block of vicinal.models.cnn.CNN; did you mean block1? "
        "allowed: input, block1, block2, hidden",
    ),
    (
        "mixup=manifold mixup.layers=[]",
        'mixup.layers=[]: must be a list of block names or "input", at least one',
    ),
    (
        "optimizer.nesterov=true optimizer.momentum=0",
        "optimizer.momentum=0 optimizer.nesterov=true: Nesterov momentum requires a momentum and zero dampening",
    ),
    (
        "scheduler=multistep scheduler.milestones=[5,3]",
        "scheduler.milestones=[5,3]: must rise, and lie after the warm-up of 0.0 epochs",
    ),
    ("scheduler.warmup_epochs=40", "scheduler.warmup_epochs=40: must be < 30, trainer.epochs"),
    ("model=preact_resnet18 dataset.image_size=4", "dataset.image_size=4: must be at least 8 for PreActResNet"),
    ("model=torchvision model.name=vgg11", "dataset.image_size=8: must be at least 32 for VGG"),
    (
        "model=torchvision model.name=resnet19",
        "model.name=resnet19: must be a classification model of torchvision.models, "
        "such as resnet18 or resnet152 or resnet101",
    ),
    # the machine
    ("trainer.device=cuda", "trainer.device=cuda: must be one of what this machine has: auto, cpu"),
    ("trainer.device=tpu", "trainer.device=tpu: must be one of auto, cpu, cuda, mps"),
    (
        "trainer.device=cpu trainer.precision=fp16",
        "trainer.precision=fp16: must be one of what cpu can do: auto, bf16, fp32",
    ),
    (
        "dataset=imagefolder dataset.root={tmp}/nowhere",
        f"dataset.root={{tmp}}/nowhere: no folder {{tmp}}/nowhere/train; {TREE}",
    ),
    (
        "dataset=imagefolder dataset.root={tmp}/no_test",
        f"dataset.root={{tmp}}/no_test: no folder {{tmp}}/no_test/test; {TREE}",
    ),
    (
        "dataset.root=${oc.env:NOT_SET_ANYWHERE}",
        "dataset.root=${oc.env:NOT_SET_ANYWHERE}: the environment variable NOT_SET_ANYWHERE is not set",
    ),
    (
        "output_dir=${oc.env:NOT_SET_ANYWHERE}",
        "output_dir=${oc.env:NOT_SET_ANYWHERE}: the environment variable NOT_SET_ANYWHERE is not set",
    ),
    ("seed=${sead}", "seed=${sead}: there is no key sead"),
    ("output_dir={tmp}/file", "{tmp}/file: File exists"),
    # how it is written
    ("mixup.alpha=0.2,0.4", f"mixup.alpha=0.2,0.4: {SWEEP}"),
    ("mixup=input,cutmix", f"mixup=input,cutmix: {SWEEP}"),
    ("seed=range(3)", f"seed=range(3): {SWEEP}"),
    ("mixup.alpha=0.2 0.4", "0.4: cannot be read as key=value"),
    ("mixup.alpha=[", "mixup.alpha=[: cannot be read as key=value (no viable alternative at input '[')"),
    # sweeps: every point is checked before the first one trains
    ("mixup.alpha=0.2,0.4,-1 -m", "mixup.alpha=-1: must be a finite number >= 0"),
    ("experiment=alpha_sweep mixup.alpha=0.1,-1", "mixup.alpha=-1: must be a finite number >= 0"),
    ("mixup=input,nothing -m", "mixup=nothing: no such option; allowed: cutmix, input, manifold, none"),
    ("seed=range(0) -m", "seed=range(0): there is no value in it to sweep over"),
    (
        "hydra.sweeper.max_batch_size=0 -m",
        "hydra.sweeper.max_batch_size=0: must be null or an integer >= 1",
    ),
]  # fmt: skip

# Only the data can tell. There is a run by then, and its result says the same.
REFUSED_BY_THE_DATA = [
    (
        "dataset.val_size=1437",
        "dataset.val_size=1437: must be 0 or from 10 to 1427: there are 1437 images of 10 classes to choose from",
    ),
    (
        "dataset.train_size=5",
        "dataset.train_size=5: must be null, 1237 or from 10 to 1227: there are 1237 images of 10 classes to choose "
        "from",
    ),
    ("dataset.image_size=9", "dataset.image_size=9: must be 8, as in the data"),
    ("dataset.classes=7", "dataset.classes=7: must be 10, as in the data"),
    ("dataset.mean=[0.1,0.2]", "dataset.mean=[0.1,0.2]: must be null or a list of 1, a number a channel"),
    (
        "dataset=cifar10 dataset.name=CIFAR",
        "dataset.name=CIFAR: must be one of MNIST, FashionMNIST, CIFAR10, CIFAR100, SVHN",
    ),
]

Train = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "no_test/train/cat").mkdir(parents=True)
    (tmp_path / "file").touch()
    return tmp_path


@pytest.fixture(autouse=True)
def cpu_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On any machine the lines are those of one with a CPU alone."""
    monkeypatch.setattr("vicinal.training.hardware._present", lambda device: device == "cpu")
    monkeypatch.delenv("NOT_SET_ANYWHERE", raising=False)


def test_the_table_is_long_enough() -> None:
    lines = [line for line, _ in REFUSED + REFUSED_BY_THE_DATA]
    assert len(set(lines)) == len(lines) >= 80


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[line for line, _ in REFUSED])
def test_a_mistake_is_one_line_and_leaves_nothing(line: str, message: str, folder: Path, train: Train) -> None:
    before = sorted(folder.rglob("*"))
    code, out, err = train(*line.replace("{tmp}", str(folder)).split(" "))
    assert err == f"error: {message}\n".replace("{tmp}", str(folder))
    assert out == ""
    assert code == 1
    made = {path.relative_to(folder) for path in folder.rglob("*")} - {path.relative_to(folder) for path in before}
    assert made <= {Path("outputs")}  # Hydra makes it, empty, before it calls the program


@pytest.mark.parametrize(("line", "message"), REFUSED_BY_THE_DATA, ids=[line for line, _ in REFUSED_BY_THE_DATA])
def test_what_the_data_refuse_is_in_the_result_too(line: str, message: str, folder: Path, train: Train) -> None:
    code, _, err = train(*line.split(" "))
    assert err == f"error: {message}\n"
    assert code == 1
    (run,) = (folder / "outputs/runs").iterdir()
    result = json.loads((run / "result.json").read_text())
    assert (result["status"], result["error"]) == ("failed", message)
    assert (run / "train.log").read_text() == f"failed: {message}\n"
    assert not (run / "metrics.jsonl").exists()


def test_a_mistake_in_a_file_is_found_like_one_on_the_command_line(folder: Path, train: Train) -> None:
    recipes = folder / "own/experiment"
    recipes.mkdir(parents=True)
    for name, content in {
        "word": "trainer: {epochs: many}",
        "typo": "trainer: {epoch: 3}",
        "own": "mixup: {strength: 1}",
    }.items():
        (recipes / f"{name}.yaml").write_text(f"# @package _global_\n{content}\n")
    messages = {
        "word": "trainer.epochs=many: must be an integer >= 1",
        "typo": f"trainer.epoch: no such key; did you mean epochs? allowed: {TRAINER}",
        "own": "mixup.strength=1: vicinal.mixing.InputMixup has no such argument; allowed: alpha, prob, per_sample",
    }
    for name, message in messages.items():
        assert train("--config-dir", str(folder / "own"), f"experiment={name}") == (1, "", f"error: {message}\n")


def test_two_mistakes_in_a_row_do_not_disturb_each_other(folder: Path, train: Train) -> None:
    first = train("mixup.alpha=-1")
    assert train("mixup=cutmx")[0] == 1
    assert train("mixup.alpha=-1") == first
    assert train("dry_run=true")[0] == 0


def subprocess_of(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPO / "train.py"), *words]
    inherited = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    return subprocess.run(command, cwd=folder, env=inherited | environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "mixup.alpha=nan",
        "trainer.epoch=1",
        "mixup=cutmx",
        "mixup=manifold mixup.layers=[]",
        "mixup.alpha=0.2,0.4,-1 -m",
    ],
)
def test_the_real_program_says_the_same(line: str, folder: Path) -> None:
    ended = subprocess_of(folder, *line.split(" "))
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"error: {dict(REFUSED)[line]}\n")


@pytest.mark.slow
def test_a_traceback_is_there_for_the_asking(folder: Path) -> None:
    ended = subprocess_of(folder, "mixup.alpha=nan", HYDRA_FULL_ERROR="1")
    assert ended.returncode == 1
    assert "Traceback (most recent call last)" in ended.stderr
    assert re.search(
        r"^vicinal\.errors\.ConfigError: mixup\.alpha=nan: must be a finite number >= 0$", ended.stderr, re.M
    )


@pytest.mark.slow
def test_an_unknown_flag_is_argparses_own_affair(folder: Path) -> None:
    ended = subprocess_of(folder, "--foo")
    assert ended.returncode == 2
    assert ended.stderr.startswith("usage: ")
    assert ended.stderr.endswith("error: unrecognized arguments: --foo\n")

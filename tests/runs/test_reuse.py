"""Edits between a run and the same command once more: the exact line that names each, or silence."""

import gzip
import os
import shutil
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vicinal.build import sample_hashes
from vicinal.data import contents, imagefolder, sources
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.runs import environment, source

Compose = Callable[..., Experiment]
ROOT = Path(__file__).parents[2]
TINY = ("model=mlp", "model.hidden=[4]", "trainer.epochs=1", "dataset.val_size=20", "dataset.train_size=40")
FADE = """
import fade_parts.law
from vicinal.mixing import InputMixup

class Fade(InputMixup):
    pass
"""
CODE = {
    "fade_of_a_test.py": FADE,
    "fade_parts/__init__.py": "",
    "fade_parts/law.py": "from . import helpers  # a module of its own\n\nHIGH = 0.5\n",
    "fade_parts/helpers.py": "SMALL = 1\n",
    "fade_parts/unused.py": "SMALL = 1\n",
    "stored_of_a_test.py": """
from pathlib import Path
import numpy as np
import torch
from vicinal.data import Samples, Source, contents

HERE = Path(__file__).parent / "images.npz"

def stored() -> Source:
    with np.load(HERE) as file:
        images, labels = torch.from_numpy(file["images"]), torch.from_numpy(file["labels"])
    return Source(Samples(images[20:], labels[20:]), Samples(images[:20], labels[:20]), ("a", "b"))

@contents.reads(lambda: [HERE])
def declared() -> Source:
    return stored()
""",
}
RUNS = {
    "own strategy": ("dataset=digits", "mixup=input", "mixup._target_=fade_of_a_test.Fade"),
    "digits": ("dataset=digits",),
    "mnist": ("dataset=mnist", "dataset.root=."),
    "tree": ("dataset=imagefolder", "dataset.root=tree", "dataset.image_size=8"),
    "own source": ("dataset=digits", "dataset._target_=stored_of_a_test.stored", "dataset.classes=2"),
    "declared source": ("dataset=digits", "dataset._target_=stored_of_a_test.declared", "dataset.classes=2"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the project, modules of one's own and data, which the cases edit and put back."""
    folder = tmp_path_factory.mktemp("world")
    shutil.copytree(source.PACKAGE, folder / "vicinal", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conf", "docs", "scripts", "train.py", "README.md"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    shutil.copy(sources._digits_file(), folder / "digits.csv.gz")
    (folder / "fade_parts").mkdir()
    for name, text in CODE.items():
        (folder / name).write_text(text)
    random = np.random.default_rng(0)
    labels = np.arange(120) % 2
    np.savez(folder / "images.npz", images=random.integers(0, 256, (120, 1, 8, 8), np.uint8), labels=labels)
    (folder / "MNIST/raw").mkdir(parents=True)
    for part, size in (("train", 100), ("t10k", 20)):
        for kind, magic, shape in (("images-idx3", 2051, (size, 28, 28)), ("labels-idx1", 2049, (size,))):
            header = struct.pack(f">{1 + len(shape)}i", magic, *shape)
            pixels = (
                random.integers(0, 256, shape, np.uint8) if len(shape) > 1 else np.arange(size, dtype=np.uint8) % 10
            )
            (folder / f"MNIST/raw/{part}-{kind}-ubyte").write_bytes(header + pixels.tobytes())
    for part, size in (("train", 80), ("test", 4)):
        for index in range(size):
            image = folder / f"tree/{part}/{'ab'[index % 2]}/{index}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(image)
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] in ("fade_of_a_test", "fade_parts")]:
        del sys.modules[name]
    sys.modules.pop("stored_of_a_test", None)


@dataclass
class Same:
    """``same(kind)`` is one command: it trains the first time, and later gives the lines that a reuse has.

    Each time files are looked at as a new process would. What is composed is kept, unless it is asked for ``again``.
    """

    compose: Compose
    world: Path
    experiments: dict[tuple[str, ...], Experiment]
    caplog: pytest.LogCaptureFixture

    def __call__(self, kind: str, *more: str, again: bool = False) -> list[str]:
        source.forget()
        imagefolder.examined.cache_clear()
        contents.opened.clear()
        environment.versions.cache_clear()
        sample_hashes.cache_clear()
        self.caplog.clear()
        if again or (kind, *more) not in self.experiments:
            words = (*TINY, *RUNS[kind], f"output_dir={self.world}/outputs", *more)
            self.experiments[kind, *more] = self.compose(*words)
        experiment = self.experiments[kind, *more]
        run(experiment)
        lines = [record.getMessage() for record in self.caplog.records if record.levelname == "WARNING"]
        return [line.removeprefix(f"{experiment.folder.path}: ") for line in lines]


@pytest.fixture(scope="module")
def experiments() -> dict[tuple[str, ...], Experiment]:
    return {}


@pytest.fixture
def same(
    compose: Compose,
    experiments: dict[tuple[str, ...], Experiment],
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> Iterator[Same]:
    monkeypatch.chdir(world)
    monkeypatch.syspath_prepend(world)
    monkeypatch.setattr(source, "PACKAGE", world / "vicinal")
    monkeypatch.setattr("vicinal.config.schema.CONF", world / "conf")
    monkeypatch.setattr(sources, "_digits_file", lambda: world / "digits.csv.gz")
    caplog.set_level("INFO")
    yield Same(compose, world, experiments, caplog)
    source.forget()
    environment.versions.cache_clear()
    sample_hashes.cache_clear()


def other(what: str, names: str) -> str:
    return f"made with other {what} ({names}); rerun=true trains again"


def append(text: str) -> Callable[[bytes], bytes]:
    return lambda content: content + text.encode()


def replace(old: str, new: str) -> Callable[[bytes], bytes]:
    def edited(content: bytes) -> bytes:
        assert content.count(old.encode()) >= 1, f"there is no {old}"
        return content.replace(old.encode(), new.encode())

    return edited


def flip(content: bytes) -> bytes:
    """Another last byte."""
    return content[:-1] + bytes([content[-1] ^ 1])


def other_image(content: bytes) -> bytes:
    with np.load(Path("images.npz")) as file:
        images, labels = file["images"], file["labels"]
    images[0, 0, 0, 0] ^= 1
    np.savez("images.npz", images=images, labels=labels)
    return Path("images.npz").read_bytes()


def touched(content: bytes) -> bytes:
    return content


STRATEGIES, LOADER = "vicinal/mixing/strategies.py", "vicinal/data/loader.py"


def other_digit(content: bytes) -> bytes:
    return gzip.compress(flip(gzip.decompress(content)[:-1]) + b"\n")


EDITS = {
    "a constant of a strategy": (
        "digits", STRATEGIES, replace("class InputMixup", "SHIFT = 1\n\nclass InputMixup"), other("code", STRATEGIES)
    ),
    "a function of the loader": ("mnist", LOADER, append("x = 1\n"), other("code", LOADER)),
    "a strategy of one's own": (
        "own strategy", "fade_of_a_test.py", replace("pass", "strength = 2"), other("code", "fade_of_a_test.py")
    ),
    "a module that it imports": (
        "own strategy", "fade_parts/law.py", replace("0.5", "0.25"), other("code", "fade_parts/law.py")
    ),
    "a module that this one imports": (
        "own strategy", "fade_parts/helpers.py", replace("1", "2"), other("code", "fade_parts/helpers.py")
    ),
    "a package's __init__": (
        "own strategy", "fade_parts/__init__.py", append("x = 1\n"), other("code", "fade_parts/__init__.py")
    ),
    "a source of one's own": (
        "own source", "stored_of_a_test.py", replace("20", "21"), other("code", "stored_of_a_test.py")
    ),
    "the .npz of a source": ("own source", "images.npz", other_image, other("data", "test")),
    "the .npz of a source that says so": ("declared source", "images.npz", flip, other("data", "images.npz")),
    "MNIST's images": (
        "mnist", "MNIST/raw/train-images-idx3-ubyte", flip, other("data", "train-images-idx3-ubyte")
    ),
    "MNIST's labels": ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte", flip, other("data", "t10k-labels-idx1-ubyte")),
    "scikit-learn's digits": ("digits", "digits.csv.gz", other_digit, other("data", "digits.csv.gz")),
    "MNIST's images, touched": ("mnist", "MNIST/raw/train-images-idx3-ubyte", touched, ""),
    "a computing module, touched": ("digits", STRATEGIES, touched, ""),
    "a comment": ("digits", STRATEGIES, replace("class InputMixup", "# A comment.\nclass InputMixup"), ""),
    "a comment behind code": ("own strategy", "fade_parts/law.py", replace("0.5\n", "0.5  # as in the paper\n"), ""),
    "a docstring": ("own strategy", "fade_of_a_test.py", replace("    pass", '    """Fade."""\n\n    pass'), ""),
    "a module that nothing imports": ("own strategy", "fade_parts/unused.py", replace("1", "2"), ""),
    "a comment of conf/": ("digits", "conf/mixup/input.yaml", append("# A comment.\n"), ""),
    "a report": ("digits", "vicinal/report/tables.py", append("x = 1\n"), ""),
    "the live view": ("digits", "vicinal/live/terminal.py", append("x = 1\n"), ""),
    "a dashboard": ("digits", "vicinal/dashboards/dashboard.py", append("x = 1\n"), ""),
    "pictures": ("digits", "vicinal/visualize/mixing.py", append("x = 1\n"), ""),
    "tracking": ("digits", "vicinal/tracking/console.py", append("x = 1\n"), ""),
    "train.py": ("digits", "train.py", append("x = 1\n"), ""),
    "a script": ("digits", "scripts/report.py", append("x = 1\n"), ""),
    "the README": ("digits", "README.md", append("More.\n"), ""),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_named_or_says_nothing(same: Same, edit: str) -> None:
    kind, name, change, line = EDITS[edit]
    same(kind)
    file = same.world / name
    before = file.read_bytes()
    try:
        file.write_bytes(change(before))
        assert same(kind, again=name.startswith("conf/")) == [line] * bool(line)
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize("kind", RUNS)
def test_without_an_edit_nothing_is_said(same: Same, kind: str) -> None:
    same(kind)
    assert same(kind, again=True) == []
    assert len(list(same.world.glob("outputs/runs/*"))) == len(same.experiments)


@pytest.mark.parametrize(("package", "counts"), [
    ("torch", True), ("torchvision", True), ("numpy", True), ("pillow", True), ("wandb", False), ("hydra-core", False),
])  # fmt: skip
def test_another_version_of_a_dependency(
    same: Same, monkeypatch: pytest.MonkeyPatch, package: str, counts: bool
) -> None:
    same("digits")
    then = version(package).partition("+")[0]
    monkeypatch.setattr(
        environment.importlib.metadata, "version", lambda name: "9.9" if name == package else version(name)
    )
    assert same("digits") == [f"made with {package} {then}, here it would be 9.9: the last digits may differ"] * counts


def test_another_image_of_a_tree_is_another_run(same: Same) -> None:
    same("tree")
    file = same.world / "tree/train/a/0.jpg"
    before = file.read_bytes()
    try:
        os.utime(file)
        assert same("tree", again=True) == []
        assert len(list((same.world / "outputs/runs").glob("imagefolder-*"))) == 1
        Image.new("RGB", (8, 8)).save(file)
        assert same("tree", again=True) == []
        assert len(list((same.world / "outputs/runs").glob("imagefolder-*"))) == 2
    finally:
        file.write_bytes(before)


def test_a_rerun_names_the_data_that_its_predecessor_had(same: Same) -> None:
    same("mnist", "seed=1")
    file = same.world / "MNIST/raw/train-labels-idx1-ubyte"
    before = file.read_bytes()
    try:
        file.write_bytes(flip(before))
        line = "the result that is replaced was made with other data (train-labels-idx1-ubyte)"
        assert same("mnist", "seed=1", "rerun=true") == [line]
        assert same("mnist", "seed=1") == []
    finally:
        file.write_bytes(before)


def test_data_that_are_gone_are_no_obstacle_to_a_reuse(same: Same) -> None:
    for kind, lines in {
        "declared source": [],  # nothing is known of them
        "own source": [
            "its data cannot be compared with those here (dataset._target_=stored_of_a_test.stored: FileNotFoundError: "
            "[Errno 2] No such file or directory: '{}')"
        ],
    }.items():
        same(kind)
        file = same.world / "images.npz"
        before = file.read_bytes()
        try:
            file.unlink()
            assert same(kind) == [line.format(file) for line in lines]
        finally:
            file.write_bytes(before)


def test_the_reused_rows_of_a_sweep_are_named_in_one_line(
    same: Same, train: Callable[..., tuple[int, str, str]]
) -> None:
    for seed in ("seed=0", "seed=1"):
        same("digits", seed)
    words = (*TINY, *RUNS["digits"], f"output_dir={same.world}/outputs", "trainer.device=cpu", "seed=0,1", "-m")
    file = same.world / STRATEGIES
    before = file.read_bytes()
    try:
        file.write_bytes(before + b"x = 1\n")
        source.forget()
        code, out, _ = train(*words)
    finally:
        file.write_bytes(before)
    assert code == 0
    first = same.experiments["digits", "seed=0"].folder.path
    assert [line.partition("2 runs")[2] for line in out.splitlines() if "made with other code (" in line] == [
        f", such as {first}: {other('code', STRATEGIES)}"
    ]
    assert f"made with other code than here ({STRATEGIES}): input seed 0, input seed 1" in " ".join(out.split())

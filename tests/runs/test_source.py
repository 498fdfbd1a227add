"""Which edits make a completed run one of other code: those of files that compute, in the package or out of it."""

import importlib
import io
import json
import sys
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vicinal.experiment import Experiment
from vicinal.jobs.run import reuse_warnings, run
from vicinal.runs import source

Compose = Callable[..., Experiment]
TINY = ("model=mlp", "model.hidden=[8]", "dataset.train_size=60", "dataset.val_size=20", "trainer.epochs=1")
FADE = '''
from vicinal.mixing import InputMixup

class Fade(InputMixup):
    """As input mixup."""
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Files are hashed as they are at this moment."""
    monkeypatch.chdir(tmp_path)
    source.forget()
    yield
    source.forget()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package like ours, of which files can be edited."""
    folder = tmp_path / "vicinal"
    for name in ("mixing/laws.py", "mixing/strategies.py", "training/loop.py", "data/store.py", "models/deep/net.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("value = 1\n")
    names = (
        "tasks/task.py",
        "config/components.py",
        "config/validation.py",
        "build.py",
        "experiment.py",
        "jobs/resume.py",
        "jobs/session.py",
        "jobs/run.py",
    )
    for name in (*names, "report/tables.py", "tracking/console.py", "dashboards/build.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("value = 1\n")
    monkeypatch.setattr(source, "PACKAGE", folder)
    return folder


@pytest.mark.parametrize(("file", "counts"), [
    ("mixing/laws.py", True), ("mixing/strategies.py", True), ("training/loop.py", True), ("data/store.py", True),
    ("models/deep/net.py", True), ("tasks/task.py", True), ("config/components.py", True),
    ("config/validation.py", True),
    ("build.py", True), ("experiment.py", True), ("jobs/resume.py", True), ("jobs/session.py", True),
    ("report/tables.py", False), ("tracking/console.py", False), ("dashboards/build.py", False),
    ("jobs/run.py", False), ("mixing/README.md", False),
])  # fmt: skip
def test_an_edit_counts_where_it_can_change_a_number(package: Path, file: str, counts: bool) -> None:
    before = source.sources()
    (package / file).write_text("value = 2\n")
    source.forget()
    after = source.sources()
    assert source.changed(before, after) == (f"vicinal/{file}" if counts else "")
    assert (source.digest(before) != source.digest(after)) is counts


def test_a_new_file_and_one_that_is_gone_are_named_and_the_rest_is_counted(package: Path) -> None:
    before = source.sources()
    (package / "mixing/new.py").write_text("")
    (package / "data/store.py").unlink()
    source.forget()
    assert source.changed(before, source.sources()) == "vicinal/data/store.py, vicinal/mixing/new.py"
    many = {f"{name}.py": "0" for name in "abcdef"}
    assert source.changed({}, many) == "a.py, b.py, c.py, d.py and 2 more"


@pytest.fixture
def fade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A strategy outside of the package."""
    file = tmp_path / "fade_of_a_test.py"
    file.write_text(FADE)
    monkeypatch.syspath_prepend(tmp_path)
    yield file
    sys.modules.pop("fade_of_a_test", None)


def test_a_completed_run_says_that_the_code_was_edited(compose: Compose, fade: Path) -> None:
    words = (*TINY, "mixup=input", "mixup._target_=fade_of_a_test.Fade")
    experiment = compose(*words)
    result = run(experiment)
    recorded = json.loads(experiment.folder.environment.read_bytes())
    assert "fade_of_a_test.py" in recorded["sources"]
    assert "vicinal/mixing/strategies.py" in recorded["sources"]
    assert not any(name.startswith("torch") for name in recorded["sources"])
    assert recorded["source"] == source.digest(recorded["sources"])
    assert reuse_warnings(experiment, result) == []
    fade.write_text(FADE + "    strength = 2\n")
    source.forget()
    importlib.invalidate_caches()
    again = compose(*words)
    assert again.run_id == experiment.run_id
    said = "made with other code (fade_of_a_test.py); rerun=true trains again"
    assert reuse_warnings(again, result) == [said]
    rerun = compose(*words, "rerun=true")
    assert reuse_warnings(compose(*words), run(rerun)) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"source": "0"}', b'{"sources": 3}', b'{"sources": ["a"]}', b"\xff"])
def test_a_run_that_does_not_say_its_code_is_not_judged(compose: Compose, content: bytes) -> None:
    folder = compose(*TINY).folder
    assert folder.sources() == {}
    folder.path.mkdir(parents=True)
    folder.environment.write_bytes(content)
    assert folder.sources() == {}


SHORT = "x = 1\nif x:\n    y = 2\n"


@pytest.mark.parametrize("text", [
    "x = 1  # one\nif x:\n    y = 2\n", "# one\nx = 1\n\nif x:\n    # two\n\n    y = 2",
    "x = 1\r\nif x:\r\n    y = 2\r\n",
    '"""Doc."""\nx = 1\nif x:\n    y = 2\n', "x = 1\n'''It's # one\n\n  doc.'''\nif x:\n    y = 2\n",
    'x = 1\nif x:\n    r"""Doc\\s."""  # one\n    y = 2\n\n\n', "x = 1\nif x:   \n    y = 2\n'a \\' b'\n",
])  # fmt: skip
def test_comments_docstrings_and_blank_lines_are_no_code(text: str) -> None:
    assert source.code(text) == source.code(SHORT) == SHORT


@pytest.mark.parametrize(("one", "other"), [
    ("x = '# one'\n", "x = '# two'\n"), ('x = """\n# one\n"""\n', 'x = """\n# two\n"""\n'), ("x = 1\n", "x = 2\n"),
    ('x = """\n\n"""\n', 'x = """\n"""\n'), ("f(\n 'a'\n)\n", "f(\n 'b'\n)\n"), ("x = \\\n'a'\n", "x = \\\n'b'\n"),
    ("x = [\n    'a'  # one\n]\n", "x = [\n    'b'  # one\n]\n"), ("if x:\n    y = 2\n", "if x:\n        y = 2\n"),
    ("'a'.join(x)\n", "'b'.join(x)\n"), ("f'{a()}'\n", "f'{b()}'\n"), ("x = r'\\\\'  # '\n", "x = r'\\\\' + y  # '\n"),
    ("x = '\\\\'  # one\n", "x = '\\\\' + y  # one\n"), ('x = """a" # """ + "b"\n', 'x = """a" # """ + "c"\n'),
    ("'a' 'b'.f()\n", "'a' 'c'.f()\n"), ("x = {\n 'a':\n 'b'\n}\n", "x = {\n 'a':\n 'c'\n}\n"),
])  # fmt: skip
def test_what_looks_like_a_comment_or_a_docstring_and_is_code(one: str, other: str) -> None:
    assert source.code(one) != source.code(other)


def tokens(text: str) -> str:
    """What Python's own tokenizer finds, without comments, white space and strings that are statements."""
    layout = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    read = tokenize.generate_tokens(io.StringIO(text).readline)
    found = [each for each in read if each.type not in (tokenize.COMMENT, tokenize.NL)]
    kept = [""]
    for index, each in enumerate(found):
        first = index == 0 or found[index - 1].type in layout
        alone = first and each.type == tokenize.STRING and found[index + 1].type == tokenize.NEWLINE
        if not alone:
            kept += each.string.split()
    return "".join(kept)


def test_the_code_of_every_file_here_is_what_python_reads() -> None:
    files = list(source.PACKAGE.rglob("*.py"))
    assert len(files) > 100
    for file in files:
        text = file.read_text()
        assert "".join(source.code(text).split()) == tokens(text), file

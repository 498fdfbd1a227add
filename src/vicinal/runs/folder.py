"""The folder of one run. ``result.json`` comes last and whole: with ``"status": "completed"`` it is the done mark."""

from __future__ import annotations

import faulthandler
import hashlib
import json
import logging
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import filelock

from vicinal.config.redaction import Formatter
from vicinal.errors import UserError
from vicinal.runs.files import (
    LARGEST,
    PARTIAL,
    DamagedError,
    appending,
    decode_json,
    encode_json,
    make_folder,
    naming,
    opened,
    read,
    read_json,
    sha256,
    sync,
    write,
)
from vicinal.runs.locks import check, held
from vicinal.runs.shapes import COMPLETED, ENVIRONMENT, RESULT, ROW, misfit
from vicinal.utils import output

log = logging.getLogger(__name__)

DAMAGED = ".damaged"
SUMS = "SHA256SUMS"
LOCK = ".lock"
GLANCE = 0.2
"""Seconds; who only looks whether a run is locked has the lock for a moment, and is not to be taken for a worker."""


class BusyError(UserError):
    """Another process works on the run."""


class RunFolder:
    """``<output_dir>/runs/<readable-name>-<run_id>/``.

    Args:
        path: of the folder.
        run_id: whose result it has to be; None if nobody knows.
    """

    def __init__(self, path: Path, run_id: str | None = None) -> None:
        self.path, self.run_id = path, run_id
        self.config = path / "config.yaml"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"
        self.checkpoint = path / "checkpoint.pt"
        self.previous = path / "checkpoint.previous.pt"
        self.environment = path / "environment.json"
        self.predictions = path / "predictions.npz"
        self.mixed = path / "mixed.png"
        self.noisy_labels = path / "noisy_labels.csv"
        self.log = path / "train.log"
        self.sums = path / SUMS
        self._records = (self.config, self.environment, self.metrics, self.checkpoint)
        self._views = (self.predictions, self.mixed, self.noisy_labels)

    # What came of it

    def read_result(self) -> dict[str, Any] | None:
        """What came of the run; None if nothing has yet. A damaged file is named and counts as nothing."""
        try:
            return self.load_result()
        except FileNotFoundError:
            return None
        except DamagedError as damage:
            say(f"{damage}; the run does not count as completed")
            return None

    def load_result(self) -> dict[str, Any]:
        """The content of ``result.json``.

        Raises:
            FileNotFoundError: nothing has come of the run yet.
            DamagedError: it is not what was written.
            OSError: it cannot be read.
        """
        result = read_json(self.result)
        if result.pop("checksum", None) != _checksum(result):
            raise DamagedError(self.result, "its checksum is wrong")
        shape = COMPLETED if result.get("status") == "completed" else RESULT
        if (where := misfit(result, shape)) is not None:
            raise DamagedError(self.result, f"{where} is not what was written")
        if self.run_id is not None and result["run_id"] != self.run_id:
            raise DamagedError(self.result, f"it is of another run, {result['run_id']}")
        return result

    def completed(self) -> dict[str, Any] | None:
        """The result of a completed run, else None."""
        result = self.read_result()
        return result if result is not None and result["status"] == "completed" else None

    def complete(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Write and return the result of a completed run, and the checksums of all files that say something about it.

        These files are on the disk before the result is, since it is the done mark. The checksums can be checked with
        ``sha256sum -c`` too. The result also carries one of its own.
        """
        result = {**result, "status": "completed"}
        self._seal(result, *self._records, *(file for file in self._views if file.exists()))
        self.previous.unlink(missing_ok=True)
        return result

    def fail(self, heading: Mapping[str, Any], reason: str) -> None:
        """Write that the run failed and why; it can be continued all the same."""
        self._seal({**heading, "status": "failed", "error": reason})

    def _seal(self, result: Mapping[str, Any], *files: Path) -> None:
        data = encode_json({**result, "checksum": _checksum(result)})
        for file in files:
            sync(file)  # the epochs were only appended
        sums = {file.name: _digest(file) for file in files} | {self.result.name: sha256(data)}
        write(self.sums, "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode())
        write(self.result, data)

    def damage(self) -> list[str]:
        """What is wrong with the files beside the result of a completed run, a line each."""
        try:
            sums = self._sums()
            if sums.get(self.result.name) != _digest(self.result):
                return [f"{self.sums} is missing or damaged: the files beside the result cannot be checked"]
        except OSError as error:
            return [unreadable(error)]
        lines = []
        for file in self._sealed(sums):
            try:
                if _digest(file) != sums.get(file.name):
                    raise DamagedError(file, f"its checksum is not the one in {SUMS}")
            except FileNotFoundError:
                lines.append(f"{file} is missing")
            except DamagedError as damage:
                lines.append(str(damage))
            except OSError as error:
                lines.append(unreadable(error))
        return lines

    def _sealed(self, sums: Mapping[str, str]) -> list[Path]:
        """The files that the checksums have to be right for; those of older results leave out the views."""
        newer = self.predictions.name in sums
        views = (file for file in self._views if file.name in sums or (newer and os.path.lexists(file)))
        return [*self._records, *views]

    def sources(self) -> dict[str, str]:
        """Hashes of the code that began the run, by file; none where ``environment.json`` does not say."""
        sources: dict[str, str] = self.about().get("sources", {})
        return sources

    def about(self) -> dict[str, Any]:
        """The content of ``environment.json``; empty where it cannot be read."""
        try:
            return read_json(self.environment, ENVIRONMENT)
        except (OSError, DamagedError):
            return {}

    def mend(self, file: Path, data: bytes) -> bool:
        """Write a file beside the result of a completed run again, if ``data`` is what it was; else change nothing."""
        if self._sums().get(file.name) != sha256(data):
            return False
        try:
            write(file, data)
        except OSError:  # a read-only folder
            return False
        return True

    def rows(self) -> list[dict[str, Any]]:
        """The epochs of ``metrics.jsonl``, but half a line at its end; of a damaged file none, which is said."""
        try:
            data = read(self.metrics)
            expected = self._sums().get(self.metrics.name)
            if expected is None or sha256(data) == expected:
                return [decode_json(self.metrics, line, ROW) for line in data.split(b"\n")[:-1]]
        except FileNotFoundError:
            return []
        except (DamagedError, OSError):
            pass
        say(f"{self.metrics} is damaged; its curves are not used")
        return []

    def _sums(self) -> dict[str, str]:
        """{file name: checksum} of a completed run; none where the file is missing or damaged."""
        try:
            lines = read(self.sums, 2**16).decode(errors="replace").split("\n")
        except (FileNotFoundError, DamagedError):
            return {}
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

    # What is under way

    def epochs_done(self) -> int | None:
        """That a run can be continued after; None if there is nothing to continue."""
        from vicinal.runs import checkpoint  # torch, which those who only read results do without

        for file in (self.checkpoint, self.previous):
            try:
                rows = checkpoint.load(file, {"training": {"history": {"rows": list}}})["training"]["history"]["rows"]
                return len(rows)
            except (OSError, DamagedError):  # named when the run goes on
                continue
        return None

    @contextmanager
    def lock(self, wait: bool) -> Iterator[None]:
        """Be the only process that works on the run.

        The operating system lets go of the lock of a process that has died, however it died.

        Args:
            wait: for another process to end its work, else refuse.

        Raises:
            BusyError: another process has it, and ``wait`` is false.
        """
        if self.path.is_symlink():  # what is in it is deleted when a training begins
            raise UserError(f"{self.path}: is a link; a run is trained in a folder of its own")
        make_folder(self.path)
        self._clean_lock()
        lock = filelock.FileLock(self.path / LOCK)
        with naming(self.path):
            try:
                lock.acquire(timeout=GLANCE)
            except filelock.Timeout:
                if not wait:
                    raise BusyError(f"{self.path}: {self._worker()} works on this run") from None
                log.info(
                    "waiting for %s, which works on this run: %s (busy=skip would not wait)", self._worker(), self.path
                )
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _clean_lock(self) -> None:
        try:
            check(self.path / LOCK)
        except DamagedError as damage:
            self.set_aside(damage, "and another one is used")

    def locked(self) -> str | None:
        """Who works on the run, in words; None if nobody does."""
        return self._worker() if held(self.path / LOCK) else None

    def _worker(self) -> str:
        about = self.about()
        session = about | (about.get("continued") or [{}])[-1]  # which says what is not as it was
        if {"pid", "host"} <= session.keys():
            return f"process {session['pid']} on {session['host']}"
        return "another process"  # it has only just begun

    def inspect(self) -> None:
        """Name what a process that was killed cannot have left so, before the run is trained or continued."""
        try:
            self.load_result()
        except FileNotFoundError:
            pass
        except DamagedError as damage:
            self.set_aside(damage, "the run does not count as completed")
        files = (*self._records, *self._views, self.sums, self.previous, self.log, self.path / "wandb")
        for file in files:
            self._inspect_kind(file, stat.S_ISDIR if file.name == "wandb" else stat.S_ISREG)
        if self.sums.exists() and not self.result.exists() and not _aside(self.result).exists():
            log.warning("%s is missing; the run does not count as completed", self.result)
        if not self.checkpoint.exists():
            if self.previous.exists():
                log.warning("%s is missing; the one before it is used", self.checkpoint)
            elif self.metrics.exists() and self.metrics.stat().st_size:
                log.warning("%s is missing; the training begins again", self.checkpoint)

    def _inspect_kind(self, file: Path, expected: Callable[[int], bool]) -> None:
        """Set aside what is a folder, a link or a pipe in the place of a file: nothing is written to where it leads."""
        try:
            kind = file.lstat().st_mode
        except FileNotFoundError:
            return
        if not expected(kind):
            what = "a folder" if stat.S_ISDIR(kind) else "a link" if stat.S_ISLNK(kind) else "of another kind"
            self.set_aside(DamagedError(file, f"it is {what}"), "and the file is written again")

    def begin(self) -> None:
        """Take away what says that the run had ended, and files that were only half written."""
        for file in (self.result, self.sums, *self.path.glob(f"*{PARTIAL}")):
            file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Make the folder empty, but for what was set aside: somebody may want to know what happened to it."""
        self.result.unlink(missing_ok=True)  # first, so that half a clearing never looks like a completed run
        for entry in self.path.iterdir():
            if entry.suffix == DAMAGED or entry.name == LOCK:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)  # W&B's process may still tell of a session that was killed
            else:
                entry.unlink()
        sync(self.path)

    def set_aside(self, damage: DamagedError, consequence: str) -> None:
        """Name a damaged file, and keep it under another name. Where nothing can be renamed it stays as it is."""
        try:
            where = f"set aside as {damage.file.replace(_aside(damage.file)).name}"
        except OSError:
            where = "left as it is"
        log.warning("%s; it is %s, %s", damage, where, consequence)

    @contextmanager
    def logging(self, earlier: Iterable[logging.LogRecord] = ()) -> Iterator[None]:
        """Copy what is logged to ``train.log``, and say there where a crash was and whether the terminal had it all.

        Args:
            earlier: what was logged before, which comes first.
        """
        if self.log.exists() and self.log.stat().st_nlink > 1:
            write(self.log, read(self.log))  # breaks a hard link: the other name may belong to something else
        handler = _LogFile(self.log)
        handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        for record in earlier:
            handler.handle(record)
        root = logging.getLogger()
        root.addHandler(handler)
        before = faulthandler.is_enabled()
        assert handler.stream is not None
        faulthandler.enable(handler.stream)
        try:
            yield
        finally:
            for line in output.lost():
                log.warning("%s", line)
            faulthandler.disable()
            if before and sys.__stderr__ is not None:
                faulthandler.enable(sys.__stderr__)
            root.removeHandler(handler)
            handler.close()


class _LogFile(logging.FileHandler):
    """A log that stops where it cannot be written: what else cannot be written there says why."""

    def _open(self) -> TextIOWrapper:
        return appending(Path(self.baseFilename))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


def unreadable(error: OSError) -> str:
    """A line for a file that cannot be read, which may be there all the same."""
    return f"{error.filename} cannot be read: {error.strerror}"


@cache
def say(line: str) -> None:
    """Log a warning once a process, however many readers come upon the same damage."""
    log.warning("%s", line)


def _checksum(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, allow_nan=False).encode())


def _aside(file: Path) -> Path:
    return file.with_name(file.name + DAMAGED)


def _digest(file: Path) -> str:
    """SHA-256 of a file; only the checkpoint may be of any size."""
    with opened(file, sys.maxsize if file.suffix == ".pt" else LARGEST) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

"""The folder of one run. ``result.json`` comes last and whole: with ``"status": "completed"`` it is the done mark."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from vicinal.errors import UserError
from vicinal.runs import files
from vicinal.runs.files import LARGEST, PARTIAL, DamagedError, sync
from vicinal.runs.heartbeat import HEARTBEAT, Heartbeat
from vicinal.runs.locks import check
from vicinal.runs.run_lock import LOCK, only_worker, worker
from vicinal.runs.shapes import COMPLETED, ENVIRONMENT, RESULT, ROW, misfit

log = logging.getLogger(__name__)

DAMAGED = ".damaged"
SUMS = "SHA256SUMS"


class RunFolder:
    """``<output_dir>/runs/<readable-name>-<run_id>/``; its result must have the ``run_id``, if one is given."""

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
        self.mixed_sounds = path / "mixed.wav"
        self.noisy_labels = path / "noisy_labels.csv"
        self.log = path / "train.log"
        self.sums = path / SUMS
        self._records = (self.config, self.environment, self.metrics, self.checkpoint)
        self._heartbeat: Heartbeat | None = None
        self._views = (self.predictions, self.mixed, self.mixed_sounds, self.noisy_labels)

    # The result

    def load_result(self) -> dict[str, Any]:
        """Return the content of ``result.json``. Raises as :func:`vicinal.runs.files.read_json` does."""
        result = files.read_json(self.result)
        if result.pop("checksum", None) != _digest_json(result):
            raise DamagedError(self.result, "its checksum is wrong")
        shape = COMPLETED if result.get("status") == "completed" else RESULT
        if (where := misfit(result, shape)) is not None:
            raise DamagedError(self.result, f"{where} is not what was written")
        if self.run_id is not None and result["run_id"] != self.run_id:
            raise DamagedError(self.result, f"it is of another run, {result['run_id']}")
        return result

    def read_result(self) -> dict[str, Any] | None:
        """Return the same, or None without a result. A damaged file is named and counts as none."""
        try:
            return self.load_result()
        except FileNotFoundError:
            return None
        except DamagedError as damage:
            say(f"{damage}; the run does not count as completed")
            return None

    def completed(self) -> dict[str, Any] | None:
        """Return the result of a completed run, else None."""
        result = self.read_result()
        return result if result is not None and result["status"] == "completed" else None

    def complete(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Write and return the result of a completed run, and the checksums of all files beside it.

        These files are on the disk before the result is, since it is the done mark. ``sha256sum -c`` reads the
        checksums too. The result also carries its own.
        """
        result = {**result, "status": "completed"}
        self._seal(result, *self._records, *(file for file in self._views if file.exists()))
        self.previous.unlink(missing_ok=True)
        return result

    def fail(self, metadata: Mapping[str, Any], reason: str) -> None:
        """Write that the run failed and why; it can be resumed all the same."""
        self._seal({**metadata, "status": "failed", "error": reason})

    def stop(self, metadata: Mapping[str, Any], reason: str) -> None:
        """Write that the run was stopped before its end and why; it can be resumed all the same."""
        self._seal({**metadata, "status": "stopped", "error": reason})

    def _seal(self, result: Mapping[str, Any], *beside: Path) -> None:
        self.check_lock()
        data = files.encode_json({**result, "checksum": _digest_json(result)})
        for file in beside:
            sync(file)  # the epochs were only appended
        sums = {**{file.name: _digest(file) for file in beside}, self.result.name: files.sha256(data)}
        files.write(self.sums, "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode())
        files.write(self.result, data)

    def _read_sums(self) -> dict[str, str]:
        """Return {file name: checksum}; empty where the file is missing or damaged."""
        try:
            lines = files.read(self.sums, 2**16).decode(errors="replace").split("\n")
        except (FileNotFoundError, DamagedError):
            return {}
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

    # The files beside it

    def damage(self) -> list[str]:
        """Say what is wrong with the files beside the result of a completed run, one line per file."""
        try:
            sums = self._read_sums()
            if sums.get(self.result.name) != _digest(self.result):
                return [f"{self.sums} is missing or damaged: the files beside the result cannot be checked"]
        except OSError as error:
            return [unreadable(error)]
        newer = self.predictions.name in sums  # older results have no views among their checksums
        views = [file for file in self._views if file.name in sums or (newer and os.path.lexists(file))]
        return [line for file in (*self._records, *views) if (line := _damage_of(file, sums.get(file.name)))]

    def mend(self, file: Path, data: bytes) -> bool:
        """Write a file beside the result of a completed run again, if ``data`` is what it was; else change nothing."""
        if self._read_sums().get(file.name) != files.sha256(data):
            return False
        try:
            files.write(file, data)
        except OSError:  # a read-only folder
            return False
        return True

    def about(self) -> dict[str, Any]:
        """Return the content of ``environment.json``; empty where it cannot be read."""
        try:
            return files.read_json(self.environment, ENVIRONMENT)
        except (OSError, DamagedError):
            return {}

    def sources(self) -> dict[str, str]:
        """Return the hashes of the code that began the run, by file; empty where they are not known."""
        sources: dict[str, str] = self.about().get("sources", {})
        return sources

    def rows(self) -> list[dict[str, Any]]:
        """Return the epochs of ``metrics.jsonl``, without half a line at its end; none if damaged, with a warning."""
        try:
            data = files.read(self.metrics)
            expected = self._read_sums().get(self.metrics.name)
            if expected is None or files.sha256(data) == expected:
                return [files.decode_json(self.metrics, line, ROW) for line in data.split(b"\n")[:-1]]
        except FileNotFoundError:
            return []
        except (DamagedError, OSError):
            pass
        say(f"{self.metrics} is damaged; its curves are not used")
        return []

    # Work on the run

    @contextmanager
    def lock(self, wait: bool) -> Iterator[None]:
        """Be the only process that works on the run. The lock of a dead process is free.

        Raises BusyError: another process works on the run, and ``wait`` is false.
        """
        if self.path.is_symlink():  # its content is deleted when a training begins
            raise UserError(f"{self.path}: is a link; a run is trained in a folder of its own")
        files.make_folder(self.path)
        try:
            check(self.path / LOCK)
        except DamagedError as damage:
            self.set_aside(damage, "and another one is used")
        with only_worker(self.path, wait, self._worker) as self._heartbeat:
            try:
                yield
            finally:
                self._heartbeat = None

    def check_lock(self) -> None:
        """Raise TakenOverError if this process works on the run no longer, and may write nothing more here."""
        if self._heartbeat is not None:
            self._heartbeat.check()

    def tidy(self) -> None:
        """Remove what a process has left that was killed right after the done mark, unless another one works here."""
        if any(os.path.lexists(file) for file in (self.path / HEARTBEAT, self.previous)):
            with suppress(UserError, OSError), self.lock(wait=False):  # which takes the place of the heartbeat
                self.previous.unlink(missing_ok=True)

    def locked(self) -> str | None:
        """Name the process that works on the run; None without one."""
        return worker(self.path, self._worker)

    def _worker(self) -> str:
        first = self.about()
        session = first | (first.get("continued") or [{}])[-1]  # a later session records what has changed
        if {"pid", "host"} <= session.keys():
            return f"process {session['pid']} on {session['host']}"
        return "another process"  # it has only just begun

    def inspect(self) -> None:
        """Name what no killed process can have left so, before the run is trained or resumed."""
        try:
            self.load_result()
        except FileNotFoundError:
            pass
        except DamagedError as damage:
            self.set_aside(damage, "the run does not count as completed")
        folder = self.path / "wandb"
        for file in (*self._records, *self._views, self.sums, self.previous, self.log, folder):
            try:
                files.check_kind(file, stat.S_IFDIR if file == folder else stat.S_IFREG)
            except FileNotFoundError:
                pass
            except DamagedError as damage:  # nothing is written to where a link or a pipe leads
                self.set_aside(damage, "and the file is written again")
        if self.sums.exists() and not self.result.exists() and not _aside(self.result).exists():
            log.warning("%s is missing; the run does not count as completed", self.result)
        if not self.checkpoint.exists():
            if self.previous.exists():
                log.warning("%s is missing; the one before it is used", self.checkpoint)
            elif self.metrics.exists() and self.metrics.stat().st_size:
                log.warning("%s is missing; the training begins again", self.checkpoint)

    def begin(self) -> None:
        """Remove the done mark and files that were only half written."""
        for file in (self.result, self.sums, *self.path.glob(f"*{PARTIAL}")):
            file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Empty the folder, but keep the files that were set aside as evidence."""
        self.result.unlink(missing_ok=True)  # first, so that half a clearing never looks like a completed run
        for entry in self.path.iterdir():
            if entry.suffix == DAMAGED or entry.name in (LOCK, HEARTBEAT):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)  # W&B's process may still write about a killed session
            else:
                entry.unlink(missing_ok=True)  # another process may measure the clock by a file
        sync(self.path)

    def set_aside(self, damage: DamagedError, consequence: str) -> None:
        """Name a damaged file, and keep it under another name. In a read-only folder it stays as it is."""
        try:
            where = f"set aside as {damage.file.replace(_aside(damage.file)).name}"
        except OSError:
            where = "left as it is"
        log.warning("%s; it is %s, %s", damage, where, consequence)


def unreadable(error: OSError) -> str:
    """Return a line for a file that cannot be read, which may be there all the same."""
    return f"{error.filename} cannot be read: {error.strerror}"


@cache
def say(line: str) -> None:
    """Log a warning once per process, however many readers find the same damage."""
    log.warning("%s", line)


def _damage_of(file: Path, checksum: str | None) -> str | None:
    try:
        if _digest(file) == checksum:
            return None
        return str(DamagedError(file, f"its checksum is not the one in {SUMS}"))
    except FileNotFoundError:
        return f"{file} is missing"
    except DamagedError as damage:
        return str(damage)
    except OSError as error:
        return unreadable(error)


def _digest(file: Path) -> str:
    with files.opened(file, sys.maxsize if file.suffix == ".pt" else LARGEST) as stream:  # a checkpoint is of any size
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_json(content: Mapping[str, Any]) -> str:
    return files.sha256(json.dumps(content, allow_nan=False).encode())


def _aside(file: Path) -> Path:
    return file.with_name(file.name + DAMAGED)

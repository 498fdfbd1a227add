"""The folder of one run. ``result.json`` comes last and whole: with ``"status": "completed"`` it is the done mark."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import filelock

from vicinal import output
from vicinal.errors import UserError
from vicinal.runs.files import PARTIAL, DamagedError, encode_json, read, sha256, sync, write
from vicinal.runs.locks import held

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
        self.log = path / "train.log"
        self.sums = path / SUMS
        self._records = (self.config, self.environment, self.metrics, self.checkpoint)

    # What came of it

    def read_result(self) -> dict[str, Any] | None:
        """What came of the run; None if nothing has yet. A damaged file is named and counts as nothing."""
        try:
            return self._read_result()
        except FileNotFoundError:
            return None
        except DamagedError as damage:
            say(f"{self.result} is damaged: {damage}; the run does not count as completed")
            return None

    def _read_result(self) -> dict[str, Any]:
        result = _decode(read(self.result))
        if result.pop("checksum", None) != _checksum(result):
            raise DamagedError("its checksum is wrong")
        if self.run_id is not None and result["run_id"] != self.run_id:
            raise DamagedError(f"it is of another run, {result['run_id']}")
        return result

    def completed(self) -> dict[str, Any] | None:
        """The result of a completed run, else None."""
        result = self.read_result()
        return result if result is not None and result["status"] == "completed" else None

    def complete(self, result: Mapping[str, Any]) -> dict[str, Any]:
        """Write and return the result of a completed run, and the checksums of all files that say something about it.

        The checksums come first, since the result is the done mark; they can be checked with ``sha256sum -c`` too. The
        result also carries one of its own.
        """
        result = {**result, "status": "completed"}
        self._seal(result, *self._records)
        self.previous.unlink(missing_ok=True)
        return result

    def fail(self, heading: Mapping[str, Any], reason: str) -> None:
        """Write that the run failed and why; it can be continued all the same."""
        self._seal({**heading, "status": "failed", "error": reason})

    def _seal(self, result: Mapping[str, Any], *files: Path) -> None:
        data = encode_json({**result, "checksum": _checksum(result)})
        sums = {file.name: sha256(file.read_bytes()) for file in files} | {self.result.name: sha256(data)}
        write(self.sums, "".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode())
        write(self.result, data)

    def damage(self) -> list[str]:
        """What is wrong with the files beside the result of a completed run, a line each."""
        sums, lines = self._sums(), []
        if sums.get(self.result.name) != sha256(read(self.result)):
            return [f"{self.sums} is missing or damaged: the files beside the result cannot be checked"]
        for file in self._records:
            try:
                if sha256(read(file)) != sums.get(file.name):
                    lines.append(f"{file} is damaged: its checksum is not the one in {SUMS}")
            except FileNotFoundError:
                lines.append(f"{file} is missing")
            except DamagedError as damage:
                lines.append(f"{file} is damaged: {damage}")
        return lines

    def sources(self) -> dict[str, str]:
        """Hashes of the code that began the run, by file; none where ``environment.json`` does not say."""
        try:
            content = json.loads(read(self.environment))
            return {str(name): str(value) for name, value in content["sources"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, DamagedError):
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
        with suppress(DamagedError):
            try:
                data = read(self.metrics)
            except FileNotFoundError:
                return []
            expected = self._sums().get(self.metrics.name)
            if expected is None or sha256(data) == expected:
                return [_decode(line) for line in data.split(b"\n")[:-1]]
        say(f"{self.metrics} is damaged; its curves are not used")
        return []

    def _sums(self) -> dict[str, str]:
        """{file name: checksum} of a completed run; none where the file is missing or unreadable."""
        try:
            lines = read(self.sums).decode(errors="replace").split("\n")
        except (FileNotFoundError, DamagedError):
            return {}
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

    # What is under way

    def epochs_done(self) -> int | None:
        """That a run can be continued after; None if there is nothing to continue."""
        from vicinal.runs import checkpoint  # torch, which those who only read results do without

        for file in (self.checkpoint, self.previous):
            try:
                return len(checkpoint.load(file)["training"]["history"]["rows"])
            except (FileNotFoundError, DamagedError, KeyError):  # named when the run goes on
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
        self.path.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(self.path / LOCK)
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

    def locked(self) -> str | None:
        """Who works on the run, in words; None if nobody does."""
        return self._worker() if held(self.path / LOCK) else None

    def _worker(self) -> str:
        try:
            environment = _decode(self.environment.read_bytes())
            session = environment | environment.get("continued", [{}])[-1]  # which says what is not as it was
            return f"process {session['pid']} on {session['host']}"
        except (OSError, KeyError, DamagedError):  # it has only just begun
            return "another process"

    def inspect(self) -> None:
        """Name what a process that was killed cannot have left so, before the run is trained or continued."""
        try:
            self._read_result()
        except FileNotFoundError:
            pass
        except DamagedError as damage:
            self.set_aside(self.result, damage, "the run does not count as completed")
        for file in (*self._records, self.sums, self.previous, self.log):
            if file.is_dir():
                self.set_aside(file, DamagedError("it is a folder"), "and the file is written anew")
        if self.sums.exists() and not self.result.exists() and not _aside(self.result).exists():
            log.warning("%s is missing; the run does not count as completed", self.result)
        if not self.checkpoint.exists():
            if self.previous.exists():
                log.warning("%s is missing; the one before it is used", self.checkpoint)
            elif self.metrics.exists() and self.metrics.stat().st_size:
                log.warning("%s is missing; the training begins anew", self.checkpoint)

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
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)  # W&B's process may still tell of a session that was killed
            else:
                entry.unlink()
        sync(self.path)

    def set_aside(self, file: Path, damage: Exception, consequence: str) -> None:
        """Name a damaged file, and keep it under another name. Where nothing can be renamed it stays as it is."""
        try:
            where = f"set aside as {file.replace(_aside(file)).name}"
        except OSError:
            where = "left as it is"
        log.warning("%s is damaged: %s; it is %s, %s", file, damage, where, consequence)

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Copy what is logged inside to ``train.log``, and say there whether the terminal had it all."""
        handler = _LogFile(self.log, encoding="utf-8", errors="backslashreplace")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            yield
        finally:
            for line in output.lost():
                log.warning("%s", line)
            root.removeHandler(handler)
            handler.close()


class _LogFile(logging.FileHandler):
    """A log that stops where it cannot be written: what else cannot be written there says why."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass

    def close(self) -> None:
        with suppress(OSError):
            super().close()


@cache
def say(line: str) -> None:
    """Log a warning once a process, however many readers come upon the same damage."""
    log.warning("%s", line)


def _checksum(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, allow_nan=False).encode())


def _aside(file: Path) -> Path:
    return file.with_name(file.name + DAMAGED)


def _decode(data: bytes) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError:
        raise DamagedError("it is not JSON" if data else "it is empty") from None
    if not isinstance(content, dict):
        raise DamagedError("it is not a JSON object")
    return content

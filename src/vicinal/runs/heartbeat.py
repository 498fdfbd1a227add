"""Who works on a run, told to other machines, between which a file lock may not hold: ``lock.json``, kept fresh.

Ages are counted by the clock of the file server, which stamps all files of a folder: the nodes' own may differ.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import stat
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from vicinal.errors import UserError
from vicinal.runs import files
from vicinal.runs.files import CAREFULLY, PARTIAL, DamagedError, safe_name
from vicinal.utils.escaping import visible
from vicinal.utils.slurm_id import own_id

log = logging.getLogger(__name__)

HEARTBEAT = "lock.json"
PERIOD = 30.0
"""Seconds between two heartbeats."""
STALE = 90.0
"""Age in seconds from which on a heartbeat is that of a dead process."""
CLOCK_SECONDS = 60.0  # for which the difference to the file server's clock is taken to stay the same
BOOT = Path("/proc/sys/kernel/random/boot_id")
SHAPE = {"host": str, "pid": int, "boot_id": str, "slurm_job_id": str, "restart_count": int, "at": str}
LARGEST = 2**14  # bytes

_offsets: dict[int, tuple[float, float]] = {}  # {file system: (when it was measured, seconds that its clock is ahead)}


@dataclass(frozen=True)
class Worker:
    """The process that works on a run; "" for what does not exist there."""

    host: str
    pid: int
    boot_id: str
    slurm_job_id: str
    restart_count: int  # times that Slurm has requeued the job
    at: str = ""  # when it began

    @classmethod
    def here(cls, environment: Mapping[str, str] = os.environ) -> Worker:
        """Return this process."""
        restarts = environment.get("SLURM_RESTART_COUNT", "")
        return cls(
            platform.node(),
            os.getpid(),
            _boot_id(),
            own_id(environment) or "",
            int(restarts) if restarts.isdecimal() else 0,
            datetime.now().astimezone().isoformat(timespec="seconds"),
        )

    def __str__(self) -> str:
        what = f"job {self.slurm_job_id} on node" if self.slurm_job_id else f"process {self.pid} on"
        return visible(f"{what} {self.host}")  # the folder may be a stranger's

    def shares_machine(self, other: Worker) -> bool:
        """Return whether both are on one machine, so that a file lock holds between them, in containers too."""
        if self.boot_id and other.boot_id:
            return self.boot_id == other.boot_id
        return self.host == other.host

    def continues(self, other: Worker) -> bool:
        """Return whether the other is the same job before Slurm requeued it: dead, or soon."""
        same = self.slurm_job_id != "" and self.slurm_job_id == other.slurm_job_id
        return same and other.restart_count < self.restart_count


def read(folder: Path) -> Worker | None:
    """Return the worker that a folder names, alive or dead; None if it names none."""
    return _named(folder / HEARTBEAT)


def _named(file: Path) -> Worker | None:
    with suppress(OSError, DamagedError):
        content = files.decode_json(file, files.read(file, LARGEST), SHAPE)
        return Worker(**{name: content[name] for name in SHAPE})
    return None


def elsewhere(folder: Path) -> Worker | None:
    """Return the living worker on another machine; None without one. Of this machine, the file lock tells alone."""
    worker = read(folder)
    if worker is None or worker.shares_machine(Worker.here()):
        return None
    try:
        with files.opened(folder / HEARTBEAT, LARGEST) as stream:  # NFS keeps a stamp for a minute, unless one opens
            beaten = os.fstat(stream.fileno()).st_mtime
    except (OSError, DamagedError):
        return None
    return worker if _now(folder) - beaten < STALE else None


class TakenOverError(UserError):
    """This process stood still so long that another one took it for dead, and works on its run."""


class Heartbeat:
    """This process's part: ``lock.json``, from :meth:`begin` to :meth:`end`, by a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._file, self._worker, self._over = folder / HEARTBEAT, Worker.here(), threading.Event()
        self._beaten = math.inf  # when the file was last made fresh; never without one
        self._lost = ""  # who has the run now
        self._thread = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)

    def begin(self) -> bool:
        """Take the place of a dead worker; return False if another process has been faster.

        The file is made whole and by one process alone. Where it cannot be made, on a full disk for instance, this goes
        on without one: the file lock is there too.
        """
        for _ in range(2):
            dead, began = read(self._file.parent), time.time()
            try:
                self._write()
            except FileExistsError:
                if elsewhere(self._file.parent) is not None:
                    return False
                try:
                    if not self._remove(dead):
                        return False
                except OSError:
                    return True
            except OSError as error:
                log.debug("no heartbeat: %s", error)
                return True
            else:
                self._beaten = began
                self._thread.start()
                return True
        return False

    def check(self) -> None:
        """Raise TakenOverError if another process has the run now; whoever writes in the folder asks this before.

        The file is read only where the last heartbeat is so old that it may be the end: this is asked often.
        """
        if time.time() - self._beaten > STALE - PERIOD:
            self._beat()
        if self._lost:
            reason = f"{self._lost} taken over this run while this process stood still as if it were dead"
            raise TakenOverError(f"{self._file.parent}: {reason}")

    def end(self) -> None:
        """Remove the file, unless another process has it now."""
        self._over.set()
        if self._thread.ident is None:
            return
        self._thread.join(1.0)  # the file server may not answer
        with suppress(OSError):
            if read(self._file.parent) == self._worker:
                self._file.unlink()

    def _own(self) -> Path:
        """Return a file beside it that no other process uses."""
        name = f"{HEARTBEAT}.{safe_name(self._worker.host, 64)}.{self._worker.pid}{PARTIAL}"
        return self._file.with_name(name)

    def _remove(self, dead: Worker | None) -> bool:
        """Remove the file of a dead worker; return False if it was that of a process which had done so before."""
        aside = self._own()
        try:
            if stat.S_ISDIR(self._file.lstat().st_mode):
                raise IsADirectoryError
            self._file.replace(aside)
            if _named(aside) == dead:
                return True
            with suppress(OSError):  # a third one may have been faster
                os.link(aside, self._file)
            return False
        except FileNotFoundError:
            return True
        finally:
            aside.unlink(missing_ok=True)

    def _write(self) -> None:
        partial, data = self._own(), files.encode_json(asdict(self._worker))
        try:
            partial.unlink(missing_ok=True)
            _create(partial, data)
            os.link(partial, self._file)
        except FileExistsError:
            raise
        except OSError:  # a file system without second names
            _create(self._file, data)
        finally:
            partial.unlink(missing_ok=True)

    def _keep_beating(self) -> None:
        while not (self._lost or self._over.wait(PERIOD)):
            self._beat()

    def _beat(self) -> None:
        with suppress(OSError):  # perhaps the next time
            now, began = _named(self._file), time.time()
            if now == self._worker:
                os.utime(self._file)
            elif now is not None:
                self._lost = f"{now} has"
                return
            elif began - self._beaten < STALE or self._file.exists():  # it was removed, or is damaged
                self._write()
            else:  # there was time for another process to begin and to end
                self._lost = "another process may have"
                return
            self._beaten = began


def forget(folder: Path, job: str) -> None:
    """Remove the heartbeat of a Slurm job that has ended, as Slurm says; if it is alive, it writes it again."""
    with suppress(OSError):
        if (worker := read(folder)) is not None and worker.slurm_job_id == job:
            (folder / HEARTBEAT).unlink()


def _create(file: Path, data: bytes) -> os.stat_result:
    """Write a new file and return its status. Raises FileExistsError if there is one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | CAREFULLY
    with open(os.open(file, flags, 0o666), "wb") as stream:  # noqa: PTH123 - it takes no descriptor
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())  # so that its stamp is the file server's
        return os.fstat(stream.fileno())


def _now(folder: Path) -> float:
    """Return the time by the clock that stamps the files of a folder; the own one where none can be written."""
    ahead = 0.0
    with suppress(OSError):
        device = folder.stat().st_dev
        measured, ahead = _offsets.get(device, (-CLOCK_SECONDS, 0.0))
        if time.monotonic() - measured >= CLOCK_SECONDS:
            probe = folder / f".clock.{os.getpid()}-{threading.get_ident()}{PARTIAL}"
            try:
                probe.unlink(missing_ok=True)
                ahead = _create(probe, b"\n").st_mtime - time.time()
            finally:
                probe.unlink(missing_ok=True)
            _offsets[device] = time.monotonic(), ahead
    return time.time() + ahead


@cache
def _boot_id() -> str:
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return ""

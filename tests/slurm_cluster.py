"""A Slurm of one node with accounting, started for the tests that need one; skipped where it cannot be.

It needs root, and Debian's ``slurm-wlm munge slurmdbd mariadb-server``.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

NEEDED = ("munged", "mariadbd", "mariadb-install-db", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacctmgr")
ACCOUNTS = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdPort={dbd}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass=slurm
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
"""
CLUSTER = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmctldPort={ctld}
SlurmdPort={d}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MailProg=/bin/true
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}
AccountingStoragePass={folder}/munge.socket
JobAcctGatherType=jobacct_gather/linux
SlurmdTimeout=30
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=10
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""
SECONDS = 60


def missing() -> str:
    """Why no Slurm can be started here; "" if it can."""
    if os.geteuid() != 0:
        return "needs root, to start a Slurm"
    absent = [name for name in NEEDED if shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    return f"needs {', '.join(absent)} (Debian: slurm-wlm munge slurmdbd mariadb-server)" if absent else ""


@contextmanager
def running() -> Iterator[dict[str, str]]:
    """Inside, a Slurm runs; yield the environment of its commands."""
    # Not in pytest's folders, which other users than this one may not enter: munge and mysql have users of their own.
    with TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        with _running(Path(name)) as environment:
            yield environment


@contextmanager
def _running(folder: Path) -> Iterator[dict[str, str]]:
    environment = {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "SLURM_CONF": f"{folder}/slurm.conf"}
    ports = dict(zip(("dbd", "database", "ctld", "d"), _free_ports(4), strict=True))
    values = {"folder": folder, "host": socket.gethostname().partition(".")[0], **ports}
    for name in ("state", "spool", "database"):
        (folder / name).mkdir(parents=True)
    (folder / "slurm.conf").write_text(CLUSTER.format(**values))
    accounts = folder / "slurmdbd.conf"
    accounts.write_text(ACCOUNTS.format(**values))
    accounts.chmod(0o600)

    def run(*command: str, **more: str) -> str:
        done = subprocess.run(command, env={**environment, **more}, capture_output=True, text=True, timeout=SECONDS)
        return done.stdout if done.returncode == 0 else ""

    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, **more: str) -> None:
        with (folder / f"{Path(command[0]).name}.out").open("wb") as out:
            started.append(subprocess.Popen(command, env={**environment, **more}, stdout=out, stderr=out))

    def until(daemon: str, holds: Callable[[], object]) -> None:
        end = time.monotonic() + SECONDS
        while not holds():
            said = "".join(file.read_text(errors="replace")[-1000:] for file in folder.glob(f"{daemon}.[lo]*"))
            assert time.monotonic() < end, f"{daemon} does not start: {said}"
            time.sleep(0.3)

    database = folder / "database"
    shutil.chown(database, "mysql")
    mysql = ("--no-defaults", "--user=mysql", f"--datadir={database}")
    sql = ("mariadb", "--no-defaults", f"--socket={database}/socket", "--user=root", "--execute")
    try:
        # A munged of its own: the socket of one that was killed, or that came with an image, may still lie in /run.
        (folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (folder / "munge.key").chmod(0o400)
        names = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
        start("munged", "--foreground", *(f"--{flag}={folder}/munge.{name}" for flag, name in names.items()))
        until("munged", lambda: run("munge", "--no-input", f"--socket={folder}/munge.socket"))
        run("mariadb-install-db", *mysql, "--auth-root-authentication-method=normal")
        address = (f"--port={values['database']}", "--bind-address=127.0.0.1", f"--socket={database}/socket")
        start("mariadbd", *mysql, *address, "--innodb-buffer-pool-size=32M")
        until("mariadbd", lambda: run(*sql, "select 1"))
        for host in ("127.0.0.1", "localhost"):
            run(*sql, f"create user 'slurm'@'{host}' identified by 'slurm'")
            run(*sql, f"grant all on *.* to 'slurm'@'{host}'")
        start("slurmdbd", "-D", SLURMDBD_CONF=str(accounts))
        add, show = ("sacctmgr", "-i", "add", "cluster", "tests"), ("sacctmgr", "-n", "show", "cluster")
        until("slurmdbd", lambda: run(*add) or "tests" in run(*show))
        start("slurmctld", "-D")
        start("slurmd", "-D")
        until("slurmd", lambda: "idle" in run("sinfo", "-h", "-o", "%T"))
        yield environment
    finally:
        run("scancel", "--full", "--user=root")
        for process in reversed(started):
            process.send_signal(signal.SIGTERM)
        for process in reversed(started):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports

"""Upload the runs that W&B was offline for, with its own `wandb sync`.

First, W&B is sent what it lacks of completed runs (its process was stopped or killed), from the runs' files.
What is uploaded already is skipped, by the marker that wandb leaves; so is a run that a process works on. After a run
that cannot be uploaded the others follow, and the exit code is 1; the same command tries again.

python scripts/sync.py                                    all in outputs/
python scripts/sync.py outputs/runs/<run> --dry-run       what would be uploaded
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from vicinal.cli.script_args import Arguments, log_to, one_line_errors
from vicinal.errors import UserError
from vicinal.runs.folder import RunFolder
from vicinal.tracking.wandb.record import OfflineRecord, offline_records, server, unfinished_runs, worker

log = logging.getLogger(__name__)


def main() -> None:
    """Print a line for each run; exit code 1 if one could not be uploaded."""
    words = parser().parse_args()
    log_to("stdout", logging.INFO)
    with one_line_errors():
        sys.exit(sync(words.target, words.dry_run))


def sync(target: Path, dry_run: bool) -> int:
    """Upload what is below a folder, and return the exit code."""
    if not target.is_dir():
        raise UserError(f"{target}: there is no such folder")
    lacking = unfinished_runs(target)
    for folder in lacking:
        log.info("%s: %s", folder.path.name, catch_up(folder, dry_run))
    runs = offline_records(target)
    states = []
    for number, run in enumerate(runs, start=1):
        states.append(state(run, dry_run))
        log.info("%d/%d %s: %s", number, len(runs), run.name, states[-1])
    failed = sum(text.startswith("failed") for text in states)
    failed += 0 if dry_run else len(unfinished_runs(target))
    log.info("%d offline runs, %d uploaded, %d failed", len(runs), states.count("uploaded"), failed)
    return 1 if failed else 0


def catch_up(folder: RunFolder, dry_run: bool) -> str:
    """Send W&B what it lacks of a run, and return the outcome in words."""
    if at_work := worker(folder.path):
        return f"skipped, {at_work} works on it"
    if dry_run:
        return "W&B would be told what it lacks"
    from vicinal.jobs import run_info

    result = folder.completed() or {}
    try:
        return run_info.catch_up(folder, result, run_info.settings(result)) or "W&B is disabled"
    except (KeyError, TypeError, ValueError, AttributeError, UserError) as error:
        return f"failed: its result is not what a run writes ({error})"


def state(run: OfflineRecord, dry_run: bool) -> str:
    """Return what became of a run, in words."""
    if run.uploaded:
        return "already uploaded"
    if at_work := worker(run.folder.parents[1]):
        return f"skipped, {at_work} works on it"
    if dry_run:
        return "would be uploaded"
    reason = run.upload(server())
    return f"failed: {reason}" if reason else "uploaded"


def parser() -> Arguments:
    """Return the parser of the command line."""
    words = Arguments(__doc__)
    words.add_argument(
        "target", nargs="?", type=Path, default=Path("outputs"), metavar="PATH", help="a run, or any folder above runs"
    )
    words.add_argument("--dry-run", action="store_true", help="upload nothing, only say what would be")
    return words


if __name__ == "__main__":
    main()

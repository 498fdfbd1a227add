"""Upload the runs that W&B was offline for, with its own `wandb sync`.

What is uploaded already is skipped, by the marker that wandb leaves; so is a run that a process works on. After a run
that cannot be uploaded the others follow, and the exit code is 1; the same command tries again.

python scripts/sync.py                                    all in outputs/
python scripts/sync.py outputs/runs/<run> --dry-run       what would be uploaded
"""

from __future__ import annotations

import sys
from pathlib import Path

from vicinal.arguments import Arguments, one_line_errors
from vicinal.errors import UserError
from vicinal.tracking.upload import Offline, offline_runs, upload


def main() -> None:
    """Print a line for each run; exit code 1 if one could not be uploaded."""
    words = parser().parse_args()
    with one_line_errors():
        sys.exit(sync(words.target, words.dry_run))


def sync(target: Path, dry_run: bool) -> int:
    """Upload what is below a folder; returns the exit code."""
    if not target.is_dir():
        raise UserError(f"{target}: there is no such folder")
    runs = offline_runs(target)
    states = []
    for number, run in enumerate(runs, start=1):
        states.append(state(run, dry_run))
        print(f"{number}/{len(runs)} {run.name}: {states[-1]}", flush=True)
    failed = sum(each.startswith("failed") for each in states)
    print(f"{len(runs)} offline runs, {states.count('uploaded')} uploaded, {failed} failed")
    return 1 if failed else 0


def state(run: Offline, dry_run: bool) -> str:
    """What became of a run, in words."""
    if run.uploaded:
        return "already uploaded"
    if worker := run.worker:
        return f"skipped, {worker} works on it"
    if dry_run:
        return "would be uploaded"
    import wandb

    reason = upload(run, wandb.setup(wandb.Settings(silent=True)).settings.base_url)
    return f"failed: {reason}" if reason else "uploaded"


def parser() -> Arguments:
    """What the command line may say."""
    words = Arguments(__doc__)
    words.add_argument(
        "target", nargs="?", type=Path, default=Path("outputs"), metavar="PATH", help="a run, or any folder above runs"
    )
    words.add_argument("--dry-run", action="store_true", help="upload nothing, only say what would be")
    return words


if __name__ == "__main__":
    main()

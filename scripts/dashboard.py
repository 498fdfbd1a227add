"""A W&B workspace and a W&B report about a finished sweep, made of its folder.

The workspace has the sections alpha curve, strategies, learning curves by cell, ledger, images and throughput; the
report has the sweep's tables and the same panels. Panels that no run of the sweep has anything for are left out and
named; a key that is asked for and that no run logs is refused. The runs must be at W&B for the panels to show them:
python scripts/sync.py uploads those that are offline.

python scripts/dashboard.py outputs/sweeps/mixup-0123456789 --entity my-team
python scripts/dashboard.py outputs/sweeps/mixup-0123456789 --dry-run > dashboard.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from vicinal.cli.script_args import Arguments, log_to, one_line_errors
from vicinal.dashboards.dashboard import Dashboard, make
from vicinal.dashboards.sections import SCORE
from vicinal.errors import UserError


def main() -> None:
    """Save both and print their addresses, or with --dry-run print them as JSON; a mistake is one line."""
    log_to("stderr")
    words = parser().parse_args()
    with one_line_errors():
        dashboard = made(words)
        for note in dashboard.notes:
            print(note, file=sys.stderr)
        if words.dry_run:
            print(json.dumps(dashboard.specification(), indent=1))
        else:
            save(dashboard)


def made(words: argparse.Namespace) -> Dashboard:
    """The dashboard that the command line asks for; nothing of it is at W&B yet."""
    try:
        return make(words.sweep, words.score, words.panel, words.entity, words.project)
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "wandb_workspaces":
            raise
        raise UserError("wandb-workspaces is not installed: pip install -e '.[dashboard]'") from None


def save(dashboard: Dashboard) -> None:
    """Give both to W&B, which needs a login, and print where they are."""
    import wandb

    try:
        for part in (dashboard.workspace, dashboard.report):
            part.entity = part.entity or wandb.Api().default_entity
            part.save()
            print(part.url)
    except (wandb.errors.CommError, wandb.errors.UsageError) as error:
        line = str(error).strip().splitlines()[0]
        raise UserError(f"W&B does not take it: {line} (--dry-run needs no login)") from error


def parser() -> Arguments:
    """What the command line may say."""
    words = Arguments(__doc__)
    words.add_argument("sweep", type=Path, metavar="SWEEP", help="a sweep's folder, with its report/")
    words.add_argument("--dry-run", action="store_true", help="print both as JSON; needs neither a login nor a network")
    words.add_argument("--score", default=SCORE, metavar="KEY", help="alphas are compared by (default: %(default)s)")
    words.add_argument(
        "--panel", action="append", default=[], metavar="KEY", help="one more learning curve; again for more"
    )
    words.add_argument("--entity", help="W&B user or team (default: wandb.entity of the runs, else your default)")
    words.add_argument("--project", help="W&B project (default: wandb.project of the runs)")
    return words


if __name__ == "__main__":
    main()

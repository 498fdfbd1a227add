"""Make a W&B workspace and a W&B report about a finished sweep from its folder.

The workspace has the sections alpha curve, strategies, learning curves by cell, mixing, images and throughput; the
report has the sweep's tables and the same panels. Panels without data are left out and named; a key on the command
line that no run logs is refused. The panels show runs that are at W&B: python scripts/sync.py uploads offline runs.

python scripts/dashboard.py outputs/sweeps/mixup-0123456789 --entity my-team
python scripts/dashboard.py outputs/sweeps/mixup-0123456789 --dry-run > dashboard.json
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vicinal.cli.script_args import Arguments, log_to, one_line_errors
from vicinal.errors import UserError, first_line

if TYPE_CHECKING:
    from vicinal.dashboards.dashboard import Dashboard


def main() -> None:
    """Save both and print their addresses, or with --dry-run print them as JSON; a mistake is one line."""
    log_to("stderr")
    words = parser().parse_args()
    with one_line_errors():
        dashboard = build(words)
        for note in dashboard.notes:
            print(note, file=sys.stderr)
        if words.dry_run:
            print(json.dumps(dashboard.specification(), indent=1))
        else:
            save(dashboard)


def build(words: argparse.Namespace) -> Dashboard:
    """Make the dashboard that the command line asks for, without sending it to W&B."""
    try:
        from vicinal.dashboards.dashboard import make
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "wandb_workspaces":
            raise
        raise UserError("wandb-workspaces is not installed: pip install -e '.[dashboard]'") from None
    return make(words.sweep, words.score, words.panel, words.entity, words.project)


def save(dashboard: Dashboard) -> None:
    """Send both to W&B, which needs a login, and print their addresses."""
    import wandb

    try:
        for part in (dashboard.workspace, dashboard.report):
            part.entity = part.entity or wandb.Api().default_entity
            part.save()
            print(part.url)
    except (wandb.errors.CommError, wandb.errors.UsageError) as error:
        raise UserError(f"W&B does not take it: {first_line(error)} (--dry-run needs no login)") from error


def parser() -> Arguments:
    """Return the parser of the command line."""
    words = Arguments(__doc__)
    words.add_argument("sweep", type=Path, metavar="SWEEP", help="a sweep's folder, with its report/")
    words.add_argument("--dry-run", action="store_true", help="print both as JSON; needs neither a login nor a network")
    words.add_argument(
        "--score",
        default="",
        metavar="KEY",
        help="alphas are compared by (default: test/best_val/ and the metric that selects)",
    )
    words.add_argument(
        "--panel", action="append", default=[], metavar="KEY", help="one more learning curve; again for more"
    )
    words.add_argument("--entity", help="W&B user or team (default: wandb.entity of the runs, else your default)")
    words.add_argument("--project", help="W&B project (default: wandb.project of the runs)")
    return words


if __name__ == "__main__":
    main()

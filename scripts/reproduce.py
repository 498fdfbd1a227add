"""Run a completed run's stored config again, in a new folder, and compare metrics, weights, scores and environment.

The last line is "bit-identical" (exit code 0), or the first place where the two part, and which versions or hardware
differ (exit code 1). Where the config says "auto", what the original had is used, if this machine has it. W&B is off.

python scripts/reproduce.py outputs/runs/digits-cnn-input-alpha0.2-0123456789-s0
python scripts/reproduce.py /archive/cifar10-resnet18-cutmix-alpha1-0123456789-s0 dataset.root=data --output /tmp/again
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from rich.console import Console

from vicinal.cli.script_args import Arguments, log_to, one_line_errors, trust
from vicinal.jobs.reproduce import Reproduction, reproduce
from vicinal.report.terminal import Grid, show


def main() -> None:
    """Repeat a run, print what was compared and the verdict; a mistake is one line and exit code 1."""
    log_to("stdout", logging.INFO)
    words = parser().parse_intermixed_args()
    with one_line_errors(words.overrides):
        found = reproduce(words.run, words.output, words.overrides, words.trust)
    summarize(found)
    print(found.verdict())
    sys.exit(0 if found.identical else 1)


def summarize(found: Reproduction) -> None:
    """Print what was compared and what differs around it, as tables."""
    states = [part.missing or part.parting or "identical" for part in found.parts]
    rows = [[part.name, part.extent, state] for part, state in zip(found.parts, states, strict=True)]
    grids = [Grid("the original and its repetition", ["part", "compared", ""], [], rows)]
    if found.differences:
        rows = [list(row) for row in found.differences]
        grids.append(Grid("what differs in the environment", ["", "then", "now"], [], rows))
    notes = found.notes if found.differences else [*found.notes, "the two environments do not differ"]
    show(grids, notes, Console(width=None if Console().is_terminal else 200))


def parser() -> Arguments:
    """Return the parser of the command line."""
    words = Arguments(__doc__)
    words.add_argument("run", type=Path, metavar="RUN_FOLDER", help="of a completed run, wherever it is now")
    words.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="what is elsewhere on this machine, such as dataset.root"
    )
    trust(words)
    words.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="a new one (default: <outputs>/reproductions/<name of the run>-again)",
    )
    return words


if __name__ == "__main__":
    main()

"""From finished runs to an honest table: means, intervals, paired tests against a baseline, and doubts.

python scripts/report.py outputs/sweeps/mixup-0123456789          a sweep, as at its end
python scripts/report.py --where mixup=input                      all runs in outputs/ that chose this
python scripts/report.py outputs --where dataset=digits --swept mixup,model
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from pathlib import Path
from typing import NoReturn

from vicinal.errors import UserError
from vicinal.explain import explain, is_mistake
from vicinal.sweeps.comparing import compare
from vicinal.sweeps.comparison import SCORES
from vicinal.sweeps.finding import SWEEP, find
from vicinal.sweeps.report import finish, publish


def main() -> None:
    """Print tables and write them as CSV, Markdown, LaTeX, plots and a page; a mistake is one line and exit code 1."""
    logging.basicConfig(format="%(message)s")
    try:
        report(parser().parse_args())
    except Exception as error:
        if not is_mistake(error):
            raise
        sys.exit(f"error: {explain(error)}")


def report(words: argparse.Namespace) -> None:
    """Make the report that the command line asks for."""
    if not words.target and not words.where:
        raise UserError("say what to report on: the folder of a sweep, a folder of runs, or --where key=value")
    target = Path(words.target or "outputs")
    whole = not (words.where or words.swept or words.output)
    if whole and (target / SWEEP).exists():
        finish(target, words.baseline, words.score)
        return
    found = find(target, words.where)
    comparison = compare(found, words.baseline, words.score, words.swept, words.anyway)
    name = "+".join(words.where) or target.resolve().name
    folder = Path(words.output or Path("outputs", "reports", re.sub(r"[^\w.+=-]", "-", name)))
    publish(comparison, folder)


class Parser(argparse.ArgumentParser):
    """Mistakes are one line here too, with the exit code of all mistakes."""

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message}; --help says more")


def parser() -> argparse.ArgumentParser:
    """What the command line may say."""
    start, _, examples = (__doc__ or "").partition("\n\n")
    words = Parser(
        description=start, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    words.add_argument("target", nargs="?", metavar="SWEEP|FOLDER", help="a sweep's folder, or any folder above runs")
    words.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only runs with this option (mixup=input) or value (trainer.epochs=30); again for more, all must hold; "
        "without a folder, of outputs",
    )
    words.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="the cell that the others are compared with, or its id; again for more conditions (default: mixup=none)",
    )
    words.add_argument("--score", choices=SCORES[1:], default=SCORES[1], help="what is tested (default: %(default)s)")
    words.add_argument(
        "--swept",
        type=lambda text: text.split(","),
        default=[],
        metavar="KEY,KEY",
        help="the keys by which the cells are meant to differ (default: a sweep's own; else what differs in mixup)",
    )
    words.add_argument(
        "--anyway", action="store_true", help="compare cells that differ in more than these; every output says so"
    )
    words.add_argument(
        "--output", metavar="FOLDER", help="default: report/ in a sweep's folder, else outputs/reports/<name>/"
    )
    return words


if __name__ == "__main__":
    main()

"""Make a table of finished runs: means, intervals, paired tests against a baseline, and caveats.

python scripts/report.py outputs/sweeps/mixup-0123456789          a sweep, as at its end
python scripts/report.py --where mixup=input                      all runs in outputs/ with this option
python scripts/report.py outputs --where dataset=digits --swept mixup,model
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from vicinal.analysis.compare import compare
from vicinal.analysis.comparison import TESTED
from vicinal.analysis.load import SWEEP, RunSet, load_runs
from vicinal.cli.script_args import Arguments, log_to, one_line_errors
from vicinal.errors import UserError
from vicinal.report.report import finish, name, publish


def main() -> None:
    """Print tables and write them as CSV, Markdown, LaTeX, plots and a page; a mistake is one line and exit code 1."""
    log_to("stderr")
    with one_line_errors():
        report(parser().parse_args())


def report(words: argparse.Namespace) -> None:
    """Make the report that the command line asks for."""
    if not words.target and not words.where:
        raise UserError("say what to report on: the folder of a sweep, a folder of runs, or --where key=value")
    target = Path(words.target or "outputs")
    whole = not (words.where or words.swept or words.output)
    if whole and (target / SWEEP).exists():
        finish(target, words.baseline, words.score)
        return
    found = load_runs(target, words.where)
    comparison = compare(found, words.baseline, words.score, words.swept, words.allow_confounded)
    publish(comparison, Path(words.output) if words.output else default_folder(words, target, found))


def default_folder(words: argparse.Namespace, target: Path, found: RunSet) -> Path:
    """Return a folder in ``<output_dir>/reports`` if all runs are in one ``output_dir``; else in ``outputs``."""
    runs = {Path(os.path.realpath(run.folder)).parent for run in found.runs}
    together = len(runs) == 1 and next(iter(runs)).name == "runs"
    outputs = next(iter(runs)).parent if together else Path("outputs").resolve()
    place = [] if words.where and target.resolve() == outputs else [target.resolve().name]
    start = "+".join([*place, *words.where])
    folder = outputs / "reports" / name(start, words.baseline, words.score, words.swept, words.allow_confounded)
    return folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder


def parser() -> Arguments:
    """Return the parser of the command line."""
    words = Arguments(__doc__)
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
    words.add_argument("--score", choices=TESTED, default=TESTED[0], help="what is tested (default: %(default)s)")
    words.add_argument(
        "--swept",
        type=lambda text: text.split(","),
        default=[],
        metavar="KEY,KEY",
        help="the keys by which the cells are meant to differ (default: a sweep's own; else what differs in mixup)",
    )
    words.add_argument(
        "--allow-confounded",
        action="store_true",
        help="compare cells that differ in more than these; every output says so",
    )
    words.add_argument(
        "--output",
        metavar="FOLDER",
        help="default: report<options>/ in a sweep's folder, else <output_dir>/reports/<name><options>/",
    )
    return words


if __name__ == "__main__":
    main()

"""Speed of everything against what one would use instead: ratios, each with its spread and a bar.

It writes benchmarks/<hardware>-<torch version>.json, with all numbers, and a Markdown table of the same name, after
every row, and prints a short table at its end. Parts that are not measured again keep what they have there. The peers
come with pip install -e '.[bench]'; one that is not installed is skipped.

python scripts/benchmark.py                        all of it; it takes long, and the machine should do nothing else
python scripts/benchmark.py --only loader mixing
python scripts/benchmark.py --quick                does it run? Minutes; the numbers mean little
python scripts/benchmark.py --only gpu --budget 480                  on a GPU: is it right, then how fast; 8 minutes
python scripts/benchmark.py --only gpu --device cpu --quick          the same lines of code without a GPU
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the suite is beside its results, not in the package

from benchmarks.suite.suite import PARTS, run
from vicinal.cli.script_args import Arguments, log_to, one_line_errors, positive


def main() -> None:
    """Measure and write; exit code 1 if a part failed. A bar that does not hold is a result, not a failure."""
    log_to("stdout", logging.INFO)
    words = parser().parse_args()
    if words.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # for the processes that are started, too
    with one_line_errors():
        failed = run(words.only, words.quick, words.out, words.threads, words.budget)
    sys.exit(1 if failed else 0)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    words = Arguments(__doc__)
    words.add_argument(
        "--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART", help=f"some of: {', '.join(PARTS)}"
    )
    words.add_argument("--quick", action="store_true", help="a smoke test of all parts")
    words.add_argument("--out", type=Path, default=Path("benchmarks"), metavar="FOLDER", help="default: %(default)s")
    words.add_argument(
        "--device", choices=("auto", "cpu"), default="auto", help="cpu hides a GPU from all parts; default: %(default)s"
    )
    words.add_argument(
        "--budget", type=positive, metavar="SECONDS", help="stop then; what did not fit is named; default: no limit"
    )
    words.add_argument("--threads", type=int, metavar="N", help="of torch; default: a thread a core")
    return words


if __name__ == "__main__":
    main()

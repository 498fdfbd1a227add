"""Errors and input gradients on the line between test images, for completed runs side by side (mixup paper, figure 2).

Uses the weights of the last epoch, from each run's checkpoint.pt, and the same pairs for all. A place on the line costs
one backward pass per class, so choose few pairs for a large network on a CPU.

python scripts/show_between.py outputs/runs/digits-cnn-*-s0
python scripts/show_between.py RUN RUN dataset.root=data --pairs 50 --out between.png
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from vicinal.cli.script_args import Arguments, log_to, one_line_errors, png, trust, whole
from vicinal.errors import UserError
from vicinal.visualize.between import PAIRS, show


def main() -> None:
    """Measure, draw and print the numbers; a mistake is one line and exit code 1."""
    log_to("stdout", logging.INFO)
    words = parser().parse_intermixed_args()
    runs = [Path(word) for word in words.words if "=" not in word or Path(word).is_dir()]
    overrides = [word for word in words.words if Path(word) not in runs]
    with one_line_errors(overrides):
        if not runs:
            raise UserError("say which runs: their folders, such as outputs/runs/*")
        print(show(runs, words.out, overrides, words.pairs, words.trust))


def parser() -> Arguments:
    """Return the parser of the command line."""
    words = Arguments(__doc__)
    words.add_argument(
        "words",
        nargs="+",
        metavar="RUN|KEY=VALUE",
        help="folders of completed runs; keys that have moved, such as dataset.root",
    )
    trust(words)
    words.add_argument(
        "--pairs", type=partial(whole, low=2), default=PAIRS, metavar="N", help="of test images (default: %(default)s)"
    )
    default = Path("outputs/pictures/between.png")
    words.add_argument("--out", type=png, default=default, metavar="FILE", help="PNG (default: %(default)s)")
    return words


if __name__ == "__main__":
    main()

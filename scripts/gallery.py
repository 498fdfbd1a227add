"""Make the pictures of docs/gallery.md: needs no download and no GPU, and gives the same files each time.

python scripts/gallery.py
python scripts/gallery.py --out /tmp/gallery --runs /tmp/runs
"""

from __future__ import annotations

import logging
from pathlib import Path

from vicinal.cli.script_args import Arguments, log_to, one_line_errors
from vicinal.config.schema import CONF
from vicinal.visualize.gallery import gallery


def main() -> None:
    """Write the pictures and print their paths; a mistake is one line and exit code 1."""
    log_to("stdout", logging.INFO)
    words = parser().parse_args()
    with one_line_errors():
        for file in gallery(words.out, words.runs):
            print(file)


def parser() -> Arguments:
    """Return the parser of the command line."""
    words = Arguments(__doc__)
    pictures, runs = CONF.parent / "docs" / "gallery", Path("outputs")
    words.add_argument("--out", type=Path, default=pictures, metavar="FOLDER", help="default: docs/gallery")
    words.add_argument("--runs", type=Path, default=runs, metavar="FOLDER", help="output_dir (default: %(default)s)")
    return words


if __name__ == "__main__":
    main()

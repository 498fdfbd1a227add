"""Decision regions and hidden representations on points in the plane: none, input and manifold mixup, in seconds.

python scripts/show_boundary.py
python scripts/show_boundary.py --data spirals --seed 1 --out spirals.png
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from vicinal.cli.script_args import Arguments, one_line_errors, png, whole
from vicinal.visualize.boundary import TOYS, show


def main() -> None:
    """Train, draw and print the numbers; a mistake is one line and exit code 1."""
    words = parser().parse_args()
    with one_line_errors():
        print(show(TOYS if words.data == "all" else (words.data,), words.out, words.seed))


def parser() -> Arguments:
    """Return the parser of the command line."""
    words = Arguments(__doc__)
    words.add_argument("--data", choices=(*TOYS, "all"), default="all", help="default: %(default)s")
    words.add_argument(
        "--seed", type=partial(whole, low=0), default=0, help="of points, weights and mixing (default: %(default)s)"
    )
    default = Path("outputs/pictures/boundary.png")
    words.add_argument("--out", type=png, default=default, metavar="FILE", help="PNG (default: %(default)s)")
    return words


if __name__ == "__main__":
    main()

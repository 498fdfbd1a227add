"""Draw the effect of a strategy: originals, partners, masks, mixed images and targets, and the law of lambda.

The images are those that a run with this config trains on first. There is one row per strategy, the first
four if none is named; comma-separated values of other keys are rows too. <name>-lambda.png, beside FILE, is the law:
what is asked for and the lambdas that the strategies really use, where draws depend on no image or label. Strategies
whose plans need a network are refused, since there is none.

python scripts/show_mixing.py
python scripts/show_mixing.py dataset=cifar10 mixup=cutmix mixup.alpha=0.2,1 --out cutmix.png
PYTHONPATH=. python scripts/show_mixing.py --config-dir my mixup=mine
"""

from __future__ import annotations

import logging
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString

from vicinal.cli.script_args import Arguments, folder, log_to, one_line_errors, png, positive, whole
from vicinal.visualize.lambdas import ALPHAS
from vicinal.visualize.mixing import IMAGES, show


def main() -> None:
    """Write the two pictures and print their paths; a mistake is one line and exit code 1."""
    log_to("stdout", logging.INFO)
    words = parser().parse_intermixed_args()
    with one_line_errors(words.overrides):
        for file in show([*found_in(words.config_dir), *words.overrides], words.out, words.images, words.alphas):
            print(file)


def found_in(place: Path | None) -> list[str]:
    """Return the word that lets Hydra find options in a folder."""
    if place is None:
        return []
    return [f"hydra.searchpath=[{QuotedString(f'file://{place.absolute()}', Quote.double).with_quotes()}]"]


def parser() -> Arguments:
    """Return the parser of the command line."""
    words = Arguments(__doc__)
    words.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as train.py takes them")
    words.add_argument("--config-dir", type=folder, metavar="DIR", help="of options of your own, as train.py takes it")
    default = Path("outputs/pictures/mixing.png")
    words.add_argument("--out", type=png, default=default, metavar="FILE", help="PNG (default: %(default)s)")
    words.add_argument("--images", type=whole, default=IMAGES, metavar="N", help="per row (default: %(default)s)")
    words.add_argument(
        "--alphas", type=positive, nargs="+", default=ALPHAS, metavar="ALPHA", help="of the law (default: 0.2 0.4 1 2)"
    )
    return words


if __name__ == "__main__":
    main()

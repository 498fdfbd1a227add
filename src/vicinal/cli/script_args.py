"""The command line of a script: its help is the script's own docstring, and a mistake is one line."""

from __future__ import annotations

import argparse
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from vicinal.utils.output import steady


class Arguments(argparse.ArgumentParser):
    """Parser whose mistakes are one line, with exit code 1, and whose help is the docstring of the script."""

    def __init__(self, doc: str | None) -> None:
        summary, _, more = (doc or "").partition("\n\n")
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(description=summary, epilog=more, formatter_class=form, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        from vicinal.config.redaction import redact
        from vicinal.utils.escaping import visible

        sys.exit(visible(redact(f"error: {message}; --help says more")))


def log_to(stream: str, level: int = logging.WARNING) -> None:
    """Print log lines of at least that level to ``stdout`` or ``stderr``, without secrets."""
    from vicinal.config.redaction import Formatter

    steady()
    handler = logging.StreamHandler(getattr(sys, stream))
    handler.setFormatter(Formatter("%(message)s"))
    logging.basicConfig(level=level, handlers=[handler])


def trust(parser: argparse.ArgumentParser) -> None:
    """Add ``--trust``: dotted prefixes that a stored config may name besides our own components."""
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PREFIX",
        help="a stored config may name this too, such as the module of a strategy of your own; again for more",
    )


@contextmanager
def one_line_errors(overrides: Sequence[str] = ()) -> Iterator[None]:
    """Let a user's mistake end the process in one line with exit code 1, Ctrl-C with 130; a bug shows its traceback."""
    steady()
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        from vicinal.config.error_messages import explain, is_mistake
        from vicinal.config.redaction import show_bugs_redacted

        if not is_mistake(error):
            show_bugs_redacted()
            raise
        sys.exit(f"error: {explain(error, overrides)}")


def whole(text: str, low: int = 1) -> int:
    """An integer >= ``low``, for ``add_argument(type=)``."""
    with suppress(ValueError):
        if (number := int(text)) >= low:
            return number
    raise argparse.ArgumentTypeError(f"{text}: must be an integer >= {low}")


def png(text: str) -> Path:
    """A file name that ends in .png, for ``add_argument(type=)``."""
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"{text}: must end in .png")
    return Path(text)


def folder(text: str) -> Path:
    """A folder that exists, for ``add_argument(type=)``."""
    if not (path := Path(text)).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: there is no such folder")
    return path


def positive(text: str) -> float:
    """A finite number above 0, for ``add_argument(type=)``."""
    with suppress(ValueError):
        if 0 < (number := float(text)) < math.inf:
            return number
    raise argparse.ArgumentTypeError(f"{text}: must be a finite number > 0")

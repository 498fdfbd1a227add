"""The command line of a script: its help is the script's own docstring, and a mistake is one line."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn


class Arguments(argparse.ArgumentParser):
    """Mistakes are one line here as everywhere, with the exit code of all mistakes.

    Args:
        doc: of the script: what it does, and after an empty line more about it and examples.
    """

    def __init__(self, doc: str | None) -> None:
        start, _, more = (doc or "").partition("\n\n")
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(description=start, epilog=more, formatter_class=form, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        sys.exit(f"error: {message}; --help says more")

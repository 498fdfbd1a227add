"""``train.log``: a copy of all that is logged during a run, and of the stack where the process crashed."""

from __future__ import annotations

import faulthandler
import logging
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from vicinal.config.redaction import Formatter
from vicinal.runs.files import appending, read, write
from vicinal.utils import output

log = logging.getLogger(__name__)


@contextmanager
def logged_to(file: Path, earlier: Iterable[logging.LogRecord] = ()) -> Iterator[None]:
    """Append ``earlier`` records and what is logged inside to a file, and at the end what the terminal lacks."""
    if file.exists() and file.stat().st_nlink > 1:
        write(file, read(file))  # breaks a hard link: the other name may belong to something else
    stream = appending(file)
    handler = _SilentHandler(stream)
    handler.setFormatter(Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for record in earlier:
        handler.handle(record)
    root = logging.getLogger()
    root.addHandler(handler)
    enabled_before = faulthandler.is_enabled()
    faulthandler.enable(stream)
    try:
        yield
    finally:
        for line in output.lost():
            log.warning("%s", line)
        faulthandler.disable()
        if enabled_before and sys.__stderr__ is not None:
            faulthandler.enable(sys.__stderr__)
        root.removeHandler(handler)
        with suppress(OSError):
            stream.close()


class _SilentHandler(logging.StreamHandler[TextIOWrapper]):
    """A log that stops where it cannot be written: other files that cannot be written either raise the error."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        pass

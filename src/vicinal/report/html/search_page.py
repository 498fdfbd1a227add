"""The report of a search as one HTML page that stands alone and loads nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from vicinal.report.html import templating
from vicinal.report.html.drawing import figure

if TYPE_CHECKING:
    from vicinal.report.search import Search


def render(search: Search, notes: Sequence[str], file: Path) -> str:
    """Return the page as text, for the place ``file``."""
    from vicinal.report.search import FOLDER, PAGE, comparison_grids, pictures

    confirm = search.confirm
    address = confirm and quote(Path(os.path.relpath(confirm / FOLDER / PAGE, file.parent)).as_posix())
    return templating.render(
        "search.html.j2",
        search=search,
        metric=search.metric,
        notes_list=notes,
        figures=[figure(picture) for picture in pictures(search)],
        grids=comparison_grids(search),
        confirm_address=address,
    )

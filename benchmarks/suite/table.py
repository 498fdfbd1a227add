"""The results as a page of Markdown, and as a short table of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.suite.bench import Bar, Row, value, verdict
from benchmarks.suite.timing import Spread

READING = """\
Both sides of each were timed in turns in one run, after a warm-up, and a ratio is the
median over the rounds of each round's own, with its quartiles. It says how many times as long the other side takes, so
above 1 is in our favour, unless its bar is an upper one. Absolute times are in the JSON file beside this one.
"""


def markdown(content: Mapping[str, Any]) -> str:
    """Return the content of the JSON file as tables, one per part."""
    about = content["machine"]
    versions = about["versions"]
    peers = ", ".join(f"{name} {versions[name]}" for name in ("torchvision", "timm", "kornia") if versions.get(name))
    text = [
        f"# {about['device_name']}, {about['cores']} cores, torch {versions['torch']}\n",
        f"`python scripts/benchmark.py`, precision {about['precision']}, Python {about['python']}, {peers}.\n",
        *(["Only ratios count on a CPU.\n"] if about["device"] == "cpu" else []),
        READING,
    ]
    if content["quick"]:
        text.append("**A quick run: a smoke test, whose numbers mean little.**\n")
    for name, part in content["parts"].items():
        text.append(_part(name, part))
    return "\n".join(text)


def summary(rows: Sequence[Row]) -> str:
    """Return the rows as a short table of text, one line each: verdict, value, what was measured."""
    lines = []
    for row in rows:
        title = f"{row.name}, against {row.against}" if row.against else row.name
        lines.append(f"{verdict(row):<14} {value(row):<28} {title}{'' if row.bar is None else f' (bar {row.bar})'}")
    return "\n".join(line.rstrip() for line in lines)


def _part(name: str, part: Mapping[str, Any]) -> str:
    commit = "" if part["commit"] is None else f", commit {part['commit'][:10]}{' with changes' * part['changed']}"
    lines = [f"## {name}\n", f"{part['date'][:10]}{commit}.\n"]
    if part["failed"]:
        lines.append(f"**Not finished: {part['failed']}**\n")
    if part["rows"]:
        lines += ["| what | against | threads | result | bar | |", "|---|---|---|---|---|---|"]
    for record in part["rows"]:
        row = _row(record)
        bar = "" if row.bar is None else str(row.bar)
        cells = [row.name, row.against, "" if row.threads is None else str(row.threads), value(row), bar, verdict(row)]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += [f"\n![{plot['title']}]({plot['file']})" for plot in part.get("plots", [])]
    return "\n".join(lines) + "\n"


def _row(record: Mapping[str, Any]) -> Row:
    """Return a row as it was before it was recorded."""
    own = {name: item for name, item in record.items() if name != "holds"}
    measured = None if record["value"] is None else Spread(**record["value"])
    return Row(**{**own, "value": measured, "bar": None if record["bar"] is None else Bar(**record["bar"])})

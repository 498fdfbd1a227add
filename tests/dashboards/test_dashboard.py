"""What a dashboard names is what the runs of a real offline sweep have logged, by W&B's own record of them."""

import csv
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vicinal.analysis.load import load_runs
from vicinal.config.schema import CONF
from vicinal.dashboards.sections import Key, logged, sections
from vicinal.errors import UserError
from vicinal.tasks import CLASSIFICATION

from .panels import Named, named, panels_of, unknown

Sweep = Any  # the one of conftest.py
# wandb-workspaces 0.4 itself speaks pydantic's first version, where it is imported.
pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")
SCORE = "test/best_val/acc1"
TITLES = ["Alpha curve", "Strategies", "Learning curves", "Mixing", "Images", "Throughput"]


def make(folder: Path) -> Any:
    from vicinal.dashboards.dashboard import make

    return make(folder)


def script(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, CONF.parent / "scripts" / "dashboard.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True)


def recorded(sweep: Sweep) -> set[Key]:
    """The keys that W&B itself has, read back."""
    keys = set()
    for run in sweep.wandb.values():
        history = {key for row in run.history for key in row}
        config = set(pd.json_normalize(run.config).columns)
        places = {"history": history, "summary": run.summary, "config": config | set(run.config)}
        places |= {"media": run.images, "table": run.tables}
        keys |= {(place, key) for place, names in places.items() for key in names}
    return keys


def at(place: str, keys: set[Key]) -> set[str]:
    return {key for there, key in keys if there == place}


@pytest.fixture
def specification(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return make(sweep.folder).specification()


def test_each_field_of_each_panel_names_a_key_that_wandb_has(sweep: Sweep, specification: dict[str, Any]) -> None:
    keys = recorded(sweep)
    found = list(named(panels_of(specification)))
    assert len(found) > 50
    assert unknown(specification, keys) == []


def test_no_panel_is_left_out_of_a_sweep_over_the_strategies(sweep: Sweep, specification: dict[str, Any]) -> None:
    titles = [plot.title for plots in sections(CLASSIFICATION.showing(())).values() for plot in plots]
    for part in specification.values():
        assert len(list(panels_of(part))) == len(titles)
    assert make(sweep.folder).notes == []


def test_the_records_in_the_folders_say_the_same_as_wandb(sweep: Sweep) -> None:
    """Keys of W&B's own, such as the number of images in a panel, and the config's lists and None aside."""
    ours, theirs = logged(load_runs(sweep.folder).runs), recorded(sweep)
    for place in ("history", "media", "table"):
        assert at(place, ours) == at(place, theirs)
    assert at("config", ours) <= at("config", theirs)
    assert {key for key in at("summary", ours) if not key.startswith("mixing/la")} <= at("summary", theirs)


def test_runs_that_have_a_group_of_their_own_are_asked_for_by_it(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_runs(sweep.folder)
    for run in found.runs:
        run.config["wandb"]["group"] = "mine"
    monkeypatch.setattr("vicinal.dashboards.dashboard.load_runs", lambda folder: found)
    made = make(sweep.folder)
    for text in map(json.dumps, made.specification().values()):
        assert '"value": "mine"' in text
        assert f'"value": "{sweep.folder.name}"' not in text


def test_sections_and_what_they_show(sweep: Sweep, specification: dict[str, Any]) -> None:
    workspace = specification["workspace"]["section"]
    shown = workspace["panelBankConfig"]["sections"]
    assert [section["name"] for section in shown] == TITLES
    by_name = {section["name"]: section["panels"] for section in shown}
    alpha = by_name["Alpha curve"][0]["config"]
    assert (alpha["xAxis"], alpha["yAxis"]) == ("config:mixup.value.alpha", f"summary:{SCORE}")
    for panel in by_name["Learning curves"]:
        config = panel["config"]
        assert (config["xAxis"], config["groupBy"], config["aggregate"]) == ("epoch", "cell_id.value", True)
    assert {"metrics": ["mixing/lam"]}.items() <= by_name["Mixing"][0]["config"].items()
    blocks = {f"mixing/layer/{name}" for name in ("input", "block1", "block2")}
    assert set(by_name["Mixing"][-1]["config"]["metrics"]) == blocks  # of the network that these runs have
    assert by_name["Images"][0]["config"]["mediaKeys"] == ["mixed_images"]
    (runs,) = workspace["runSets"]
    (only,) = runs["filters"]["filters"]
    assert (only["key"]["name"], only["op"], only["value"]) == ("group", "=", sweep.folder.name)
    assert {run.group for run in sweep.wandb.values()} == {sweep.folder.name}
    assert [key["name"] for key in runs["grouping"]] == ["choices.value.mixup"]
    assert workspace["settings"]["shouldAutoGeneratePanels"] is True  # W&B's system metrics, below


def test_charts_are_drawn_as_the_runs_say(sweep: Sweep, specification: dict[str, Any]) -> None:
    """The same chart, with the same columns of the same table, as W&B would draw it in the run's own page."""
    theirs = sweep.wandb["cutmix"].charts
    panels = [panel["config"] for panel in panels_of(specification["workspace"]) if panel["viewType"] == "Vega2"]
    found = {}
    for config in panels:
        (key,) = (each.key for each in named([{"viewType": "Vega2", "config": config}]))
        found[key.removesuffix("_table")] = (config["panelDefId"], config["fieldSettings"])
    assert found == {key: (chart["panelDefId"], chart["fieldSettings"]) for key, chart in theirs.items()}


def test_the_report_has_the_sweeps_tables_and_text(sweep: Sweep, specification: dict[str, Any]) -> None:
    blocks = specification["report"]["blocks"]
    (tables,) = (block["content"] for block in blocks if block["type"] == "markdown-block")
    assert tables == (sweep.folder / "report" / "table.md").read_text()
    with (sweep.folder / "report" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["mixup"] for row in rows] == ["none", "input", "manifold", "cutmix"]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in tables.splitlines() if line.startswith("|")]
    for row, line in zip(rows, lines[2:6], strict=True):
        assert (line[0], line[lines[0].index("test, last epoch")]) == (
            row["mixup"],
            f"{100 * float(row['test/last mean']):.2f}",
        )
    for note in (sweep.folder / "report" / "notes.txt").read_text().splitlines():
        assert f"- {note}\n" in tables
    assert json.dumps(blocks).count("chosen on validation; the test set is read for reporting alone") == 1


def test_dry_run_writes_json_without_a_login(sweep: Sweep) -> None:
    done = script(sweep.folder, "--dry-run", "--panel", "train/loss", "--entity", "lab")
    assert (done.returncode, done.stderr) == (0, "")
    specification = json.loads(done.stdout)
    titles = [panel["config"].get("chartTitle") for panel in panels_of(specification["workspace"])]
    assert titles.count("train/loss") == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ["--panel", "val/nlll"],
            "panel 'val/nlll': no run logs val/nlll (history); did you mean val/nll? allowed: epoch, lr, ",
        ),
        (["--score", "nonsense"], "panel 'nonsense': no run logs nonsense (summary); allowed: best_epoch, "),
    ],
)
def test_a_key_that_no_run_logs_is_refused_in_one_line(sweep: Sweep, words: list[str], line: str) -> None:
    done = script(sweep.folder, "--dry-run", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith(f"error: {line}")
    assert "Traceback" not in done.stderr


def test_saving_without_a_login_is_one_line(sweep: Sweep) -> None:
    done = script(sweep.folder)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: W&B does not take it: ")
    assert line.endswith("(--dry-run needs no login)")


@pytest.mark.parametrize("place", ["metrics", "xAxis", "groupBy", "mediaKeys"])
def test_every_field_that_names_a_key_is_looked_at(sweep: Sweep, specification: dict[str, Any], place: str) -> None:
    """One field of one panel is given another key, and that key is the one that is unknown."""
    keys = logged(load_runs(sweep.folder).runs)
    assert unknown(specification, keys) == []
    panel = next(panel for panel in panels_of(specification) if place in panel["config"])
    there = panel["config"][place]
    panel["config"][place] = [*there[1:], "no/such"] if isinstance(there, list) else "no/such"
    assert unknown(specification, keys) == ["no/such"]


def test_places_of_keys() -> None:
    """Each of the spellings that wandb-workspaces has for a key."""
    config = {
        "metrics": ["val/acc1", "summary_metrics.test/last/acc1"],
        "xAxis": "config:mixup.value.alpha",
        "columns": [{"accessor": "summary:val/acc1"}],
        "groupBy": "cell_id.value",
        "mediaKeys": ["mixed_images"],
    }
    assert list(named([{"viewType": "any", "config": config}])) == [
        Named("any", "history", "val/acc1"),
        Named("any", "summary", "test/last/acc1"),
        Named("any", "config", "mixup.alpha"),
        Named("any", "summary", "val/acc1"),
        Named("any", "config", "cell_id"),
        Named("any", "media", "mixed_images"),
    ]


def test_a_folder_without_a_report_is_refused(tmp_path: Any) -> None:
    with pytest.raises(UserError, match="no folder of a sweep that has ended"):
        make(tmp_path)

"""The HTML page: what is in it, and what a browser without a network makes of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pytest
from jinja2 import UndefinedError

from vicinal.analysis.compare import compare
from vicinal.analysis.comparison import SCORES, Comparison
from vicinal.analysis.load import load_runs
from vicinal.report.figures import pictures
from vicinal.report.html import page, templating
from vicinal.tasks import CLASSIFICATION

from ..stored_sweeps import Runs

EVIL = '<script>alert("x")</script>&'
STATISTICS = [f"{score} {what}" for score in SCORES for what in ("mean", "std", "low", "high")]


def grid(runs: Any) -> Comparison:
    """Four strategies' worth of cells: one without an interval, one with a failure, one of which nothing is left."""
    for seed in range(3):
        runs.add("none", None, seed, (0.5 + seed / 7, 0.5 + seed / 9, 0.6 + seed / 11), val=0.5 + seed / 13)
        for alpha in (0.2, 0.4):
            runs.add("input", alpha, seed, alpha + seed / 7, val=alpha + seed / 13)
            runs.add("cutmix", alpha, seed, 0.9 - alpha - seed / 17, val=0.9 - alpha - seed / 19)
    runs.add("manifold", 0.2, 0, 0.625, about={"changed": ["threads 1, then 2"], "wandb": {"id": "abc123"}})
    runs.add("manifold", 0.2, 1, None, status="failed", about={"error": f"the loss is {EVIL}"})
    runs.add("manifold", 0.4, 0, None, status="missing")
    return compare(runs.found("mixup", "mixup.alpha"))


@dataclass
class Parsed(HTMLParser):
    """What a page's tables and links hold."""

    numbers: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """{(table, row, column): the whole number as text}."""
    headings: dict[str, list[str]] = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.table = self.row = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append((tag, found))
        if tag == "table":
            self.table = found["id"] or ""
        if tag == "tr":
            self.row = next((value or "" for name, value in attrs if name.startswith("data-")), "")
        if "data-value" in found:
            self.numbers[self.table, self.row, found["data-column"] or ""] = found["data-value"] or ""
        if tag == "a":
            self.links.append(found["href"] or "")

    def handle_data(self, data: str) -> None:
        self.text += data

    @classmethod
    def of(cls, content: str) -> Parsed:
        parsed = cls()
        parsed.feed(re.sub(r"<(script|style)\b.*?</\1>", "", content, flags=re.DOTALL))
        return parsed


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return grid(Runs(tmp_path_factory.mktemp("page") / "outputs"))


@pytest.fixture(scope="module")
def file(comparison: Comparison) -> Path:
    """The page where a sweep has it."""
    outputs = comparison.cells[0].runs[0].folder.parents[1]
    where = outputs / "sweeps" / comparison.title / "report" / "report.html"
    page.write(comparison, where)
    return where


def of_row(numbers: dict[tuple[str, str, str], str], table: str, row: str) -> dict[str, str]:
    return {column: text for (name, of, column), text in numbers.items() if (name, of) == (table, row)}


def test_every_number_is_that_of_the_csv_to_the_last_digit(comparison: Comparison, file: Path, tmp_path: Path) -> None:
    numbers = Parsed.of(file.read_text()).numbers

    def rows(table: pd.DataFrame) -> list[dict[str, str]]:
        table.to_csv(tmp_path / "table.csv", index=False)
        return pd.read_csv(tmp_path / "table.csv", dtype=str, keep_default_na=False).to_dict("records")

    def there(row: dict[str, str], *columns: str) -> dict[str, str]:
        """Without a deviation or an interval there is nothing to read, and no element."""
        return {
            name: row[name] for name in columns if row[name] or name.rpartition(" ")[2] not in ("std", "low", "high")
        }

    others = [f"test/last/{metric.key} mean" for metric in CLASSIFICATION.computed[1:]]
    for cell, row in zip(comparison.cells, rows(comparison.table), strict=True):
        assert of_row(numbers, "scores", cell.cell_id) == there(row, "n", *STATISTICS, *others)
    pairs = [name for name in comparison.pairs.columns if name not in ("cell", "cell id", "baseline", "score", "why")]
    for row in rows(comparison.pairs):
        assert of_row(numbers, "differences", row["cell id"]) == there(row, *pairs)
    for row in rows(comparison.chosen):
        assert of_row(numbers, "chosen", row["cell"]) == there(row, "of", "n", *STATISTICS)
    for run in (run for cell in comparison.cells for run in cell.runs):
        scores = {score: run.score(score) for score in SCORES}
        wanted = {score: "" if value is None else repr(value) for score, value in scores.items()}
        assert of_row(numbers, "runs", run.run_id) == {"seed": str(run.seed), **wanted}
    assert len({(table, row) for table, row, _ in numbers}) == 7 + 6 + 4 + 18


def test_links_lead_to_files_that_are_there_from_where_the_page_is(comparison: Comparison, file: Path) -> None:
    links = [unquote(link) for link in Parsed.of(file.read_text()).links]
    folders = [run.folder for cell in comparison.cells for run in cell.runs if run.folder.exists()]
    assert all((file.parent / link).exists() for link in links)
    assert not any(link.startswith(("/", "file:", "http")) for link in links)
    targets = {(file.parent / link).resolve() for link in links}
    assert {folder.resolve() for folder in folders} <= targets
    assert {folder.resolve() / "config.yaml" for folder in folders} <= targets
    assert f"../../../runs/{folders[0].name}/config.yaml" in links


def test_a_folder_with_odd_characters_is_linked_all_the_same(runs: Any) -> None:
    odd = type(runs)(runs.outputs / "50 % #1?")
    odd.add("input", 0.2, 0, 0.5)
    file = runs.outputs / "report.html"
    page.write(compare(odd.found("mixup")), file)
    links = Parsed.of(file.read_text()).links
    assert [link.rpartition("/")[2] for link in links] == ["", "config.yaml"]
    for link in links:
        assert not set(link) & set(" #?")
        assert (file.parent / unquote(link)).exists()


def test_notes_failures_resumptions_and_wandb_are_said(comparison: Comparison, file: Path) -> None:
    text = Parsed.of(file.read_text()).text
    for note in comparison.notes:
        assert note in text
    assert text.index(comparison.title) < text.index(comparison.notes[0]) < text.index("Scores")
    for said in (f"the loss is {EVIL}", "never begun", "resumed: threads 1, then 2", "disabled abc123", "torch 2.15.0"):
        assert said in text


def test_text_from_configs_and_errors_is_never_markup(comparison: Comparison, file: Path) -> None:
    cells = [replace(cell, label=f"{EVIL} {index}") for index, cell in enumerate(comparison.cells)]
    values = [replace(cell, values={**cell.values, "mixup": EVIL}) for cell in cells]
    table = comparison.table.assign(mixup=EVIL)
    evil = replace(comparison, title=EVIL, cells=values, table=table, notes=[EVIL])
    content = page.render(evil, file)
    parsed = Parsed.of(content)
    assert EVIL in parsed.text
    assert "<script>alert" not in content
    assert [tag for tag, _ in parsed.tags].count("script") == 0
    scripts = re.findall(r"<script[^>]*>", content)
    assert scripts == ["<script>", "<script>"]


def test_templates_escape_text_and_attributes_and_json_and_nothing_twice() -> None:
    template = templating.environment().from_string(
        """{% macro b(text) %}<b title="{{ text }}">{{ text }}</b>{% endmacro %}{{ b(text) }}"""
        """<i data-x='{{ json | tojson }}'>"""
    )
    evil = "</script>\"'&"
    shown = template.render(text=evil, json={"a": evil, "b": [0.1, None]})
    escaped = "&lt;/script&gt;&#34;&#39;&amp;"
    json_text = r'{"a":"\u003c/script\u003e\"\u0027\u0026","b":[0.1,null]}'
    assert shown == f"""<b title="{escaped}">{escaped}</b><i data-x='{json_text}'>"""
    with pytest.raises(ValueError, match="Out of range"):
        templating.environment().from_string("{{ nan | tojson }}").render(nan=math.nan)
    with pytest.raises(UndefinedError, match="'unknown' is undefined"):
        templating.environment().from_string("{{ unknown }}").render()


def test_a_folder_that_is_named_like_a_script_is_a_plain_link(runs: Any) -> None:
    odd = type(runs)(runs.outputs)
    folder = odd.add("input", 0.2, 0, 0.5)
    evil = folder.parents[1] / "javascript:alert(1)"
    folder.parent.rename(evil)
    comparison = compare(load_runs(evil))
    file = runs.outputs / "report.html"
    page.write(comparison, file)
    links = Parsed.of(file.read_text()).links
    assert [link.partition("/")[0] for link in links] == ["javascript%3Aalert%281%29"] * 2
    assert all((file.parent / unquote(link)).exists() for link in links)


def test_the_same_comparison_gives_the_same_bytes(comparison: Comparison, file: Path) -> None:
    before = file.read_bytes()
    page.write(comparison, file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["report.html"]


def test_tables_have_captions_and_headings_for_screen_readers(file: Path) -> None:
    tags = Parsed.of(file.read_text()).tags
    names = [tag for tag, _ in tags]
    assert names.count("table") == names.count("caption") == 5
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in tags if tag == "th")
    assert dict(tags)["html"]["lang"] == "en"


@pytest.mark.parametrize("val", [0.5, None])
def test_a_single_cell_with_one_seed_is_a_page_too(runs: Any, val: float | None) -> None:
    runs.add("input", 0.2, 0, 0.5, val=val)
    comparison = compare(runs.found())
    file = runs.outputs / "report.html"
    page.write(comparison, file)
    parsed = Parsed.of(file.read_text())
    (cell,) = comparison.cells
    wanted = {"n": "1"} | {f"{score} mean": "0.5" for score in SCORES}
    if val is None:
        wanted |= {"val mean": "", "val_best mean": "", "test/best_val mean": ""}
    numbers = of_row(parsed.numbers, "scores", cell.cell_id)
    others = {f"test/last/{metric.key} mean" for metric in CLASSIFICATION.computed[1:]}
    assert others < numbers.keys()
    assert {column: text for column, text in numbers.items() if column not in others} == wanted
    assert list(dict.fromkeys(table for table, _, _ in parsed.numbers)) == ["scores", "runs"]  # nothing was chosen


def test_with_nothing_completed_the_page_says_why(runs: Any) -> None:
    for seed in range(12):
        runs.add("input", 0.2, seed, None, status="failed", about={"error": f"reason {seed}"})
    file = runs.outputs / "report.html"
    page.write(compare(runs.found("mixup")), file)
    parsed = Parsed.of(file.read_text())
    assert "0 of 12 runs completed" in parsed.text
    assert all(parsed.text.count(f"reason {seed}") >= 2 for seed in range(12))
    assert "figure" not in [tag for tag, _ in parsed.tags]


# In a browser


@dataclass
class Opened:
    """A page in the browser, with what it asked for and complained about."""

    page: Any
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def plots(self) -> dict[str, list[dict[str, Any]]]:
        """{id: series, with the numbers that the page has of them}."""
        script = """[...document.querySelectorAll(".plot")].map(plot => [plot.id,
            [...plot.querySelectorAll(".series")].map(series => ({
                name: series.dataset.name, kind: series.dataset.kind,
                visible: getComputedStyle(series).display !== "none", band: series.querySelector(".band") !== null,
                ...JSON.parse(series.dataset.values)}))])"""
        return dict(self.page.evaluate(script))

    def hover(self, plot: str, series: int) -> list[str]:
        """The lines that come up where the mouse is at the first point of a series."""
        script = """([plot, series]) => {
            const drawing = document.querySelector(`#${plot} .drawing`), box = drawing.getBoundingClientRect();
            const line = drawing.querySelectorAll(".series")[series].querySelector(".line").getAttribute("d");
            const [x, y] = line.match(/[\\d.]+/g).map(each => each * box.width / drawing.viewBox.baseVal.width);
            return [box.left + x, box.top + y];
        }"""
        self.page.locator(f"#{plot}").scroll_into_view_if_needed()
        self.page.mouse.move(*self.page.evaluate(script, [plot, series]))
        return self.tip(plot)

    def tip(self, plot: str) -> list[str]:
        """The lines that the tooltip of a plot shows; none if it is hidden."""
        tip = self.page.locator(f"#{plot} .tip")
        return str(tip.inner_text()).splitlines() if tip.is_visible() else []

    def overflow(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))


@pytest.fixture(scope="module")
def opened(chromium: Any, file: Path) -> Iterator[Any]:
    contexts = []

    def open_page(where: Path = file, width: int = 1200, scheme: str = "light") -> Opened:
        context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        contexts.append(context)
        result = Opened(context.new_page())
        own = where.resolve().as_uri()

        def answer(route: Any) -> None:
            result.asked.append(route.request.url)
            route.continue_() if route.request.url == own else route.abort()

        context.route("**/*", answer)
        result.page.on("console", lambda message: result.complaints.append(f"{message.type}: {message.text}"))
        result.page.on("pageerror", lambda error: result.complaints.append(str(error)))
        result.page.goto(own)
        return result

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def shared(opened: Any) -> Opened:
    """The page, for tests that leave it as it is."""
    return opened()  # type: ignore[no-any-return]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_asks_for_nothing_complains_of_nothing_and_could_not_ask(opened: Any, file: Path, scheme: str) -> None:
    found = opened(scheme=scheme)
    found.page.locator("#environments").scroll_into_view_if_needed()
    assert found.asked == [file.resolve().as_uri()]
    assert found.complaints == []
    asking = "fetch('https://example.org/').then(() => 'answered', () => 'refused')"
    assert found.page.evaluate(asking) == "refused"
    assert len(found.asked) == 1
    assert "Content Security Policy" in found.complaints[0]


def test_the_plots_have_the_numbers_of_the_comparison(shared: Opened, comparison: Comparison) -> None:
    plots = shared.plots()
    table = comparison.table
    panels = {"response": 2, "learning": 3, "metrics": len(CLASSIFICATION.computed)}
    assert list(plots) == [f"{name}-{index}" for name, count in panels.items() for index in range(count)]
    for plot, score in (("response-0", "val"), ("response-1", "test/last")):
        lines = {series["name"]: series for series in plots[plot]}
        assert list(lines) == ["none", "input", "cutmix", "manifold"]
        assert [name for name in lines if lines[name]["band"]] == ["none", "input", "cutmix"]  # manifold has one seed
        for strategy in ("input", "cutmix"):
            rows = table[table["mixup"] == strategy]
            assert lines[strategy]["x"][0] == [0.2, 0.4]
            assert lines[strategy]["y"] == [rows[f"{score} {what}"].tolist() for what in ("mean", "low", "high")]
        (none,) = table[table["mixup"] == "none"].to_dict("records")
        assert lines["none"]["y"][0] == [none[f"{score} mean"]] * 2
        assert lines["manifold"]["y"] == [[0.5 if score == "val" else 0.625], [], []]
    for plot, what in (("learning-0", "val/acc1"), ("learning-1", "train/loss"), ("learning-2", "train/acc1")):
        curves = {series["name"]: series for series in plots[plot]}
        for cell in (cell for cell in comparison.cells if cell.completed):
            rows = [run.rows() for run in cell.completed]
            means = [sum(row[what] for row in epoch) / len(epoch) for epoch in zip(*rows, strict=True)]
            assert curves[cell.label]["x"][0] == [1, 2]
            assert curves[cell.label]["y"][0] == pytest.approx(means, rel=1e-14)
    for plot, metric in (("metrics-1", "nll"), ("metrics-2", "ece")):
        assert len(plots[plot]) == 6
        for cell, row, dots in zip(comparison.cells, table.to_dict("records"), plots[plot], strict=False):
            assert dots["name"] == cell.label
            ends = [[row["test/last low"]], [row["test/last high"]]] if row["n"] > 1 else [[], []]
            assert dots["x"] == [[row["test/last mean"]], *ends]
            assert dots["y"][0] == [row[f"test/last/{metric} mean"]]


def test_the_plots_are_really_drawn(shared: Opened, comparison: Comparison) -> None:
    found = shared.page
    drawn = """selector => [...document.querySelectorAll(selector)].map(item => item.getBBox())
        .filter(({width, height}) => width + height > 5).length"""  # points that coincide are one path of no size
    assert found.evaluate(drawn, "#metrics-2 use") == sum(bool(cell.completed) for cell in comparison.cells) == 6
    assert found.evaluate(drawn, "#metrics-2 .whiskers") == 5
    ticks = found.eval_on_selector_all("#response-0 .x.tick", "texts => texts.map(text => text.textContent)")
    assert ticks == ["0.2", "0.4"]
    epochs = found.eval_on_selector_all("#learning-0 .x.tick", "texts => texts.map(text => text.textContent)")
    assert epochs == ["1", "2"]
    assert found.evaluate(drawn, "#response-0 .line") == 3
    assert found.evaluate(drawn, "#response-0 use") == 5
    strokes = "items => new Set(items.map(item => getComputedStyle(item).stroke)).size"
    assert found.eval_on_selector_all("#response-0 .line", strokes) == 4


def test_pointing_at_a_dot_or_a_curve_says_which_and_how_much(shared: Opened, comparison: Comparison) -> None:
    row = comparison.table.iloc[1]
    mean, low, high = (f"{row[f'test/last {what}']:.2%}" for what in ("mean", "low", "high"))
    name, accuracy, error = shared.hover("metrics-2", 1)
    assert name == f"{comparison.cells[1].label}, n = 3"
    assert accuracy == f"test, last epoch, top-1: {mean} ({low} to {high})"
    assert error.startswith(f"expected calibration error: {row['test/last/ece mean']:.2%} (")
    vals = [run.rows()[0]["val/acc1"] for run in comparison.cells[0].runs]
    values = f"{sum(vals) / 3:.2%} ({min(vals):.2%} to {max(vals):.2%})"
    assert shared.hover("learning-0", 0) == [
        f"{comparison.cells[0].label}, n = 3", "epoch: 1", f"validation, top-1: {values}",
    ]  # fmt: skip
    shared.page.mouse.move(0, 0)
    assert shared.tip("learning-0") == []


def test_arrow_keys_go_from_point_to_point(opened: Any, comparison: Comparison) -> None:
    found = opened()
    labels = [f"{cell.label}, n = {len(cell.completed)}" for cell in comparison.cells if cell.completed]
    found.page.locator("#metrics-2 .drawing").focus()

    def press(key: str) -> str:
        found.page.keyboard.press(key)
        return "".join(found.tip("metrics-2")[:1])

    assert [press("ArrowRight") for _ in range(7)] == [*labels, labels[0]]
    assert press("ArrowLeft") == labels[-1]
    assert press("Escape") == ""
    assert press("ArrowLeft") == labels[-2]
    found.page.keyboard.press("Tab")
    assert found.tip("metrics-2") == []
    assert found.page.locator("#metrics-2 [role=img]").get_attribute("aria-label").startswith("Other metrics against")


def test_the_numbers_that_a_reader_sees_are_the_data_rounded(shared: Opened, comparison: Comparison) -> None:
    found = shared.page
    for table, row in (("scores", comparison.cells[0].cell_id), ("scores", comparison.cells[1].cell_id)):
        cells = found.locator(f"#{table} tr[data-cell='{row}']")
        (numbers,) = comparison.table[comparison.table["folder"].str.contains(row)].to_dict("records")
        wanted = f"{100 * numbers['val mean']:.2f} ± {100 * numbers['val std']:.2f}"
        assert wanted in cells.inner_text()
        assert f"{100 * numbers['val low']:.2f} to {100 * numbers['val high']:.2f}" in cells.inner_text()
    notes = found.locator("#notes")
    assert notes.is_visible()
    assert notes.bounding_box()["y"] < found.locator("#scores").bounding_box()["y"]


def test_a_name_in_the_legend_hides_and_shows_by_mouse_and_keyboard(opened: Any) -> None:
    found = opened()
    name = found.page.locator("figure[data-picture='response'] .legend label", has_text="cutmix")

    def hidden() -> set[str]:
        return {
            series["name"]
            for plot in ("response-0", "response-1")
            for series in found.plots()[plot]
            if not series["visible"]
        }

    assert hidden() == set()
    name.click()
    assert not name.locator("input").is_checked()
    assert hidden() == {"cutmix"}
    name.locator("input").focus()
    found.page.keyboard.press("Space")
    assert hidden() == set()
    assert all(series["visible"] for series in found.plots()["learning-0"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark_in_tables_and_in_plots(opened: Any, shared: Opened, scheme: str) -> None:
    found = shared.page if scheme == "light" else opened(scheme=scheme).page
    background = found.evaluate("getComputedStyle(document.body).backgroundColor")
    selectors = ["#scores td", "#notes li", "#notes h2", "figcaption", "#runs a", ".legend label", "#runs .reason"]
    colors = {name: found.eval_on_selector(name, "item => getComputedStyle(item).color") for name in selectors}
    tick = found.eval_on_selector("#response-0 .x.tick", "item => getComputedStyle(item).fill")
    for name, color in {**colors, "tick": tick}.items():
        assert contrast(color, background) >= 4.5, (name, color, background)
    assert (luminance(background) > 0.5) == (scheme == "light")


def luminance(color: str) -> float:
    # https://www.w3.org/TR/WCAG21/#dfn-relative-luminance
    parts = [int(part) / 255 for part in re.findall(r"\d+", color)[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def eventually(found: Opened, holds: Callable[[], bool]) -> bool:
    """The browser tells the page of a change in its own time, and then the page draws."""
    for _ in range(100):
        if holds():
            return True
        found.page.wait_for_timeout(100)
    return False


@pytest.mark.slow
def test_colours_follow_the_reader_while_the_page_is_open_and_paper_is_light(opened: Any) -> None:
    found = opened(scheme="dark")
    inks = """[getComputedStyle(document.querySelector("#response-0 .x.tick")).fill,
               getComputedStyle(document.querySelector("#scores td")).color]"""

    def light() -> bool:
        return all(luminance(ink) < 0.2 for ink in found.page.evaluate(inks))

    def dark() -> bool:
        return all(luminance(ink) > 0.5 for ink in found.page.evaluate(inks))

    assert eventually(found, dark)
    found.page.emulate_media(color_scheme="light")
    assert eventually(found, light)
    found.page.emulate_media(color_scheme="dark")
    assert eventually(found, dark)
    found.page.emulate_media(media="print", color_scheme="dark")
    assert eventually(found, light)


@pytest.mark.slow
def test_nothing_is_wider_than_the_screen_but_tables_scroll(opened: Any) -> None:
    found = opened(width=1200)
    right = "items => Math.max(...items.map(item => item.getBoundingClientRect().right))"
    for width in (1200, 768, 375):
        found.page.set_viewport_size({"width": width, "height": 800})
        plots = found.page.locator(".plot .drawing")
        assert eventually(found, lambda: 0.4 * width < plots.evaluate_all(right) <= width)  # noqa: B023
        assert eventually(found, lambda: found.overflow() <= 0)
    frame = found.page.locator("[role=region]:has(#runs)")
    assert frame.evaluate("item => item.scrollWidth > item.clientWidth")
    assert frame.get_attribute("tabindex") == "0"  # not every browser lets the keyboard reach it by itself
    frame.focus()
    assert frame.evaluate("item => document.activeElement === item")


@pytest.mark.slow
def test_forty_cells_and_long_names_fit_a_phone(opened: Any, runs: Any) -> None:
    many = type(runs)(runs.outputs / "many")
    for index in range(40):
        many.add(
            "input", 0.2, 0, 0.5 + index / 100, val=0.9 - index / 100, model=f"a_model_with_a_rather_long_name_{index}"
        )
    comparison = compare(many.found("model"))
    file = runs.outputs / "many.html"
    page.write(comparison, file)
    found = opened(file, width=375)
    assert found.complaints == []
    assert found.overflow() <= 0
    assert [dots["x"][0] for dots in found.plots()["cells-1"]] == [
        [mean] for mean in comparison.table["test/last mean"]
    ]
    row = found.page.locator("#cells-1 .grid").last  # a line across all of the data area
    assert row.bounding_box()["width"] > 90
    assert found.page.locator("figure[data-picture='cells'] .legend").count() == 0  # the axis names them
    shown = [curve["name"] for curve in found.plots()["learning-0"] if curve["visible"]]
    assert shown == list(comparison.chosen["cell"])
    ticked = found.page.locator("figure[data-picture='learning'] input:checked + svg + span")
    assert ticked.all_inner_texts() == shown


def test_evil_names_are_text_in_the_browser_too(opened: Any, comparison: Comparison, tmp_path: Path) -> None:
    names = [f"<b>{index}</b><script>&lt;" for index in range(len(comparison.cells))]
    cells = [
        replace(cell, label=name, values={**cell.values, "mixup": name})
        for cell, name in zip(comparison.cells, names, strict=True)
    ]
    evil = replace(comparison, title=EVIL, cells=cells, notes=[EVIL], swept=["mixup"])
    page.write(evil, tmp_path / "evil.html")
    found = opened(tmp_path / "evil.html")
    assert found.complaints == []
    assert found.page.title() == f"{EVIL} · Vicinal"
    assert found.page.locator("b, main script").count() == 0
    assert found.page.locator("figure[data-picture='metrics'] label").first.inner_text() == names[0]
    ticks = found.page.eval_on_selector_all("#cells-0 .y.tick", "texts => texts.map(text => text.textContent)")
    assert sorted(ticks) == sorted(names)
    assert found.hover("metrics-2", 0)[0] == f"{names[0]}, n = 3"
    assert found.hover("learning-0", 0)[0] == f"{names[0]}, n = 3"


def test_the_values_in_the_page_are_plain_json_of_the_pictures(comparison: Comparison, file: Path) -> None:
    values = [
        json.loads(attributes["data-values"] or "", parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
        for tag, attributes in Parsed.of(file.read_text()).tags
        if tag == "g"
    ]
    drawn = [series for picture in pictures(comparison) for panel in picture.panels for series in panel.series]
    assert [(item["x"][0], item["y"][0]) for item in values] == [(list(series.x), list(series.y)) for series in drawn]


def test_a_page_of_a_small_sweep_is_small(file: Path) -> None:
    assert file.stat().st_size < 150_000

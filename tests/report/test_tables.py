"""What is printed and written agrees with the numbers, to the digit where it must."""

import csv
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from vicinal.analysis.compare import compare
from vicinal.analysis.comparison import SCORES
from vicinal.report.tables import grids, interval, latex, markdown, mean_and_std, number, probability, write_csv
from vicinal.report.terminal import Grid
from vicinal.tasks import CLASSIFICATION

NAN = math.nan
ALPHA = ("mixup", "mixup.alpha")
OTHERS = [metric for metric in CLASSIFICATION.computed if metric.key != CLASSIFICATION.selection]
ACCURACY, LIKELIHOOD = CLASSIFICATION.metric("acc1"), CLASSIFICATION.metric("nll")


def fill(runs: Any, seeds: int = 3) -> Any:
    for seed in range(seeds):
        runs.add("none", None, seed, 0.5 + seed**2 / 30, val=0.6)
        runs.add("input", 0.2, seed, 0.7 + seed / 30, val=0.6 + seed / 7)
        runs.add("input", 1.0, seed, 1 / 3, val=0.1)
    return runs.found(*ALPHA)


def test_csv_gives_every_number_back_to_the_last_bit(runs: Any, tmp_path: Path) -> None:
    comparison = compare(fill(runs))
    write_csv(comparison, tmp_path)
    for name, table in {"summary": comparison.table, "pairs": comparison.pairs, "chosen": comparison.chosen}.items():
        with (tmp_path / f"{name}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(table) > 0
        for read, row in zip(rows, table.to_dict("records"), strict=True):
            assert list(read) == list(row)
            for column, value in row.items():
                if isinstance(value, float):
                    assert read[column] == ("" if math.isnan(value) else repr(value))
                else:
                    assert read[column] == str(value)


def test_the_columns_of_summary_csv(runs: Any) -> None:
    scores = [f"{score} {name}" for score in SCORES for name in ("mean", "std", "low", "high")]
    others = [f"{score}/{metric.key} mean" for score in SCORES for metric in OTHERS]
    assert list(compare(fill(runs)).table) == [*ALPHA, "n", *scores, *others, "failed", "folder"]


def test_the_grid_of_cells_shows_percent_and_the_interval_of_what_is_tested(runs: Any) -> None:
    comparison = compare(fill(runs), score="test/best_val")
    cells, pairs, chosen = grids(comparison)
    assert cells.headings == [
        "mixup", "mixup.alpha", "n", "val, last epoch", "val, best epoch", "test, last epoch", "test, best by val",
        "95 % interval, best by val", "test, median of all 2 epochs", *(metric.heading for metric in OTHERS), "folder",
    ]  # fmt: skip
    row = comparison.table.iloc[1]
    shown = dict(zip(cells.headings, cells.rows[1], strict=True))
    assert shown["test, best by val"] == "73.33 ± 3.33"
    assert shown["95 % interval, best by val"] == "[64.37, 80.72]"
    assert (100 * row["test/best_val low"], 100 * row["test/best_val high"]) == pytest.approx((64.37, 80.72), abs=0.005)
    assert shown["mixup.alpha"] == "0.2"
    headings = [CLASSIFICATION.metric(key).heading for key in ("acc5", "nll", "ece")]
    assert [shown[heading] for heading in headings] == ["97.78", "0.5333", "6.67"]  # means of "best by val" too
    assert cells.title.startswith("top-1 accuracy in %, mean ± std over n seeds, Wilson interval of the mean; other")
    assert pairs.title == "test, best by val: difference to none in points, on the same seeds"
    assert [line[:3] for line in pairs.rows] == [["input alpha=0.2", "3", "+17.78"], ["input alpha=1", "3", "-22.22"]]
    assert [line[:4] for line in chosen.rows] == [["none", "-", "1", "3"], ["input", "0.2", "2", "3"]]


def test_one_seed_has_a_grid_without_intervals_and_failures_have_a_column(runs: Any) -> None:
    runs.add("none", None, 0, 0.5, val=None)
    runs.add("input", 0.2, 0, None, status="failed", about={"error": "the loss is [not] finite"})
    (cells,) = grids(compare(runs.found(*ALPHA)))
    assert cells.headings[3:] == [
        "test, last epoch", "95 % interval, last epoch", "test, median of all 2 epochs",
        *(metric.heading for metric in OTHERS), "failed", "folder",
    ]  # fmt: skip
    assert [[*row[3:6], row[-2]] for row in cells.rows] == [
        ["50.00", "-", "50.00", ""],
        ["-", "-", "-", "seed 0: the loss is [not] finite"],
    ]
    assert {*cells.rows[1][6:-2]} == {"-"}


def test_markdown_has_all_cells_of_text_and_escapes_bars(runs: Any) -> None:
    found = [*grids(compare(fill(runs))), Grid("title", ["a|b", "n"], ["n"], [["x|y", "1"]])]
    text = markdown(found, ["a caveat"])
    lines = text.splitlines()
    for row in found[0].rows:
        assert "| " + " | ".join(row) + " |" in lines
    assert lines[-5:] == ["| a\\|b | n |", "| --- | --: |", "| x\\|y | 1 |", "", "- a caveat"]


AWKWARD = Grid("50 % & more_of #1", ["a_b", "n"], ["n"], [["[input,block_1]", "1 ± 2"], ["x\\y~z^{2}$", "<0.001"]])


def test_latex_is_escaped() -> None:
    text = latex([AWKWARD], ["100 % sure"])
    assert r"\caption{50 \% \& more\_of \#1}" in text
    assert r"{[input,block\_1]} & 1 $\pm$ 2 \\" in text
    assert r"x\textbackslash{}y\textasciitilde{}z\textasciicircum{}\{2\}\$ & $<$0.001 \\" in text
    assert r"\begin{tabular}{lr}" in text
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert text.count(rule) == 1
    assert text.endswith("% 100 % sure\n")


def test_latex_leaves_the_folders_out(runs: Any) -> None:
    found = grids(compare(fill(runs)))
    text = latex(found, [])
    assert "folder" not in text
    assert "digits-cnn" not in text
    row = found[0].rows[0][:-1]
    assert " & ".join(row).replace("±", r"$\pm$") + r" \\" in text
    assert r"NLL (nats) $\downarrow$" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(runs: Any, tmp_path: Path) -> None:
    text = latex([*grids(compare(fill(runs))), AWKWARD], ["a caveat"])
    document = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}\n" + text + "\\end{document}\n"
    (tmp_path / "table.tex").write_text(document)
    subprocess.run(["pdflatex", "-halt-on-error", "table.tex"], cwd=tmp_path, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (mean_and_std(ACCURACY, 0.98765, 0.00123), "98.77 ± 0.12"),
        (mean_and_std(ACCURACY, 1.0, NAN), "100.00"),
        (mean_and_std(ACCURACY, NAN, NAN), "-"),
        (mean_and_std(LIKELIHOOD, 0.98765, 0.00123), "0.9877 ± 0.0012"),
        (mean_and_std(LIKELIHOOD, 0.98765, 0.00012), "0.9877 ± 0.00012"),
        (mean_and_std(LIKELIHOOD, 0.5, 0.0), "0.5000 ± 0.0000"),
        (mean_and_std(LIKELIHOOD, 21.66667, 2.08167), "21.67 ± 2.08"),
        (mean_and_std(LIKELIHOOD, 1234.4, 30.36), "1234 ± 30"),
        (mean_and_std(LIKELIHOOD, 1234.4, 0.36), "1234 ± 0.36"),
        (mean_and_std(LIKELIHOOD, 1.23456e8, 2.5e6), "1.235e+08 ± 2.500e+06"),
        (number(LIKELIHOOD, 0.134, "+"), "+0.1340"),
        (interval(ACCURACY, 0.5, 0.625), "[50.00, 62.50]"),
        (interval(ACCURACY, -0.0125, 0.5, "+"), "[-1.25, +50.00]"),
        (interval(LIKELIHOOD, 0.5, 1.25), "[0.5000, 1.250]"),
        (interval(ACCURACY, NAN, NAN), "-"),
        (probability(0.04951), "0.050"),
        (probability(0.00099), "<0.001"),
        (probability(1.0), "1.000"),
        (probability(NAN), "-"),
    ],
)
def test_numbers_as_text(shown: str, expected: str) -> None:
    assert shown == expected


def test_words_of_a_sweep_are_not_computed_by_a_spreadsheet(runs: Any, tmp_path: Path) -> None:
    words = ["=1+1\n\\write18{x}\x1b[2J|", "-0.5", "mlp"]
    for word in words:
        runs.add("none", None, 0, 0.5, model=word)
    files = {file.name: file for file in write_csv(compare(runs.found("model")), tmp_path)}
    with files["summary.csv"].open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["model"] for row in rows] == [f"'{words[0]}", "-0.5", "mlp"]
    assert [float(row["test/last mean"]) for row in rows] == [0.5, 0.5, 0.5]

"""From run folders to tables: numbers by hand from the files, refusals and caveats."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from vicinal.analysis.compare import compare
from vicinal.analysis.comparison import SCORES, Comparison
from vicinal.analysis.load import load_runs
from vicinal.errors import UserError
from vicinal.report.tables import grids

ALPHA = ("mixup", "mixup.alpha")


def grid(runs: Any, seeds: int = 6) -> None:
    """none and three mixing cells; the cell that is best on validation is not the best on test."""
    for seed in range(seeds):
        wobble = (seed * seed % 5) / 100
        runs.add("none", None, seed, [0.70 + wobble, 0.71 + wobble, 0.69 + wobble], val=0.60 + wobble)
        runs.add("input", 0.2, seed, [0.80 + seed / 90, 0.81, 0.79], val=0.65 + wobble)
        runs.add("input", 1.0, seed, [0.75 + seed / 80, 0.76, 0.74], val=0.70 + wobble)
        runs.add("cutmix", 1.0, seed, [0.72 - seed / 70, 0.73, 0.71], val=0.50 + wobble)


def metrics(acc1: float) -> dict[str, float]:
    return {"acc1": acc1, "acc5": 1.0, "nll": 1.0, "ece": 0.0}


def has(comparison: Comparison, words: str) -> bool:
    return any(words in note for note in comparison.notes)


def test_the_table_equals_a_hand_computation_from_the_files(runs: Any) -> None:
    grid(runs)
    comparison = compare(runs.found(*ALPHA))
    by_cell: dict[str, list[dict[str, Any]]] = {}
    for file in runs.outputs.glob("runs/*/result.json"):
        result = json.loads(file.read_text())
        by_cell.setdefault(result["cell_id"], []).append(result)
    assert comparison.table["mixup"].tolist() == ["none", "input", "input", "cutmix"]
    assert comparison.table["mixup.alpha"].tolist() == ["-", "0.2", "1", "1"]
    for cell, (_, row) in zip(comparison.cells, comparison.table.iterrows(), strict=True):
        results = by_cell[cell.cell_id]
        assert row["n"] == len(results) == 6
        for score in SCORES:
            which = score.partition("/")[2]
            parts = [result["test"][which] if which else result[score] for result in results]
            values = [part["acc1"] for part in parts]
            mean = sum(values) / 6
            std = math.sqrt(sum((value - mean) ** 2 for value in values) / 5)
            half = special.stdtrit(5, 0.975) * std / math.sqrt(6) if len(set(values)) > 1 else math.nan
            spread = half**2 / mean / (1 - mean)
            low, high = sorted(np.roots([1 + spread, -2 * mean - spread, mean**2])) if spread > 0 else [math.nan] * 2
            found = [row[f"{score} {name}"] for name in ("mean", "std", "low", "high")]
            assert found == pytest.approx([mean, std, low, high], abs=1e-12, nan_ok=True)
            for metric in ("nll", "ece"):
                expected = sum(part[metric] for part in parts) / 6
                assert row[f"{score}/{metric} mean"] == pytest.approx(expected, rel=1e-12)


def test_the_pairs_equal_a_hand_computation_from_the_files(runs: Any) -> None:
    grid(runs)
    comparison = compare(runs.found(*ALPHA), score="test/median10")
    scores: dict[str, dict[int, float]] = {}
    for file in runs.outputs.glob("runs/*/result.json"):
        result = json.loads(file.read_text())
        scores.setdefault(result["cell_id"], {})[result["seed"]] = result["test"]["median10"]["acc1"]
    base, *others = comparison.cells
    assert comparison.baseline is base
    assert base.label == "none"
    rows = comparison.pairs.to_dict("records")
    assert [row["cell"] for row in rows] == ["input alpha=0.2", "input alpha=1", "cutmix alpha=1"]
    p_values = []
    for cell, row in zip(others, rows, strict=True):
        differences = [scores[cell.cell_id][seed] - scores[base.cell_id][seed] for seed in range(6)]
        mean = sum(differences) / 6
        error = math.sqrt(sum((value - mean) ** 2 for value in differences) / 5 / 6)
        half = special.stdtrit(5, 0.975) * error
        p_values.append(2 * special.stdtr(5, -abs(mean / error)))
        assert (row["n pairs"], row["score"], row["baseline"]) == (6, "test/median10", "none")
        assert (row["difference"], row["low"], row["high"]) == pytest.approx((mean, mean - half, mean + half))
        assert row["p t"] == pytest.approx(p_values[-1], rel=1e-6)
    smallest, middle, largest = sorted(p_values)
    steps = [3 * smallest, max(3 * smallest, 2 * middle), max(3 * smallest, 2 * middle, largest)]
    corrected = dict(zip((smallest, middle, largest), steps, strict=True))
    assert [row["p t holm"] for row in rows] == pytest.approx([min(1, corrected[p]) for p in p_values], rel=1e-6)
    assert has(comparison, "corrected (Holm) for 3 comparisons of 'test, median of all 2 epochs'")


def test_validation_chooses_even_where_test_would_choose_otherwise(runs: Any) -> None:
    grid(runs)
    comparison = compare(runs.found(*ALPHA))
    chosen = {row["mixup"]: row for row in comparison.chosen.to_dict("records")}
    assert list(chosen) == ["none", "input", "cutmix"]
    assert (chosen["input"]["mixup.alpha"], chosen["input"]["of"]) == ("1", 2)
    table = comparison.table.set_index(["mixup", "mixup.alpha"])
    assert table.loc[("input", "0.2"), "test/last mean"] > table.loc[("input", "1"), "test/last mean"]
    for score in SCORES:
        assert chosen["input"][f"{score} mean"] == table.loc[("input", "1"), f"{score} mean"]


def test_the_choice_is_by_the_validation_score_of_the_tested_epoch(runs: Any) -> None:
    for alpha, val, best in ((0.2, 0.7, 0.8), (1.0, 0.6, 0.9)):
        runs.add("input", alpha, 0, 0.5, val=val, about={"val_best": metrics(best)})
    for score, chosen in {"test/last": "0.2", "test/median10": "0.2", "test/best_val": "1"}.items():
        assert compare(runs.found(*ALPHA), score=score).chosen["mixup.alpha"].tolist() == [chosen]


def test_results_without_the_best_validation_score_choose_nothing_by_it(runs: Any) -> None:
    for alpha in (0.2, 1.0):
        runs.add("input", alpha, 0, 0.5, about={"val_best": None})
    assert not compare(runs.found(*ALPHA)).chosen.empty
    comparison = compare(runs.found(*ALPHA), score="test/best_val")
    assert comparison.chosen.empty
    assert has(comparison, "results of an older version have no 'val, best epoch': nothing is chosen")


def test_without_a_validation_split_nothing_is_chosen(runs: Any) -> None:
    for seed in range(2):
        runs.add("none", None, seed, 0.5 + seed / 10, val=None)
        runs.add("input", 0.2, seed, 0.75 + seed / 8, val=None)
    comparison = compare(runs.found(*ALPHA))
    assert comparison.chosen.empty
    assert comparison.table["val mean"].isna().all()
    assert comparison.table["test/best_val mean"].isna().all()
    assert comparison.table["test/last mean"].tolist() == pytest.approx([0.55, 0.8125])
    assert has(comparison, "no validation split (dataset.val_size=0): nothing is chosen")


def test_equals_on_validation_are_said(runs: Any) -> None:
    for alpha in (0.2, 1.0):
        runs.add("input", alpha, 0, 0.5, val=0.5)
    comparison = compare(runs.found(*ALPHA))
    assert comparison.chosen["mixup.alpha"].tolist() == ["0.2"]
    assert has(comparison, "input alpha=0.2 is chosen as the first of equals on validation: input alpha=1")


def test_the_easier_data_are_not_chosen(runs: Any) -> None:
    """One choice per value of a key of the data; of keys of the training, one among all."""
    for noise, ease in ((0.2, 0.3), (0.8, 0.0)):
        for epochs in (2, 3):
            for alpha, gain in ((0.2, 0.01), (1.0, 0.02 if noise == 0.8 else 0.0)):
                val = 0.5 + ease + gain + epochs / 100
                runs.add("input", alpha, 0, 0.5, val=val, dataset__label_noise=noise, trainer__epochs=epochs)
    comparison = compare(runs.found(*ALPHA, "dataset.label_noise", "trainer.epochs"))
    keys = ["mixup.alpha", "dataset.label_noise", "trainer.epochs", "of"]
    assert comparison.chosen[keys].to_numpy().tolist() == [["0.2", "0.2", "3", 4], ["1", "0.8", "3", 4]]
    assert comparison.best == comparison.picked == comparison.chosen["cell"].tolist()


def test_a_cell_that_has_lost_seeds_is_not_chosen(runs: Any) -> None:
    """The mean over the seeds that have not diverged is that of the easier ones."""
    for seed in range(3):
        runs.add("input", 0.2, seed, 0.5, val=0.5 + seed / 10)
        runs.add("input", 1.0, seed, 0.5, val=0.4 + seed / 10)
    runs.add("input", 4.0, 2, 0.5, val=0.99)
    for seed in range(2):
        runs.add("input", 4.0, seed, None, status="failed")
    comparison = compare(runs.found(*ALPHA))
    assert comparison.chosen[["mixup.alpha", "of"]].to_numpy().tolist() == [["0.2", 3]]
    assert has(comparison, "fewer seeds than input alpha=0.2, so not chosen: input alpha=4")
    assert not has(comparison, "different seeds")


def test_pairs_use_the_common_seeds_alone(runs: Any) -> None:
    for seed, acc1 in {0: 0.5, 1: 0.625, 2: 0.75, 3: 0.25}.items():
        runs.add("none", None, seed, acc1)
    for seed, acc1 in {1: 0.75, 2: 0.9375, 4: 1.0}.items():
        runs.add("input", 0.2, seed, acc1)
    runs.add("input", 0.2, 3, None, status="failed", about={"error": "the loss is not finite"})
    comparison = compare(runs.found(*ALPHA))
    (row,) = comparison.pairs.to_dict("records")
    assert row["n pairs"] == 2
    assert row["difference"] == (0.125 + 0.1875) / 2
    assert row["p t"] == pytest.approx(stats.ttest_rel([0.75, 0.9375], [0.625, 0.75]).pvalue)
    assert comparison.table["n"].tolist() == [4, 3]
    assert comparison.table["failed"].tolist() == ["", "seed 3: the loss is not finite"]
    assert has(comparison, "differences use the seeds that a cell shares with the baseline, not all: input alpha=0.2")
    assert has(comparison, "input alpha=0.2, seed 3: failed: the loss is not finite")


def test_runs_without_scores_are_named_by_cell_and_reason(runs: Any) -> None:
    runs.add("none", None, 0, 0.5)
    for seed in range(3):
        runs.add("input", 0.2, seed, None, status="missing", cell="00000000aa")
    notes = compare(runs.found(*ALPHA)).notes
    folder = runs.outputs / "runs" / "digits-cnn-input-alpha0.2-00000000aa-s*"
    assert f"input alpha=0.2, seeds 0, 1, 2: missing: never begun ({folder})" in notes


def test_no_common_seed_is_no_comparison(runs: Any) -> None:
    runs.add("none", None, 0, 0.5)
    runs.add("input", 0.2, 1, 0.75)
    (row,) = compare(runs.found(*ALPHA)).pairs.to_dict("records")
    assert (row["n pairs"], row["why"]) == (0, "fewer than two pairs")
    assert math.isnan(row["difference"])
    assert math.isnan(row["p t holm"])
    comparison = compare(runs.found(*ALPHA))
    assert has(comparison, "no seed in common with the baseline, so no difference: input alpha=0.2")
    assert not comparison.compared
    runs.add("input", 0.2, 0, 0.75)
    comparison = compare(runs.found(*ALPHA))
    assert comparison.compared
    assert not has(comparison, "in common with")  # one seed of none says it all
    runs.add("none", None, 2, 0.5)
    assert has(compare(runs.found(*ALPHA)), "one seed in common, so no test: input alpha=0.2")


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        (1, ["one completed seed means no deviation, no interval and no test: none, input alpha=0.2"]),
        (
            2,
            [
                "two completed seeds mean no interval, which needs 3: none, input alpha=0.2",
                "with 2 pairs and one comparison its corrected p is at least 0.5; 6 seeds in each cell allow p < 0.05",
                "fewer than 5 pairs cannot",
            ],
        ),
        (
            5,
            ["with 5 pairs and one comparison its corrected p is at least 0.0625; 6 seeds in each cell allow p < 0.05"],
        ),
        (6, []),
    ],
)
def test_too_few_seeds_for_a_claim_is_said(runs: Any, seeds: int, words: list[str]) -> None:
    for seed in range(seeds):
        runs.add("none", None, seed, 0.5 + seed**2 / 100)
        runs.add("input", 0.2, seed, 0.5 + seed / 10)
    comparison = compare(runs.found(*ALPHA))
    for each in words:
        assert has(comparison, each), comparison.notes
    assert has(comparison, "too few seeds for the signed-rank test") == (2 <= seeds <= 5)
    assert has(comparison, "too few seeds for a claim by the t-test") == (2 <= seeds <= 4)


def test_degenerate_differences_are_explained(runs: Any) -> None:
    for seed in range(3):
        runs.add("none", None, seed, 0.5)
        runs.add("input", 0.2, seed, 0.5)
        runs.add("input", 1.0, seed, 0.75)
    comparison = compare(runs.found(*ALPHA))
    assert comparison.pairs["p t"].isna().tolist() == [False, True]
    assert has(comparison, "input alpha=0.2: no difference in any pair")
    assert has(comparison, "input alpha=1: the same difference in all pairs: no interval and no t-test")
    assert comparison.pairs["low"].isna().all()
    assert comparison.table["test/last low"].isna().all()
    assert has(
        comparison, "equal scores in all 3 seeds: no interval for none, input alpha=0.2, input alpha=1 (val, last"
    )


def test_what_the_signed_rank_test_cannot_show_is_counted_from_the_cells_with_few_pairs(runs: Any) -> None:
    """Beside two cells with ten pairs, one with four has at best a corrected p of 1/8: Holm multiplies by one."""
    for seed in range(10):
        runs.add("none", None, seed, 0.5)
        for alpha in (0.2, 0.4):
            runs.add("input", alpha, seed, 0.6 + alpha / 10 + seed / 100)
        if seed < 4:
            runs.add("cutmix", 1.0, seed, 0.6 + seed / 100)
    comparison = compare(runs.found(*ALPHA))
    (line,) = (note for note in comparison.notes if "too few seeds for the signed-rank test" in note)
    assert "with 4 pairs and 3 comparisons its corrected p is at least 0.125 (cutmix alpha=1); 7 seeds in" in line
    assert comparison.pairs["p wilcoxon holm"].tolist() == pytest.approx([3 / 512, 3 / 512, 1 / 8])
    assert has(comparison, "fewer than 5 pairs cannot show that differences are normal (cutmix alpha=1)")


def test_a_median_is_called_what_it_is(runs: Any) -> None:
    runs.add("input", 0.2, 0, 0.5, trainer__epochs=12)
    long = compare(runs.found("mixup.alpha"))
    assert long.headings["test/median10"] == "test, median of last 10"
    assert not has(long, "median")
    runs.add("input", 0.4, 0, 0.5, trainer__epochs=4)
    both = compare(runs.found("mixup.alpha"))
    assert both.headings["test/median10"] == "test, median of last 10 or fewer"
    assert has(both, "the median is of all 4 epochs, not of the last 10: input alpha=0.4")
    runs.entries.pop(0)
    assert compare(runs.found("mixup.alpha")).headings["test/median10"] == "test, median of all 4 epochs"


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"hardware": {"precision": "bf16"}}, "precision: fp32 in none seed 0; bf16 in input alpha=0.2 seed 0"),
        ({"hardware": {"device": "cuda"}}, "device: cpu in none seed 0; cuda in input alpha=0.2 seed 0"),
        ({"hardware": {"threads": 2}}, "threads: 1 in none seed 0; 2 in input alpha=0.2 seed 0"),
        ({"versions": {"torch": "2.11.0"}}, "torch: 2.15.0 in none seed 0; 2.11.0 in input alpha=0.2 seed 0"),
        ({"hardware": {"compile": True}}, "compile: False in none seed 0; True in input alpha=0.2 seed 0"),
        ({"versions": {"scikit-learn": "1.0"}}, "scikit-learn: 1.9.1 in none seed 0; 1.0 in input alpha=0.2 seed 0"),
        ({"changed": ["threads 1, then 2"]}, "input alpha=0.2, seed 0: changed when it was resumed: threads 1, then 2"),
    ],
)
def test_what_machines_made_of_a_request_is_compared(runs: Any, about: dict[str, Any], words: str) -> None:
    usual = {"hardware": {"compile": False}, "versions": {"scikit-learn": "1.9.1"}}
    runs.add("none", None, 0, 0.5, about=usual)
    runs.add("input", 0.2, 0, 0.5, about={**usual, **about})
    comparison = compare(runs.found(*ALPHA))
    assert has(comparison, words), comparison.notes


def test_a_swept_precision_is_no_hidden_difference(runs: Any) -> None:
    for precision in ("fp32", "bf16"):
        runs.add("input", 0.2, 0, 0.5, about={"hardware": {"precision": precision}}, trainer__precision=precision)
    comparison = compare(runs.found("trainer.precision"))
    assert [cell.label for cell in comparison.cells] == ["input precision=fp32", "input precision=bf16"]
    assert not has(comparison, "the same precision")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"trainer__batch_size": 128}, "trainer.batch_size (64, 128)"),
        ({"trainer__epochs": 3}, "trainer.epochs (2, 3)"),
        ({"optimizer__weight_decay": 0.0}, "optimizer.weight_decay (0.0005, 0)"),
        ({"trainer__precision": "bf16"}, "trainer.precision (auto, bf16)"),
        ({"model": "mlp"}, "model (cnn, mlp)"),
    ],
)
def test_cells_of_a_folder_that_differ_in_more_are_refused(runs: Any, setting: dict[str, Any], words: str) -> None:
    runs.add("none", None, 0, 0.5)
    runs.add("input", 0.2, 0, 0.75, **setting)
    key = words.partition(" ")[0]
    found = load_runs(runs.outputs)
    found.runs.sort(key=lambda run: run.name, reverse=True)
    with pytest.raises(UserError) as refused:
        compare(found)
    assert str(refused.value).startswith(
        f"these cells differ also in {words}: say --swept mixup,{key}, or --allow-confounded"
    )
    assert has(compare(found, allow_confounded=True), f"the cells differ in more than the swept keys: {words}")
    said = compare(found, swept=["mixup", key])
    assert said.swept == ["mixup", key]
    assert not has(said, "differ in more")
    assert has(said, f"effects of mixup and {key} are not told apart in the difference to the baseline")


def test_a_sweep_that_differs_in_more_is_not_refused_but_says_so(runs: Any) -> None:
    runs.add("none", None, 0, 0.5)
    runs.add("input", 0.2, 0, 0.75, trainer__epochs=3)
    assert has(compare(runs.found("mixup")), "the cells differ in more than the swept keys: trainer.epochs (2, 3)")


def test_what_cannot_change_a_result_is_no_difference(runs: Any) -> None:
    runs.add("none", None, 0, 0.5)
    runs.add("input", 0.2, 0, 0.75, trainer__log_every=7, dataset__root="/data", wandb__mode="online")
    comparison = compare(load_runs(runs.outputs))
    assert comparison.swept == ["mixup"]
    assert not has(comparison, "differ")


def test_a_folder_is_swept_by_what_differs_in_mixup(runs: Any) -> None:
    runs.add("none", None, 0, 0.5)
    for alpha in (10.0, 2.0, 0.4):
        runs.add("input", alpha, 0, 0.5)
    runs.add("cutmix", 1.0, 0, 0.5)
    comparison = compare(load_runs(runs.outputs))
    assert comparison.swept == ["mixup", "mixup.alpha"]
    assert [cell.label for cell in comparison.cells] == [
        "none", "cutmix alpha=1", "input alpha=0.4", "input alpha=2", "input alpha=10",
    ]  # fmt: skip


def test_cells_that_look_the_same_are_told_apart(runs: Any) -> None:
    for cell in ("00000000aa", "00000000bb"):
        runs.add("input", 0.2, 0, 0.5, cell=cell)
    comparison = compare(load_runs(runs.outputs))
    assert [cell.label for cell in comparison.cells] == ["input (00000000aa)", "input (00000000bb)"]
    assert has(comparison, "differ in nothing that their configs say")


def test_baselines(runs: Any) -> None:
    runs.add("input", 0.2, 0, 0.5, cell="00000000aa")
    runs.add("input", 0.0, 0, 0.5)
    found = runs.found(*ALPHA)

    def label(*conditions: str) -> str:
        baseline = compare(found, conditions).baseline
        assert baseline is not None
        return baseline.label

    assert label() == "input alpha=0"
    assert label("mixup=input", "mixup.alpha=0.2") == label("00000000aa") == "input alpha=0.2"
    with pytest.raises(UserError, match=r"--baseline mixup=input: these are several cells: input alpha=0.2, input"):
        compare(found, ["mixup=input"])
    with pytest.raises(UserError, match=r"--baseline mixup=none: no such cell; there are: input alpha=0.2, input"):
        compare(found, ["mixup=none"])
    runs.add("none", None, 0, 0.5)
    found = runs.found(*ALPHA)
    assert label() == "none"
    with pytest.raises(UserError, match=r"--swept mixup.alhpa: no run has this key; did you mean mixup.alpha"):
        compare(found, swept=["mixup.alhpa"])


@pytest.mark.parametrize("sizes", [(200, 400), (400, 200)])
def test_several_cells_without_mixing_are_each_the_baseline_of_those_that_agree(
    runs: Any, sizes: tuple[int, ...]
) -> None:
    for mixup, alpha, gain in (("input", 0.2, 0.125), ("none", None, 0.0)):
        for size in sizes:
            for seed in range(2):
                runs.add(mixup, alpha, seed, size / 1000 + gain + seed / 8, dataset__train_size=size)
    runs.add("input", 0.2, 0, 0.5, dataset__train_size=800)
    comparison = compare(runs.found("mixup", "dataset.train_size"))
    first, second = (f"none train_size={size}" for size in sizes)
    assert comparison.baselines == [first, second]
    assert comparison.pairs["cell"].tolist() == [f"input train_size={size}" for size in (*sizes, 800)]
    assert comparison.pairs["baseline"].tolist() == [first, second, first]
    assert comparison.pairs["difference"].tolist()[:2] == pytest.approx([0.125, 0.125])
    assert has(comparison, f"no baseline, or several, agree in all but the mixing, so compared with {first}: input tra")
    assert has(comparison, "effects of mixup and dataset.train_size are not told apart")
    pairs = grids(comparison)[1]
    assert pairs.title == "test, last epoch: difference to the baseline of each in points, on the same seeds"
    assert [row[1] for row in pairs.rows] == [first, second, first]


def test_confounded_cells_have_the_baseline_that_agrees(runs: Any) -> None:
    for mixup, alpha, gain in (("none", None, 0.0), ("input", 0.2, 0.125)):
        for epochs in (2, 3, 4):
            for seed in range(3):
                runs.add(mixup, alpha, seed, epochs / 10 + gain + seed / 100, trainer__epochs=epochs)
    comparison = compare(load_runs(runs.outputs), allow_confounded=True)
    assert comparison.swept == ["mixup", "trainer.epochs"]
    assert comparison.pairs["difference"].tolist() == pytest.approx([0.125] * 3)
    assert comparison.pairs["baseline"].tolist() == [f"none epochs={epochs}" for epochs in (2, 3, 4)]
    assert has(comparison, "the cells differ in more than the swept keys: trainer.epochs (")
    assert not has(comparison, "agree in all but")
    assert not has(comparison, "not told apart")


def test_a_key_that_came_later_is_of_the_options_that_have_it(runs: Any) -> None:
    """An older run of an option has the default; other options do not have the key at all."""
    runs.add("none", None, 0, 0.5)
    runs.add("input", 0.2, 0, 0.5)
    runs.add("input", 0.2, 0, 0.5, mixup__partner="next")
    runs.add("cutmix", 0.2, 0, 0.5)
    comparison = compare(load_runs(runs.outputs))
    labels = {cell.label for cell in comparison.cells}
    assert labels == {"none", "cutmix", "input partner=permutation", "input partner=next"}


def test_a_later_key_of_one_option_is_not_of_another_with_the_same_class(
    runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the bandwidth of c_mixup, which is input mixup with another rule for partners."""
    targets = {"input": "InputMixup", "c_mixup": "InputMixup"}
    monkeypatch.setattr("tests.stored_sweeps.TARGETS", targets)
    runs.add("input", 0.2, 0, 0.5)
    for bandwidth in (0.3, 1.0):
        runs.add("c_mixup", 0.2, 0, 0.5, mixup__bandwidth=bandwidth)
    labels = {cell.label for cell in compare(load_runs(runs.outputs)).cells}
    assert labels == {"input", "c_mixup bandwidth=0.3", "c_mixup bandwidth=1"}


def test_a_baseline_without_scores_is_said_and_a_completed_one_preferred(runs: Any) -> None:
    runs.add("input", 0.2, 0, None, status="failed")
    runs.add("input", 0.4, 0, 0.5)
    runs.add("input", 1.0, 0, 0.5)
    assert compare(runs.found(*ALPHA)).baselines == ["input alpha=0.4"]
    runs.add("none", None, 0, None, status="failed")
    comparison = compare(runs.found(*ALPHA))
    assert comparison.baselines == ["none"]
    assert has(
        comparison,
        "the baseline none has no score 'test, last epoch', so there is no difference to it: input alpha=0.2, input",
    )


def test_nothing_completed_is_a_table_of_nothing(runs: Any) -> None:
    runs.add("none", None, 0, None, status="failed")
    runs.add("input", 0.2, 0, None, status="missing")
    comparison = compare(runs.found(*ALPHA))
    assert comparison.table["n"].tolist() == [0, 0]
    assert comparison.table["test/last mean"].isna().all()
    assert [cell.label for cell in comparison.cells] == ["none", "input alpha=0.2"]
    assert has(comparison, "no completed seed means no scores: none, input alpha=0.2")
    assert has(comparison, "none, seed 0: failed: the loss is not finite")


def test_the_folder_of_a_cell_stands_for_its_seeds(runs: Any, tmp_path: Path) -> None:
    runs.add("none", None, 3, 0.5, cell="00000000aa")
    expected = tmp_path / "outputs/runs/digits-cnn-none-00000000aa-s*"
    assert compare(runs.found("mixup")).table["folder"].tolist() == [str(expected)]

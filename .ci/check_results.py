"""Check the files that the README's main job and its sweep leave in outputs/."""

import csv
import json
import sys
from pathlib import Path

FILES = {"config.yaml", "metrics.jsonl", "result.json", "checkpoint.pt", "environment.json", "train.log", "SHA256SUMS"}


def results() -> dict[float, dict]:
    """{alpha: result} of the completed runs with input mixup on digits."""
    found = {}
    for folder in Path("outputs/runs").glob("digits-cnn-input-*"):
        missing = FILES - {file.name for file in folder.iterdir()}
        assert not missing, f"{folder} lacks {missing}"
        result = json.loads((folder / "result.json").read_text())
        assert result["status"] == "completed", (folder, result["status"])
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [row["epoch"] for row in rows] == list(range(1, result["epochs"] + 1))
        assert rows[-1]["test/acc1"] == result["test"]["last"]["acc1"]
        found[result["config"]["mixup"]["alpha"]] = result
    return found


def main(which: str) -> None:
    found = results()
    accuracy = found[0.2]["test"]["last"]["acc1"]
    assert accuracy >= 0.97, accuracy
    print(f"default job: test acc1 {accuracy:.4f} >= .97")
    if which == "sweep":
        assert set(found) == {0.2, 0.4}, set(found)
        assert found[0.2]["cell_id"] != found[0.4]["cell_id"]
        [summary] = Path("outputs/sweeps").glob("*/report/summary.csv")
        rows = list(csv.DictReader(summary.open()))
        means = {float(row["mixup.alpha"]): float(row["test/last mean"]) for row in rows}
        assert means == {alpha: result["test"]["last"]["acc1"] for alpha, result in found.items()}, means
        print(f"sweep: {means}")


if __name__ == "__main__":
    main(sys.argv[1])

from pathlib import Path

from vicinal.runs.remarks import summarise


def test_the_same_of_several_runs_is_one_line() -> None:
    one, two = Path("out/runs/one"), Path("out/runs/two")
    remarks = [
        (one, "out/runs/one/metrics.jsonl is missing"),
        (one, "made with torch 2.14"),
        (two, "out/runs/two/config.yaml is damaged"),
        (two, "out/runs/two/metrics.jsonl is missing"),
        (two, "a remark of its own"),
        (two, "made with torch 2.14"),
    ]
    assert summarise(remarks) == [
        "2 runs, such as out/runs/one: metrics.jsonl is missing",
        "2 runs, such as out/runs/one: made with torch 2.14",
        "out/runs/two/config.yaml is damaged",
        "out/runs/two: a remark of its own",
    ]
    assert summarise([]) == []


def test_a_folder_whose_name_begins_another_ones() -> None:
    run, other = Path("runs/a"), Path("runs/ab")
    assert summarise([(run, f"{other}/result.json is damaged")]) == ["runs/a: runs/ab/result.json is damaged"]

"""Tables against pandas and scikit-learn, and every refusal of a file in one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from vicinal.build import load_data
from vicinal.data import Source
from vicinal.data.inputs import Table
from vicinal.data.tables import diabetes, table
from vicinal.errors import UserError
from vicinal.experiment import Experiment

FRAME = pd.DataFrame(
    {
        "size": [1.5, -2, 3e5, 4, 5, 6],
        "colour": ["red", "blue", "red", "green", "blue", "red"],
        "good": [True, False, True, True, False, False],
        "price": [10, 20, 30, 40, 50, 60],
        "kind": ["b", "a", "b", "a", "b", "a"],
    }
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    FRAME.to_csv(path, index=False)
    return path


def load(file: Path, target: list[str], task: object = "regression", **keys: object) -> Source:
    return table(str(file), target, task, str(file.parent / "cache"), **keys)  # type: ignore[arg-type]


def rows(source: Source) -> torch.Tensor:
    """Features and targets of all samples, train first, each a row."""
    parts = [torch.cat([part.inputs, part.targets.view(len(part.targets), -1)], dim=1) for part in source[:2]]
    return torch.cat(parts)


def test_numbers_are_taken_as_they_are_and_texts_become_columns(file: Path) -> None:
    source = load(file, ["price"], test_share=0.5)
    encoded = OneHotEncoder(sparse_output=False).fit_transform(FRAME[["colour", "kind"]])
    columns = [FRAME["size"], *encoded[:, :3].T, FRAME["good"], *encoded[:, 3:].T, FRAME["price"]]
    expected = np.stack([np.asarray(column, float) for column in columns], axis=1)
    found = rows(source).numpy()
    np.testing.assert_allclose(found[found[:, -1].argsort()], expected, rtol=1e-7)
    assert source.class_names == ("price",)
    assert source.train.targets.shape == (3, 1)
    assert source.train.inputs.dtype == source.train.targets.dtype == torch.float32


def test_a_class_is_any_value(file: Path) -> None:
    source = load(file, ["kind"], "classification", test_share=1 / 3)
    assert source.class_names == ("a", "b")
    assert source.test.targets.bincount().tolist() == [1, 1]  # stratified
    numbers = load(file, ["price"], "classification", test_share=0.5)
    assert numbers.class_names == ("10", "20", "30", "40", "50", "60")
    assert rows(numbers)[:, -1].sort().values.tolist() == [0, 1, 2, 3, 4, 5]


def test_several_targets(file: Path) -> None:
    source = load(file, ["price", "size"], unit="EUR")
    assert (source.class_names, source.unit) == (("price", "size"), "EUR")
    assert rows(source)[:, -2:].sort(dim=0).values.T.tolist() == [[10, 20, 30, 40, 50, 60], [-2, 1.5, 4, 5, 6, 3e5]]
    assert load(file, ["good"], "multilabel").train.targets.unique().tolist() == [0, 1]


def test_the_held_out_rows_are_scikit_learns_and_never_change(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": range(50), "y": [number % 5 == 0 for number in range(50)]})
    frame.to_csv(tmp_path / "table.csv", index=False)
    source = load(tmp_path / "table.csv", ["y"], "classification")
    kept, held_out = train_test_split(frame["x"], test_size=10, stratify=frame["y"], random_state=0)
    assert source.test.inputs[:, 0].tolist() == sorted(held_out)
    assert source.train.inputs[:, 0].tolist() == sorted(kept)
    assert torch.equal(rows(load(tmp_path / "table.csv", ["y"], "classification")), rows(source))


def test_a_test_file_has_the_categories_and_classes_of_the_first(file: Path) -> None:
    other = file.with_name("test.csv")
    FRAME.assign(colour=["red", "black"] * 3)[::-1].to_csv(other, index=False)
    source = load(file, ["kind"], "classification", test_file=str(other))
    assert (len(source.train.targets), len(source.test.targets)) == (6, 6)
    columns = source.test.inputs[:, 1:4]  # blue, green, red
    assert columns.tolist() == [[0, 0, 0], [0, 0, 1]] * 3
    assert source.test.targets.tolist() == [0, 1] * 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(seed=st.integers(0, 2**20), n=st.integers(2, 30))
def test_columns_are_standardised_as_by_scikit_learn(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(5, 3, n), rng.integers(0, 2, n), np.full(n, 4.0)]).astype(np.float32)
    samples = diabetes().train._replace(inputs=torch.from_numpy(x), targets=torch.zeros(n, 1))
    mean, std = Table(3).statistics(samples)
    expected = StandardScaler().fit(x.astype(float))
    np.testing.assert_allclose(mean, expected.mean_, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(std, expected.scale_, rtol=1e-9)


def test_the_diabetes_patients_are_scikit_learns() -> None:
    source, known = diabetes(), load_diabetes(scaled=False)
    found = rows(source).double().numpy()
    expected = np.column_stack([known.data, known.target])
    assert (len(source.train.targets), len(source.test.targets)) == (300, 142)
    np.testing.assert_allclose(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)], rtol=1e-6)


def changed(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    return lambda file: change(FRAME.copy()).to_csv(file, index=False)


def beside(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], None]:
    return lambda file: change(FRAME.copy()).to_csv(file.with_name("test.csv"), index=False)


CASES: dict[str, tuple[Callable[[Path], object], dict[str, object], str]] = {
    "missing": (Path.unlink, {}, "file must be a CSV or parquet file, and there is none"),
    "missing test": (
        lambda file: None,
        {"test_file": "test.csv"},
        "test_file must be a CSV or parquet file, and",
    ),
    "empty": (lambda file: file.write_text(""), {}, "file must be a CSV or parquet file that can be read ("),
    "uneven": (lambda file: file.write_text("a,b\n1,2\n1,2,3\n"), {}, "file must be a CSV or parquet file that"),
    "no rows": (lambda file: file.write_text("price,size\n"), {}, "file must have rows, got"),
    "no such target": (
        lambda file: None,
        {"target": ["prise"]},
        "target must name columns of table.csv: no prise; did",
    ),
    "no target": (lambda file: None, {"target": []}, "target must be one column or more, got []"),
    "two classes": (
        lambda file: None,
        {"target": ["kind", "good"], "task": "classification"},
        "target must be one column, got ['kind', 'good']",
    ),
    "one class": (
        changed(lambda frame: frame.assign(kind="a")),
        {"target": ["kind"], "task": "classification"},
        "target must have two classes or more, got a alone",
    ),
    "texts as numbers": (
        lambda file: None,
        {"target": ["kind"]},
        "target must be numbers for this task: kind of",
    ),
    "no features": (changed(lambda frame: frame[["price"]]), {}, "file must have columns beside target, got ['price']"),
    "a hole": (
        changed(lambda frame: frame.assign(size=[1, 2, None, 4, None, 6])),
        {},
        "file must have a value in every cell: 2 of size are missing",
    ),
    "a hole in the target": (
        changed(lambda frame: frame.assign(price=[1, 2, None, 4, 5, 6])),
        {},
        "file must have a value in every cell: 1 of price are missing",
    ),
    "infinite": (
        changed(lambda frame: frame.assign(size=1e39)),
        {},
        "file must have finite numbers below 1e38 in",
    ),
    "a column of names": (
        lambda file: pd.DataFrame({"price": range(1001), "name": [f"n{number}" for number in range(1001)]}).to_csv(
            file, index=False
        ),
        {"test_share": 0.001},
        "file: column name has 1,001 different texts, and a feature at most 1,000",
    ),
    "no column in test": (
        beside(lambda frame: frame.drop(columns="size")),
        {"test_file": "test.csv"},
        "test_file must have the columns of file: no size",
    ),
    "no target in test": (
        beside(lambda frame: frame.drop(columns="price")),
        {"test_file": "test.csv"},
        "target must name columns of test.csv: no price",
    ),
    "texts in test": (
        beside(lambda frame: frame.assign(size=["x"] * 6)),
        {"test_file": "test.csv"},
        "test_file must have numbers in column size, as file has, got others",
    ),
    "another class in test": (
        beside(lambda frame: frame.assign(kind="c")),
        {"target": ["kind"], "task": "classification", "test_file": "test.csv"},
        "test_file must have the classes of file: c is none",
    ),
    "no test row": (lambda file: None, {"test_share": 0.01}, "test_share must leave rows on both sides of 6, got 0.01"),
    "no training row": (
        lambda file: None,
        {"test_share": 0.99},
        "test_share must leave rows on both sides of 6, got",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_read_is_refused_in_a_line(file: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil, keys, message = CASES[case]
    monkeypatch.chdir(file.parent)
    spoil(file)
    arguments: dict[str, object] = {"target": ["price"], **keys}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as refused:
        load(file, **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_parquet(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow pandas cannot read it; with it the rows are the same."""
    other = file.with_suffix(".parquet")
    other.touch()

    def missing(path: Path) -> pd.DataFrame:
        raise ImportError("Missing optional dependency 'pyarrow'")

    monkeypatch.setattr(pd, "read_parquet", missing)
    with pytest.raises(ValueError, match=r"^file must be a CSV file, since parquet needs pyarrow, got"):
        load(other, ["price"])
    monkeypatch.setattr(pd, "read_parquet", lambda path: FRAME)
    other.write_bytes(b"changed")  # what was refused is not remembered
    assert torch.equal(rows(load(other, ["price"])), rows(load(file, ["price"])))


def test_sizes_are_counted_and_identity_is_the_content(compose: Callable[..., Experiment], file: Path) -> None:
    words = (f"dataset.file={file}", "dataset=table", "dataset.target=[price]", "dataset.val_size=1")
    experiment = compose(*words)
    assert (experiment.sizes.inputs, experiment.sizes.classes) == (Table(7), 1)
    assert load_data(experiment).train.targets.shape == (4, 1)
    moved = file.rename(file.with_name("moved.csv"))
    assert compose(f"dataset.file={moved}", *words[1:]).cell_id == experiment.cell_id
    FRAME.assign(size=0.5).to_csv(moved, index=False)
    assert compose(f"dataset.file={moved}", *words[1:]).cell_id != experiment.cell_id
    with pytest.raises(UserError, match=r"^dataset\.features=9: |must return inputs of \[9\] each, not of \[7\]"):
        load_data(compose(f"dataset.file={moved}", *words[1:], "dataset.features=9"))

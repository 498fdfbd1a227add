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
from sklearn.linear_model import RidgeCV
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from vicinal.build import load_data
from vicinal.data import Source
from vicinal.data.inputs import Table
from vicinal.data.tables import diabetes, table
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.tasks.regression import PENALTIES, REGRESSION

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
    """Features and targets of all samples, train first, each a row, float64; targets are what they were."""
    offset = torch.tensor(source.offset or 0.0, dtype=torch.float64)
    targets = [part.targets.view(len(part.targets), -1) + offset for part in source[:2]]
    return torch.cat([torch.cat([part.inputs, own], dim=1) for part, own in zip(source[:2], targets, strict=True)])


def test_numbers_lose_their_mean_and_texts_become_columns(file: Path) -> None:
    source = load(file, ["price"], test_share=0.5)
    encoded = OneHotEncoder(sparse_output=False).fit_transform(FRAME[["colour", "kind"]])
    size, good = (FRAME[name] - FRAME[name].mean() for name in ("size", "good"))
    columns = [size, *encoded[:, :3].T, good, *encoded[:, 3:].T, FRAME["price"]]
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
    pd.concat([FRAME, FRAME]).to_csv(file, index=False)
    numbers = load(file, ["price"], "classification", test_share=0.5)
    assert numbers.class_names == ("10", "20", "30", "40", "50", "60")
    assert rows(numbers)[:, -1].sort().values.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert numbers.offset == ()


def test_several_targets(file: Path) -> None:
    source = load(file, ["price", "size"], unit="EUR")
    assert (source.class_names, source.unit) == (("price", "size"), "EUR")
    found = rows(source)[:, -2:].sort(dim=0).values.T
    np.testing.assert_allclose(found, [[10, 20, 30, 40, 50, 60], [-2, 1.5, 4, 5, 6, 3e5]], atol=0.01)
    assert load(file, ["good"], "multilabel").train.targets.unique().tolist() == [0, 1]


def test_the_held_out_rows_are_scikit_learns_and_never_change(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": range(50), "y": [number % 5 == 0 for number in range(50)]})
    frame.to_csv(tmp_path / "table.csv", index=False)
    source = load(tmp_path / "table.csv", ["y"], "classification")
    kept, held_out = train_test_split(frame["x"], test_size=10, stratify=frame["y"], random_state=0)
    assert (source.test.inputs[:, 0] + frame["x"].mean()).tolist() == sorted(held_out)
    assert (source.train.inputs[:, 0] + frame["x"].mean()).tolist() == sorted(kept)
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


def oracle(frame: pd.DataFrame, share: float = 0.2) -> float:
    """Error on the test rows of scikit-learn's ridge regression of y by all other columns, in float64."""
    order = np.random.RandomState(0).permutation(len(frame))
    test, train = order[: round(share * len(frame))], order[round(share * len(frame)) :]
    x, y = frame.drop(columns="y").to_numpy(np.float64), frame["y"].to_numpy(np.float64)
    scaler, target = StandardScaler().fit(x[train]), StandardScaler().fit(y[train, None])
    model = RidgeCV(alphas=PENALTIES).fit(scaler.transform(x[train]), target.transform(y[train, None])[:, 0])
    predicted = model.predict(scaler.transform(x[test])) * target.scale_ + target.mean_
    return root_mean_squared_error(y[test], predicted)


@pytest.mark.parametrize(
    ("of_x", "of_y"), [((0, 1), (0, 1)), ((1.7e9, 50), (0, 1)), ((0, 1), (1.7e9, 1000)), ((1e6, 1), (-1e8, 0.5))]
)
def test_numbers_with_much_in_common_keep_their_digits(
    tmp_path: Path, compose: Callable[..., Experiment], of_x: tuple[float, float], of_y: tuple[float, float]
) -> None:
    """Times and the like: the error of the ridge regression beside a run is that of scikit-learn in float64."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    y = 3 * x + 0.1 * rng.normal(size=200)
    frame = pd.DataFrame({"x": of_x[0] + of_x[1] * x, "y": of_y[0] + of_y[1] * y})
    file = tmp_path / "table.csv"
    frame.to_csv(file, index=False)
    data = load_data(compose("dataset=table", f"dataset.file={file}", "dataset.target=[y]"))
    baseline = REGRESSION.bind(data, uneven=False).baseline(data)
    assert baseline is not None
    assert baseline["test"]["rmse"] == pytest.approx(oracle(pd.read_csv(file)), rel=1e-5)
    np.testing.assert_allclose(sorted(rows(load(file, ["y"]))[:, -1]), sorted(frame["y"]), rtol=0, atol=1e-6 * of_y[1])


@pytest.mark.parametrize("value", [0.1, 1234567.1, 1.7e9 + 0.3])
def test_a_column_of_one_number_is_zero_after_normalisation(tmp_path: Path, value: float) -> None:
    pd.DataFrame({"x": [value] * 200, "y": range(200)}).to_csv(tmp_path / "table.csv", index=False)
    mean, std = Table(1).statistics(load(tmp_path / "table.csv", ["y"]).train)
    assert std == (1.0,)
    assert mean == pytest.approx((0.0,), abs=1e-6)


def test_a_class_is_on_both_sides_or_the_cut_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    for counts, allowed in (({"a": 199, "b": 1}, False), ({"a": 198, "b": 2}, True)):
        kinds = [name for name, count in counts.items() for _ in range(count)]
        pd.DataFrame({"x": range(200), "y": kinds}).to_csv(file, index=False)
        if allowed:
            assert load(file, ["y"], "classification").train.targets.bincount().min() >= 1
            continue
        with pytest.raises(ValueError, match=r"^test_share must leave rows of each of 2 .* b has 1 of the 200 rows"):
            load(file, ["y"], "classification")
    with pytest.raises(ValueError, match=r"^test_share must leave rows of each of 2 classes on both sides"):
        load(file, ["y"], "classification", test_share=0.995)


def test_a_column_of_numbers_and_texts_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "table.csv"
    pd.DataFrame({"age": ["3", "?", "5", "?", "3"], "y": range(5)}).to_csv(file, index=False)
    assert load(file, ["y"], test_share=0.4).train.inputs.shape == (3, 3)
    line = "column age has 3 numbers, but '?' in row 2, so it becomes 3 columns, one per value"
    assert [record.getMessage() for record in caplog.records] == [line]


def test_names_and_texts_have_no_spaces_around_them(file: Path) -> None:
    FRAME.drop(columns="good").to_csv(file, index=False)
    before = load(file, ["kind"], "classification", test_share=0.5)
    file.write_text(file.read_text().replace(",", " , "), encoding="utf-8-sig")
    after = load(file, ["kind"], "classification", test_share=0.5)
    assert after.class_names == before.class_names
    assert torch.equal(rows(after), rows(before))


def test_rows_of_both_files_are_counted(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = file.with_name("test.csv")
    FRAME[:2].assign(size=[1.5, 7]).to_csv(other, index=False)
    load(file, ["price"], test_file=str(other))
    assert "rows of test that are in train too, value by value: 1 of 2" in caplog.text


def test_keys_without_effect_are_no_part_of_the_identity(compose: Callable[..., Experiment], file: Path) -> None:
    FRAME.to_csv(file.with_name("test.csv"), index=False)
    words = (f"dataset.file={file}", "dataset=table", "dataset.target=[kind]", "dataset.task=classification")
    words = (*words, f"dataset.test_file={file.with_name('test.csv')}")
    experiment = compose(*words, "dataset.test_share=0.3", "dataset.unit=EUR")
    assert experiment.cell_id == compose(*words).cell_id
    assert experiment.ineffective_keys() == [
        "dataset.test_share=0.3 has no effect with vicinal.data.tables.table",
        "dataset.unit=EUR has no effect with vicinal.data.tables.table",
    ]


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
    "a name less than values": (
        lambda file: file.write_text("a,price\n1,2,3\n4,5,6\n"),
        {},
        "file must be a CSV or parquet file that can be read (Error tokenizing data. C error: Expected 2 fields in"
        " line 2, saw 3), got",
    ),
    "a comma at the end of rows": (
        lambda file: file.write_text("a,price\n1,2,\n4,5,\n"),
        {},
        "file must be a CSV or parquet file that can be read (Error",
    ),
    "names twice": (
        lambda file: file.write_text("a,price,price\n1,2,3\n4,5,6\n"),
        {},
        "file must have columns of different names, and there are several price",
    ),
    "names twice but for a space": (
        lambda file: file.write_text("a, a,price\n1,2,3\n4,5,6\n"),
        {},
        "file must have columns of different names, and there are several a",
    ),
    "numbers of the rows": (
        lambda file: FRAME.to_csv(file),
        {},
        "file must name every column: that of column 1 is empty, got",
    ),
    "spaces for a value": (
        changed(lambda frame: frame.assign(colour=["red", " ", "red", "red", " ", "red"])),
        {},
        "file must have a value in every cell: 2 of colour are missing",
    ),
    "targets twice": (
        lambda file: None,
        {"target": ["price", "price"]},
        "target must name each column once, got ['price', 'price']",
    ),
    "no CSV": (
        lambda file: (file.rename(file.with_suffix(".PARQUET")), file.touch()),
        {"file": "table.PARQUET"},
        "file must be a CSV",
    ),
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
        "target must be numbers for this task: kind of file has 'b' in row 1",
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
    arguments: dict[str, object] = {"target": ["price"], "file": file, **keys}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as refused:
        load(Path(str(arguments.pop("file"))), **arguments)  # type: ignore[arg-type]
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
    monkeypatch.setattr(pd, "read_parquet", lambda path: FRAME.set_index("size"))
    other.write_bytes(b"changed again")
    assert torch.equal(rows(load(other, ["price"])), rows(load(file, ["price"])))  # no column is lost


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

"""What the page says of the mixing, from the epochs of the runs."""

import pytest

from vicinal.report.html.mixing_stats import collect


def test_the_law_is_the_mean_over_the_epochs_as_the_counts_are_their_sum() -> None:
    """In a window from the middle on, nothing is mixed in the first half."""
    off = {"mixing/lam_mean_partner": 0.0, "mixing/lam": [0, 8], "mixing/lam_law": [0.0, 1.0]}
    on = {"mixing/lam_mean_partner": 0.5, "mixing/lam": [4, 4], "mixing/lam_law": [0.5, 0.5]}
    without = {"mixing/lam_mean_partner": 0.25, "mixing/lam": [4, 4]}
    [row] = collect({"input": [[off, off, on, on]]})
    assert row["counts"] == [8, 24]
    assert row["bins"] == row["law"] == [0.25, 0.75]
    [row] = collect({"input": [[on, without]]})
    assert row["law"] == [0.5, 0.5]
    [row] = collect({"ricap": [[without]]})
    assert row["law"] == []
    assert row["shares"]["mixing/lam_mean_partner"] == pytest.approx(0.25)

"""What "auto" becomes, and what a run leaves to the next one of its process."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vicinal.config import TrainerConfig
from vicinal.errors import ConfigError
from vicinal.training import hardware


def test_auto_threads_do_not_depend_on_the_run_before(compose: Callable[..., Any]) -> None:
    first = compose("trainer.threads=auto").hardware
    other = first.threads + 1
    hardware.apply(compose(f"trainer.threads={other}").hardware, TrainerConfig())
    assert torch.get_num_threads() == other
    assert compose("trainer.threads=auto").hardware == first


def test_deterministic_algorithms_end_with_the_run(compose: Callable[..., Any]) -> None:
    for wish in (True, False):
        experiment = compose(f"trainer.deterministic={wish}")
        hardware.apply(experiment.hardware, experiment.trainer)
        assert torch.are_deterministic_algorithms_enabled() is wish


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"precision": "fp16"}, "trainer.precision=fp16: must be one of what cpu can do: auto, bf16, fp32"),
        ({"threads": 0}, "trainer.threads=0: must be auto or an integer >= 1"),
        ({"threads": "two"}, "trainer.threads=two: must be auto or an integer >= 1"),
    ],
)
def test_refusals(settings: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        hardware.resolve(TrainerConfig(device="cpu", **settings))
    assert str(caught.value) == line


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_precision_is_that_of_the_products(precision: str, dtype: torch.dtype) -> None:
    with hardware.resolve(TrainerConfig(device="cpu", precision=precision)).autocast():
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype

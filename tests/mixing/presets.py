"""Presets of ``conf/mixup/reference``, with draws that are given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, cast
from unittest import mock

import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from torch import Tensor

from vicinal.config.components import bind
from vicinal.config.schema import CONF, register
from vicinal.mixing import MixPlan, Strategy
from vicinal.mixing.one_of import OneOf


@cache
def preset(name: str, *words: str) -> Any:
    """The strategy of ``mixup=reference/name``."""
    register()
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        node = compose("config", [f"mixup=reference/{name}", *words]).mixup
    return bind("mixup", cast("dict[str, Any]", OmegaConf.to_container(node)))()


def one(name: str, kind: str) -> Any:
    """One of the strategies that a preset chooses from."""
    chosen: OneOf = preset(name)
    assert chosen.weights == {"input": 0.5, "cutmix": 0.5}
    assert (chosen.mixed_weight, chosen.clean_weight) == (1, 0)
    return chosen.strategies[kind]


@contextmanager
def drawn(*lams: float, alpha: float, centre: tuple[int, int] = (0, 0)) -> Iterator[None]:
    """Draws of Beta(alpha, alpha) and of the centre of a box, row and column, for a strategy of ours."""

    def beta(asked: float, count: int, generator: torch.Generator) -> Tensor:
        assert (asked, count) == (alpha, len(lams))
        return torch.tensor(lams, dtype=torch.float64)

    centres = [torch.tensor([place]) for place in centre]
    with (
        mock.patch("vicinal.mixing.laws.symmetric_beta", beta),
        mock.patch("vicinal.mixing.masks.uniform_centres", return_value=centres),
    ):
        yield


@contextmanager
def permuted(partner: list[int]) -> Iterator[None]:
    with mock.patch("torch.randperm", return_value=torch.tensor(partner)):
        yield


def plan_of(strategy: Strategy, images: Tensor) -> MixPlan:
    return strategy.sample(images.shape, torch.Generator().manual_seed(0))

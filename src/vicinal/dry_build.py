"""Put components together on the meta device, where shapes take neither memory nor time, and refuse what cannot work.

Each function is cached by what it depends on, since the jobs of a sweep have much in common.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import nn

from vicinal.config.components import Component
from vicinal.config.validation import leaves
from vicinal.data import Inputs
from vicinal.errors import ConfigError, suggest
from vicinal.mixing import MixPlan, Strategy, mixed_forward
from vicinal.mixing.context import Context
from vicinal.mixing.forward import shapes_of
from vicinal.mixing.strategy import INPUT
from vicinal.models import block_names, refuses_one
from vicinal.models import check as check_model
from vicinal.tasks import TASKS, Task
from vicinal.training.hardware import host_memory

DRAWN = 16  # plans, and samples of each, that a strategy draws before a training
STEPS = 1000  # steps per epoch of a schedule that is tried before the data are known


class Sizes(NamedTuple):
    """Sizes of a network's inputs and outputs."""

    inputs: Inputs
    classes: int  # or numbers of a target

    @property
    def arguments(self) -> dict[str, int]:
        """Arguments of the network."""
        return {**self.inputs.arguments, "classes": self.classes}


@lru_cache(maxsize=8)
def meta_model(model: Component, sizes: Sizes) -> nn.Module:
    """Return the network without memory behind its weights."""
    with torch.device("meta"):
        network: nn.Module = model(**sizes.arguments)
    return network


@cache
def make_task(dataset: Component) -> Task:
    """Return the task that a data set names. Raises ConfigError."""
    value = dataset.values["task"]
    if isinstance(value, str):
        if value not in TASKS:
            raise ConfigError("dataset.task", value, suggest(value, TASKS))
        return TASKS[value]
    from hydra.utils import instantiate

    with dataset.refusals():
        task = instantiate(value, _convert_="all")
    if not isinstance(task, Task):
        raise ConfigError("dataset.task", value, "must be a name, or the _target_ of a subclass of vicinal.tasks.Task")
    return task


@cache
def make_strategy(mixup: Component) -> Strategy:
    """Return the strategy, which has no state, so that equal jobs share it."""
    strategy: Strategy = mixup()
    return strategy


@cache
def check_network(
    model: Component, sizes: Sizes, task: Task, key: str, layers: tuple[str, ...], reads: tuple[str, ...], single: bool
) -> None:
    """Send shapes through the network plain and mixed in each of the layers; if ``single``, one sample alone.

    Raises ConfigError if it does not fit this machine's memory, the data, the batch or the blocks to mix or read.
    The ``key`` names the layers.
    """
    network = meta_model(model, sizes)
    _check_memory(network, model, sizes)
    with model.refusals(**sizes.arguments):
        check_model(network, sizes.inputs.example(2), task.output_shape(sizes.classes, sizes.inputs.shape))
    if single and (reason := refuses_one(network, sizes.inputs.example(1))):
        raise ConfigError("trainer.batch_size", 1, f"must be at least 2 for {model.target}: {reason}")
    missing = [name for name in reads if name not in dict(network.named_modules(remove_duplicate=False))]
    if missing:
        raise ConfigError("mixup.attention", missing[0], f"no block of {model.target}; model=vit_tiny has one")
    inputs = sizes.inputs.example(2)
    for layer in dict.fromkeys(layers):
        if layer == INPUT:
            continue
        plan = MixPlan(torch.full((2,), 0.5), torch.tensor([1, 0]), layer=layer).to(inputs.device)
        try:
            mixed_forward(network, inputs, plan)
        except ValueError:
            allowed = suggest(layer, [INPUT, *block_names(network)])
            raise ConfigError(key, layer, f"no block of {model.target}; {allowed}") from None
        except RuntimeError as error:
            raise ConfigError(key, layer, f"cannot be mixed: {error}") from None


@cache
def check_strategy(mixup: Component, model: Component, sizes: Sizes) -> None:
    """Draw plans and carry out one, which costs no training. Raises ConfigError where they do not fit the inputs."""
    shape, generator = (DRAWN, *sizes.inputs.shape), torch.Generator().manual_seed(0)
    strategy = make_strategy(mixup)
    blocks = [depth for depth in strategy.depths if depth != INPUT] if "shapes" in strategy.needs else []
    shapes = shapes_of(meta_model(model, sizes), sizes.inputs.example(1), blocks) if blocks else {}
    context = Context(
        images=torch.rand(shape, generator=generator),
        saliency=torch.rand(DRAWN, *shape[2:], generator=generator),
        labels=torch.arange(DRAWN) % sizes.classes,
        counts=torch.ones(sizes.classes, dtype=torch.int64),
        epoch=1,
        epochs=1,
        progress=0.0,
        shapes=shapes,
    )
    with mixup.refusals():
        plans = [strategy.sample(shape, generator, context) for _ in range(DRAWN)]
    for plan in plans:
        if plan.active and (plan.layer is None or plan.size is not None):
            there = torch.zeros(DRAWN, *(sizes.inputs.shape if plan.size is None else plan.size))
            try:
                if plan.mix(there).shape != there.shape:
                    raise ValueError("their shape changes")
            except (ValueError, RuntimeError) as error:
                reason = str(error).partition("\n")[0]
                raise mixup.refused(
                    f"cannot mix {tuple(there.shape[1:])}, the shape of a sample there: {reason}"
                ) from error
            break


@cache
def check_schedule(optimizer: Component, scheduler: Component, epochs: int, steps: int = STEPS) -> None:
    """Build the optimizer and the schedule for ``steps`` steps per epoch, and take one. Raises ConfigError."""
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    stepper = optimizer(params=[weight])
    scheduler(optimizer=stepper, total_steps=steps * epochs, steps_per_epoch=steps)
    try:
        stepper.step()
    except Exception as error:  # it wants more than gradients, such as a closure
        raise optimizer.refused(f"cannot be stepped: {error}") from error


def _check_memory(network: nn.Module, model: Component, sizes: Sizes) -> None:
    """Refuse a network whose weights and gradients alone are more than this machine holds."""
    weights = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    if 2 * weights <= (memory := host_memory()):
        return
    keys = {f"model.{name}": value for name, value in model.arguments.items()}
    keys |= {f"dataset.{name}": value for name, value in sizes.arguments.items()}
    largest = {name: max((part for _, part in leaves(keys[name]) if isinstance(part, int)), default=0) for name in keys}
    name = max(keys, key=largest.__getitem__)  # to blame
    needs = f"its weights and gradients would take {2 * weights / 1e9:.3g} GB"
    allowed = f"the network is too large: {needs}, and this machine has {memory / 1e9:.3g} GB"
    raise ConfigError(name, keys[name], allowed)

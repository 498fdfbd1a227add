"""Put components together on the meta device, where shapes take neither memory nor time, and refuse what cannot work.

Each function is cached by what it depends on, since the jobs of a sweep have much in common.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import nn

from vicinal.config.components import Component
from vicinal.config.validation import leaves
from vicinal.data import Inputs
from vicinal.errors import ConfigError, UserError, reason_of, suggest
from vicinal.mixing import MixPlan, Strategy, mixed_forward
from vicinal.mixing.attention import patch_grid
from vicinal.mixing.forward import shapes_of
from vicinal.mixing.strategy import INPUT
from vicinal.models import block_names, refuses_one
from vicinal.models import check as check_model
from vicinal.tasks import TASKS, Task
from vicinal.training.parameter_groups import grouped, norm_biases
from vicinal.utils.gc_pause import without_collections
from vicinal.utils.memory import usable_memory

STEPS = 1000  # steps per epoch of a schedule that is tried before the data are known


class Sizes(NamedTuple):
    """Sizes of a network's inputs and outputs."""

    inputs: Inputs
    classes: int  # or numbers of a target

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the network."""
        return {**self.inputs.arguments, "classes": self.classes}


@lru_cache(maxsize=8)
def meta_model(model: Component, sizes: Sizes) -> nn.Module:
    """Return the network without memory behind its weights. Raises ConfigError."""
    with torch.device("meta"):
        try:
            network: nn.Module = model(**sizes.arguments)
        except UserError as error:
            raise _of_rectangles(model, sizes, error) from error.__cause__
    return network


def _of_rectangles(model: Component, sizes: Sizes, error: UserError) -> UserError:
    """Return the error, or a plainer one if the network can be made for one number, but not for height and width."""
    size, cause = sizes.arguments.get("image_size"), error.__cause__
    if isinstance(cause, ValueError | None) or not isinstance(size, tuple):
        return error
    try:
        model(**{**sizes.arguments, "image_size": max(size)})
    except UserError:
        return error
    allowed = f"must be one number for {model.target}, which is made for squares alone ({reason_of(cause)})"
    return ConfigError("dataset.image_size", size, allowed)


@cache
def make_task(dataset: Component) -> Task:
    """Return the task that a data set names. Raises ConfigError."""
    value = dataset.values["task"]
    if isinstance(value, str):
        if value not in TASKS:
            raise ConfigError("dataset.task", value, suggest(value, TASKS))
        return TASKS[value]
    from hydra.utils import instantiate

    try:
        task = instantiate(value, _convert_="all")
    except Exception as error:  # Hydra's own, with the reason on its second line, or any of the user's code
        raise ConfigError("dataset.task", value, " ".join(str(error).split())) from error
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
    model: Component,
    sizes: Sizes,
    task: Task,
    layers: tuple[tuple[str, str], ...],
    reads: tuple[str, ...],
    single: bool,
) -> None:
    """Send shapes through the network plain and mixed in each of the (key, layer); if ``single``, one sample alone.

    Raises ConfigError if it does not fit this machine's memory, the data, the batch or the blocks to mix or read.
    """
    network = meta_model(model, sizes)
    _check_memory(network, model, sizes)
    with model.refusals(**sizes.arguments):
        task.check(network)
        task.check_classes(sizes.classes)
        if fits := getattr(network, "check_inputs", None):
            fits(sizes.inputs)
        check_model(network, sizes.inputs.example(2), task.output_shape(sizes.classes, sizes.inputs.shape))
    if single and (reason := refuses_one(network, sizes.inputs.example(1))):
        raise ConfigError("trainer.batch_size", 1, f"must be at least 2 for {model.target}: {reason}")
    missing = [name for name in reads if name not in dict(network.named_modules(remove_duplicate=False))]
    if missing:
        raise ConfigError("mixup.attention", missing[0], f"no block of {model.target}; model=vit_tiny has one")
    for name in reads:
        found = shape_at(model, sizes, name)
        if len(found) != 3 or found[1] != found[2]:
            what = f"it returns {[*found]}" if found else "it returns no tensor"
            raise ConfigError("mixup.attention", name, f"must be a block that returns attention, [heads, T, T]; {what}")
        if len(sizes.inputs.shape) == 3:
            try:
                patch_grid(found[1] - 1, sizes.inputs.shape[1:])
            except ValueError as error:
                raise ConfigError("mixup.attention", name, f"must be of one token and all patches; {error}") from None
    inputs = sizes.inputs.example(2)
    for key, layer in dict.fromkeys(layers):
        if layer == INPUT:
            continue
        plan = MixPlan(torch.full((2,), 0.5), torch.tensor([1, 0]), layer=layer).to(inputs.device)
        try:
            mixed_forward(network, inputs, plan)
        except ValueError:
            allowed = suggest(layer, [*([INPUT] if sizes.inputs.floats else []), *block_names(network)])
            raise ConfigError(key, layer, f"no block of {model.target}; {allowed}") from None
        except (RuntimeError, TypeError) as error:
            raise ConfigError(key, layer, f"cannot be mixed: {error}") from None


@cache
def shape_at(model: Component, sizes: Sizes, block: str) -> tuple[int, ...]:
    """Return the shape of one sample in the output of a block, or at the input, (C, ...); () if not one tensor."""
    if block == INPUT:
        return sizes.inputs.shape
    try:
        with without_collections("torch._dynamo"):
            return shapes_of(meta_model(model, sizes), sizes.inputs.example(1), [block])[block]
    except Exception:  # what does not fit is said where the network is checked
        return ()


def check_optimizer(optimizer: Component, model: Component, sizes: Sizes) -> None:
    """Raise ConfigError if a factor is for weights that the network does not have."""
    factor = optimizer.values["norm_bias_lr"]
    if factor != 1 and not norm_biases(meta_model(model, sizes)):
        raise ConfigError(
            "optimizer.norm_bias_lr", factor, f"must be 1: {model.target} trains no bias of a normalisation layer"
        )


@cache
def check_schedule(optimizer: Component, scheduler: Component, epochs: int, steps: int = STEPS) -> None:
    """Build the optimizer and the schedule for ``steps`` steps per epoch, and take one. Raises ConfigError."""
    layer = nn.LayerNorm(1)  # its bias is a group of its own where the network's are
    for part in layer.parameters():
        part.grad = torch.zeros_like(part)
    stepper = grouped(optimizer, layer, optimizer.values["norm_bias_lr"])
    scheduler(optimizer=stepper, total_steps=steps * epochs, steps_per_epoch=steps)
    try:
        stepper.step()
    except Exception as error:  # it wants more than gradients, such as a closure
        raise optimizer.refused(f"cannot be stepped: {error}") from error


def _check_memory(network: nn.Module, model: Component, sizes: Sizes) -> None:
    """Refuse a network whose weights and gradients alone are more than this machine holds."""
    weights = sum(weight.numel() * weight.element_size() for weight in network.parameters())
    if 2 * weights <= (memory := usable_memory()):
        return
    keys = {f"model.{name}": value for name, value in model.arguments.items()}
    keys |= {f"dataset.{name}": value for name, value in sizes.arguments.items()}
    largest = {name: max((part for _, part in leaves(keys[name]) if isinstance(part, int)), default=0) for name in keys}
    name = max(keys, key=largest.__getitem__)  # to blame
    needs = f"its weights and gradients would take {2 * weights / 1e9:.3g} GB"
    allowed = f"the network is too large: {needs}, and this machine has {memory / 1e9:.3g} GB"
    raise ConfigError(name, keys[name], allowed)

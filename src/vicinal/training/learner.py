"""A training step, and all that it changes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils._pytree import tree_map_only

from vicinal.config.schema import TrainerConfig
from vicinal.data import Batch, Pending, plain
from vicinal.errors import UserError
from vicinal.mixing import MixPlan, Strategy
from vicinal.mixing.forward import MixHooks
from vicinal.mixing.strategy import INPUT
from vicinal.tasks import CLASSIFICATION, Task
from vicinal.training.convolutions import avoid_faults
from vicinal.training.ema import ModelEma
from vicinal.training.hardware import Hardware
from vicinal.training.objective import Objective, StepOutput
from vicinal.training.parameter_groups import grouped
from vicinal.training.shards import WHOLE, Shards, ShardSum
from vicinal.training.stateful import Stateful
from vicinal.training.train_metrics import DivergedError
from vicinal.training.views import averaged


class Learner(Stateful):
    """Weights, optimizer, schedule, gradient scale and averaged weights: all that a step changes."""

    STATE = ("model", "optimizer", "scheduler", "scaler", "ema")

    def __init__(
        self,
        model: nn.Module,
        make_optimizer: Callable[..., Optimizer],
        make_scheduler: Callable[..., LRScheduler],
        strategy: Strategy,
        settings: TrainerConfig,
        hardware: Hardware,
        steps_per_epoch: int,
        task: Task = CLASSIFICATION,
        counts: Tensor | None = None,
        shards: Shards = WHOLE,
        norm_bias_lr: float = 1.0,
    ) -> None:
        layout = torch.channels_last if settings.channels_last else torch.contiguous_format
        self.model = model.to(hardware.device, memory_format=layout)  # type: ignore[call-overload]
        if hardware.device.type == "cpu":
            avoid_faults(self.model, hardware.precision)
        self.optimizer = grouped(make_optimizer, self.model, norm_bias_lr)
        self.scheduler = make_scheduler(
            optimizer=self.optimizer, total_steps=settings.epochs * steps_per_epoch, steps_per_epoch=steps_per_epoch
        )
        self.scaler = torch.amp.GradScaler(hardware.device.type, enabled=hardware.precision == "fp16")
        if self.scaler.is_enabled():
            # The first steps may overflow and change nothing: no reason to warn of a schedule that is ahead.
            warnings.filterwarnings("ignore", message=r"Detected call of `lr_scheduler\.step\(\)` before")
        decay = settings.ema_decay
        self.ema = None if decay is None else ModelEma(self.model, decay)
        # After the copy for the averaged weights, which are only ever evaluated.
        mixed = [depth for depth in strategy.depths if depth != INPUT]
        self.hooks = MixHooks(self.model, [*mixed, *strategy.reads], compiled=hardware.compile)
        self.strategy, self.settings, self.hardware = strategy, settings, hardware
        self._counts = None if counts is None else counts.to(hardware.device)
        weights = (strategy.mixed_weight, strategy.clean_weight, strategy.together)
        self.objective = Objective(task, task.loss(settings, self._counts, 1, self.model), *weights)
        seen = strategy.clean_weight or strategy.needs & {"images", "saliency"}
        self.mixes_as_made = hardware.device.type not in ("cpu", "mps") and not seen
        """Whether batches are made mixed: on a GPU, where nothing looks at them before. See :class:`Pending`."""
        if hardware.compile:
            # Graphs of an earlier run of this process would count as ours.
            torch.compiler.reset()
            # One graph per block that can be mixed, one for all other batches, both twice if two losses are one pass of
            # twice the size, and one for evaluation. The limit is that of the process, where other code compiles too,
            # so it is never lowered.
            needed = (len(set(strategy.depths)) + 1) * (1 + strategy.together) + 1
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, needed)
            # torch warns in every precision, bf16 too
            warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
            # a spectrogram inside a network, which the compiler leaves to torch
            warnings.filterwarnings("ignore", message="Torchinductor does not support code generation for complex")
        self.shards = shards
        self._sum = None if shards.count == 1 else ShardSum(self.model, shards)
        self.graphs = 0
        """Graphs that the compiler has made of the model so far."""
        part = -(-settings.batch_size // shards.count)
        sizes = {part, 2 * part} if strategy.together else {part}
        mode = "reduce-overhead" if hardware.cuda_graphs else None
        self.forward = self._compile_for_full_batches(self.model, sizes, mode)
        evaluated = self._compile_for_full_batches(self.eval_model, {settings.eval_batch_size})
        self.eval_forward = averaged(evaluated, settings.eval_views)
        """The model that is evaluated, as a function of inputs; of all their views."""

    def begin_epoch(self, epoch: int) -> None:
        """Take the loss of an epoch, from 1, which may be another than before."""
        loss = self.objective.task.loss(self.settings, self._counts, epoch, self.model)
        self.objective = replace(self.objective, loss=loss)

    def begin_part(self, shard: int) -> None:
        """Make the model what it was before the batch, for all that a part does with it: a strategy may ask it too."""
        if self._sum is not None:
            self._sum.begin(shard)

    def step(
        self, inputs: Batch, targets: Tensor, plan: MixPlan, shard: int | None = None, share: float = 1.0
    ) -> StepOutput:
        """Make one optimizer step; what is returned is detached.

        Batches in parts are given part by part, each after :meth:`begin_part`, with its number and its ``share`` of the
        batch's samples; the step is made after the last one of this process.
        """
        if self.hardware.cuda_graphs:
            # The last step's outputs may be overwritten now.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        images, forward = self._entering(inputs, plan)
        with self.hardware.autocast():
            output = self.objective(forward, images, targets, plan)
        self.optimizer.zero_grad(set_to_none=True)
        loss = output.loss if share == 1 else output.loss * share
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self._sum is None or shard is None:
            self._update()
        else:
            self._sum.take(shard, share)
            if shard == self.shards.own[-1]:
                self._sum.give()
                self._update()
        loss, outputs, score = map(_detached, output[:3])
        return StepOutput(loss, outputs, score, output.plan)

    def _entering(self, inputs: Batch, plan: MixPlan) -> tuple[Tensor, Callable[[Tensor, MixPlan], Any]]:
        """Return a batch, and the forward pass that mixes it by the plan, unless it could be made mixed."""
        if self.mixes_as_made and isinstance(inputs, Pending) and (mask := plan.pixelwise) is not None:
            return inputs.mixed(plan.partner, mask), lambda mixed, _: self.forward(mixed)
        return plain(inputs), partial(self.hooks, forward=self.forward)

    def _update(self) -> None:
        """Change the weights by their gradients."""
        if self.settings.clip_grad_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_grad_norm)
        try:
            self.scaler.step(self.optimizer)
        except (RuntimeError, TypeError):
            self.lr()  # the cause may be a complex one
            raise
        self.scaler.update()
        self.scheduler.step()
        if self.ema is not None:
            self.ema.update(self.model)

    def _compile_for_full_batches(
        self, model: nn.Module, sizes: Collection[int], mode: str | None = None
    ) -> Callable[[Tensor], Any]:
        """Return the model compiled for full batches; the odd batch at the end is not worth its own compilation."""
        if not self.hardware.compile:
            return model
        from torch._dynamo.utils import counters

        compiled = torch.compile(model, dynamic=False, mode=mode)

        def forward(inputs: Tensor) -> Any:
            if len(inputs) not in sizes:
                return model(inputs)
            before = counters["stats"]["unique_graphs"]
            outputs = compiled(inputs)
            self.graphs += counters["stats"]["unique_graphs"] - before
            return outputs

        return forward

    @property
    def stayed_eager(self) -> bool:
        """True if the model is to be compiled, and no part of it is so far."""
        return self.hardware.compile and not self.graphs

    @property
    def eval_model(self) -> nn.Module:
        """The model that is evaluated: the averaged weights, if there are any."""
        return self.model if self.ema is None else self.ema.module

    def lr(self) -> float:
        """Return the learning rate of the next step. Raises UserError if the schedule has made it no finite number."""
        rate = self.optimizer.param_groups[0]["lr"]
        if isinstance(rate, complex) or not math.isfinite(rate):
            raise UserError(f"scheduler: the learning rate must be a finite number, and the schedule made it {rate}")
        return float(rate)

    def raise_diverged(self, when: str) -> NoReturn:
        """Raise for a loss that is not finite, and name the schedule if that is the cause."""
        self.lr()
        raise DivergedError(when, self.optimizer.defaults["lr"], self.hardware.precision)


def _detached(outputs: Any) -> Any:
    """Return tensors, in whatever containers, without their graph; 6 us less for each without one."""
    return outputs.detach() if isinstance(outputs, Tensor) else tree_map_only(Tensor, Tensor.detach, outputs)

"""One job, checked: all that can be refused has been, and nothing has been read, written or started yet."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from vicinal import dry_build
from vicinal.config import redaction, request
from vicinal.config.components import Component, bind, places_of
from vicinal.config.identity import identity_values, without_effect
from vicinal.config.schema import GROUPS, TrainerConfig, WandbConfig
from vicinal.config.validation import leaves
from vicinal.data import INPUTS, VAL_SIZE, Source
from vicinal.dry_build import Sizes
from vicinal.errors import ConfigError, written
from vicinal.mixing import Strategy
from vicinal.runs.folder import RunFolder
from vicinal.runs.names import cell_id, run_id, run_name
from vicinal.tasks import Task
from vicinal.tracking.choice import make_trackers
from vicinal.tracking.tracker import Tracker
from vicinal.tracking.wandb import settings as wandb_settings
from vicinal.training.checkpointer import Interval
from vicinal.training.hardware import Hardware, resolve, work
from vicinal.training.shards import Shards
from vicinal.training.views import check_views
from vicinal.training.world import World, world
from vicinal.utils.gc_pause import without_collections
from vicinal.utils.image_size import shortest


@dataclass(frozen=True)
class Experiment:
    """A request and the components that it chooses; :mod:`vicinal.build` makes them."""

    config: dict[str, Any]  # resolved, in plain containers; "auto" stays: this is the request, not its meaning here
    choices: dict[str, str]  # {group: option}, for the readable name
    name: str  # readable, the same for all seeds of a cell; also a name for a file
    trainer: TrainerConfig
    trackers: dict[str, Tracker]  # trackers by name, not started
    wandb: WandbConfig
    hardware: Hardware  # the meaning of "auto" here
    checkpoint_every: Interval
    shards: Shards  # parts of each batch, and the processes that compute them
    dataset: Component
    model: Component
    mixup: Component
    optimizer: Component
    scheduler: Component
    task: Task  # kind of the targets, before it knows them
    sizes: Sizes  # sizes of inputs and outputs; the classes of a tree of images are counted
    strategy: Strategy
    effective: dict[str, Any]  # values that can change a result, without the seed and keys that have no effect
    cell_id: str  # hash of ``effective``
    asked: frozenset[str]  # keys that the command line names
    folder: RunFolder

    @classmethod
    def composed(cls, cfg: DictConfig) -> Experiment:
        """Check a config that includes Hydra's own node; see :meth:`of`."""
        return cls.of(OmegaConf.masked_copy(cfg, [str(name) for name in cfg if name != "hydra"]), cfg.hydra)

    @classmethod
    def of(cls, cfg: DictConfig, hydra: Any) -> Experiment:
        """Check a request, composed by Hydra on the schema, with Hydra's own node. Raises ConfigError."""
        config = request.resolved(cfg, hydra.runtime.choices)
        trackers = make_trackers(config["tracker"])
        if "wandb" not in trackers:
            config["wandb"]["mode"] = "disabled"
        config["wandb"] = wandb_settings.with_variables(config["wandb"])
        trainer, wandb = TrainerConfig(**config["trainer"]), WandbConfig(**config["wandb"])
        request.check_output(config["output_dir"])
        hardware, checkpoint_every = resolve(trainer), Interval.parse(trainer.checkpoint_every)
        shards = _shards(trainer, hardware, world())
        trainer.shards = config["trainer"]["shards"] = shards.count

        def chosen(group: str, inputs: tuple[str, ...] = ()) -> Component:
            return bind(group, config[group], places, inputs)

        places = places_of(hydra)
        dataset = chosen("dataset")
        task = dry_build.make_task(dataset)
        request.check_data(dataset.values, task)
        request.check_loss(trainer, task)
        request.check_balance(trainer, dataset.values["sampler"])
        if (trainer.loss,) == task.losses[:1]:
            trainer.loss = config["trainer"]["loss"] = "auto"  # so that both words have one identity
        task = task.trained_with(trainer.loss)
        preview: Source | None = dataset.tell("preview")
        found = dict(dataset.tell("resolved") or {})
        if preview and dataset.values["val_size"] is None and preview.val is None:
            found["val_size"] = VAL_SIZE
        if isinstance(size := dataset.values.get("image_size"), list) and isinstance(side := shortest(size), int):
            found["image_size"] = side  # so that both ways to write it are one run
        if found:
            config["dataset"] |= found
            dataset = chosen("dataset")
        sizes = _sizes(dataset.values, preview)
        check_views(trainer.eval_views, sizes.inputs, task)

        model = chosen("model", tuple(sizes.inputs.arguments))
        dry_build.name_layers("mixup", config["mixup"], model, sizes)
        mixup, optimizer, scheduler = chosen("mixup"), chosen("optimizer"), chosen("scheduler")
        strategy = dry_build.make_strategy(mixup)
        warmup = scheduler.arguments.get("warmup_epochs", 0)
        if warmup >= trainer.epochs:
            raise ConfigError("scheduler.warmup_epochs", warmup, f"must be < {trainer.epochs}, trainer.epochs")
        dry_build.check_windows(mixup, trainer.epochs)
        if trainer.threads == "auto":
            network = dry_build.meta_model(model, sizes)
            hardware = resolve(trainer, work(network, math.prod(sizes.inputs.shape[1:]), trainer.batch_size))

        components = (dataset, model, mixup, optimizer, scheduler)
        effective = {"trainer": identity_values(TrainerConfig, config["trainer"])}
        effective |= {component.group: component.identity() for component in components}
        for component in (dataset, model):
            effective[component.group] |= component.tell("fingerprint") or {}
        cell = cell_id(effective)
        choices, run = config["_choices_"], run_id(cell, config["seed"])
        words: Any = OmegaConf.to_container(hydra.overrides.task)  # without resolving what is in them
        asked = frozenset(str(word).partition("=")[0].lstrip("+") for word in words)
        name = run_name(choices, _settings(config, components), words)
        folder = RunFolder(_path(config["output_dir"], name, run), run)
        experiment = cls(
            config, choices, name, trainer, trackers, wandb, hardware, checkpoint_every, shards, *components,
            task, sizes, strategy, effective, cell, asked, folder,
        )  # fmt: skip
        experiment._declare_public()
        # A run that is completed has passed this, and torch imports two seconds of compilers for it.
        if config["rerun"] or folder.completed() is None:
            with without_collections("torch._dynamo"):
                reads, single = tuple(strategy.reads), trainer.batch_size == 1
                dry_build.check_network(model, sizes, task, dry_build.depths(mixup, strategy), reads, single)
                two_hot = trainer.bce_threshold if task.has_classes and trainer.loss == "bce" else None
                dry_build.check_strategy(mixup, model, sizes, task, two_hot)
                dry_build.check_optimizer(optimizer, model, sizes)
                dry_build.check_schedule(optimizer, scheduler, trainer.epochs)
        return experiment

    def with_threads(self, threads: int) -> Experiment:
        return replace(self, hardware=replace(self.hardware, threads=threads))

    @property
    def components(self) -> tuple[Component, ...]:
        return (self.dataset, self.model, self.mixup, self.optimizer, self.scheduler)

    @property
    def seed(self) -> int:
        return int(self.config["seed"])

    @property
    def run_id(self) -> str:
        return run_id(self.cell_id, self.seed)

    @property
    def targets(self) -> tuple[str, ...]:
        """Dotted names of the components and of the parts in their arguments."""
        own = [value for key, value in leaves(self.dataset.values["task"], "task") if key.endswith("_target_")]
        return (*(target for component in self.components for target in component.targets), *own)

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages that the data and the network need beside those of every run."""
        return tuple(name for component in (self.dataset, self.model) for name in component.tell("packages") or ())

    def settings(self) -> dict[str, Any]:
        """Return the config without choices, and without keys that have no effect, such as alpha under ``none``."""
        return _settings(self.config, self.components)

    def request(self) -> dict[str, Any]:
        """Return the config without keys that only another option has, whose file may be out of reach."""
        config = dict(self.config)
        for component in self.components:
            group = config[component.group]
            config[component.group] = {key: group[key] for key in group if key not in component.ineffective}
        return config

    def ineffective_keys(self) -> list[str]:
        """Return a line for each key that is set but has no effect."""
        lines = [
            f"{component.group}.{name}={written(value)} has no effect with {component.target}"
            for component in self.components
            for name, value in component.ineffective.items()
        ]
        for group, schema in {"dataset": GROUPS["dataset"], "trainer": TrainerConfig}.items():
            values = self.config[group]
            for name, switch in without_effect(schema, values).items():
                if (key := f"{group}.{name}") in self.asked:
                    by = f"{group}.{switch}={written(values[switch])}"
                    if switch == "loss" and values[switch] == "auto":
                        by = f"trainer.loss={self.task.losses[0]} of dataset.task={self.task.name}"
                    lines.append(f"{key}={written(values[name])} has no effect with {by}")
        steps = self.scheduler.arguments.get("milestones")
        if steps and min(steps) >= self.trainer.epochs:
            lines.append(f"scheduler.milestones={written(steps)} has no effect in {self.trainer.epochs} epochs")
        return lines

    def _declare_public(self) -> None:
        """Name to the filter for secrets all that has to stay readable."""
        shown = {"output_dir": self.config["output_dir"], "project": self.wandb.project, "entity": self.wandb.entity}
        needed = {**self.effective, **shown, "seed": self.seed}
        redaction.need(needed, public=(run_name(self.choices, self.settings()), *self.choices.values(), *self.targets))


def _shards(trainer: TrainerConfig, hardware: Hardware, here: World) -> Shards:
    gpus = torch.cuda.device_count()
    if here.size > 1 and hardware.device.type == "cuda" and here.local_rank >= gpus:
        raise ConfigError("trainer.device", "cuda", f"rank {here.rank} has no GPU of its own: this machine has {gpus}")
    count = here.size if trainer.shards == "auto" else int(trainer.shards)
    check_shards(count, here.size)
    if count > 1 and trainer.batch_size < 2 * count:
        most = trainer.batch_size // 2
        raise ConfigError("trainer.shards", count, f"must be at most {most}, half of trainer.batch_size")
    return Shards(count, here, trainer.deterministic)


def check_shards(count: int, processes: int) -> None:
    """Raise ConfigError if the processes of a run cannot share its parts out equally."""
    if count % processes:
        allowed = f"must be a multiple of {processes}, the number of processes: {processes} or auto"
        raise ConfigError("trainer.shards", count, allowed)


def _sizes(dataset: Mapping[str, Any], preview: Source | None) -> Sizes:
    """Return the sizes of inputs and outputs; those that the config leaves open are counted."""
    names = preview.class_names if preview else ()
    classes: int = dataset["classes"] or len(names)
    if not classes:
        raise ConfigError("dataset.classes", None, "must be an integer >= 2; only a folder of images can be counted")
    if names and len(names) != classes:
        raise ConfigError("dataset.classes", classes, f"must be {len(names)}, as in the data")
    kind = INPUTS[dataset["inputs"]]
    values = {item.name: dataset.get(item.name) for item in fields(kind)}
    if preview and preview.vocabulary:
        values["vocabulary"] = preview.vocabulary
    for (name, value), real in zip(values.items(), preview.train.inputs.shape[1:] if preview else (), strict=False):
        if value is None:
            values[name] = real
    for name in kind(**values).arguments:
        if values[name] is None:
            raise ConfigError(f"dataset.{name}", None, "must be an integer >= 1; the source does not count it")
    return Sizes(kind(**values), classes)


def _settings(config: dict[str, Any], components: tuple[Component, ...]) -> dict[str, Any]:
    settings = {name: value for name, value in config.items() if name != "_choices_"}
    return {**settings, **{component.group: component.effective() for component in components}}


def _path(output_dir: str, name: str, run: str) -> Path:
    """Return the run's folder. The identity decides; the name before it is for people, and may be another."""
    runs = Path(os.path.realpath(output_dir)) / "runs"  # Path.resolve raises at a circle of links
    path = runs / f"{name}-{run}"
    return path if path.exists() else next(runs.glob(f"*-{run}"), path)

"""One job, checked: all that can be refused has been, and nothing has been read, written or started yet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vicinal import dry_build
from vicinal.config import redaction, request
from vicinal.config.components import OURS, Component, bind, places_of
from vicinal.config.composition import words_of
from vicinal.config.schema import TrainerConfig, WandbConfig, identity_values
from vicinal.data import VAL_SIZE, Source
from vicinal.dry_build import Sizes
from vicinal.errors import ConfigError, written
from vicinal.mixing import Strategy
from vicinal.mixing.strategies import INPUT
from vicinal.models import block_names
from vicinal.runs.folder import RunFolder
from vicinal.runs.names import cell_id, run_id, run_name
from vicinal.tracking.choice import make_trackers
from vicinal.tracking.tracker import Tracker
from vicinal.tracking.wandb import settings as wandb_settings
from vicinal.training.checkpointer import Interval
from vicinal.training.hardware import Hardware, resolve
from vicinal.utils.gc_pause import without_collections


@dataclass(frozen=True)
class Experiment:
    """A request and the components that it chooses; :mod:`vicinal.build` makes them.

    Attributes:
        config: resolved, in plain containers. What is "auto" stays so: it is the request, not the machine's answer.
        choices: {group: option}, for the readable name.
        name: readable, the same for all seeds of a cell; also a name for a file.
        trainer: the group of this name.
        trackers: {name: tracker}, not started.
        wandb: the group of this name.
        hardware: what "auto" means here.
        checkpoint_every: ``trainer.checkpoint_every``.
        dataset: component of this group, as are the four below.
        classes: number of classes; of a tree of images they are counted.
        strategy: made from ``mixup``.
        effective: all that can change a result, but the seed; keys that have no effect are left out.
        cell_id: hash of ``effective``.
        folder: of the run.
    """

    config: dict[str, Any]
    choices: dict[str, str]
    name: str
    trainer: TrainerConfig
    trackers: dict[str, Tracker]
    wandb: WandbConfig
    hardware: Hardware
    checkpoint_every: Interval
    dataset: Component
    model: Component
    mixup: Component
    optimizer: Component
    scheduler: Component
    classes: int
    strategy: Strategy
    effective: dict[str, Any]
    cell_id: str
    folder: RunFolder

    @classmethod
    def composed(cls, cfg: DictConfig) -> Experiment:
        """Check what Hydra composes for one job, its own ``hydra`` node included; see :meth:`of`."""
        own = [str(name) for name in cfg if name != "hydra"]
        hydra = cfg.hydra
        return cls.of(OmegaConf.masked_copy(cfg, own), hydra.runtime.choices, places_of(hydra), words_of(hydra))

    @classmethod
    def of(
        cls, cfg: DictConfig, choices: Mapping[str, str], places: tuple[str, ...] = OURS, words: Sequence[str] = ()
    ) -> Experiment:
        """Check a request.

        Args:
            cfg: composed by Hydra on the schema.
            choices: {group: option}; Hydra's own groups are left out.
            places: where Hydra finds options, ``scheme://path``.
            words: of the command line, for the readable name.

        Raises:
            ConfigError: names the key, the value and what is allowed.
        """
        config = request.checked(cfg, choices)
        trackers = make_trackers(config["tracker"])
        if "wandb" not in trackers:
            config["wandb"]["mode"] = "disabled"
        config["wandb"] = wandb_settings.with_variables(config["wandb"])
        trainer, wandb = TrainerConfig(**config["trainer"]), WandbConfig(**config["wandb"])
        request.check_output(config["output_dir"])
        hardware, checkpoint_every = resolve(trainer), Interval.parse(trainer.checkpoint_every)

        dataset = bind("dataset", config["dataset"], places)
        request.check_images(dataset.values)
        preview: Source | None = dataset.tell("preview")
        if preview and dataset.values["val_size"] is None and preview.val is None:
            config["dataset"]["val_size"] = VAL_SIZE
            dataset = bind("dataset", config["dataset"], places)
        names = preview.class_names if preview else ()
        sizes = Sizes(dataset.values["channels"], dataset.values["image_size"], _count(dataset, names))

        model = bind("model", config["model"], places)
        if config["mixup"].get("layers", ()) is None:  # as in the reference code
            config["mixup"]["layers"] = [INPUT, *block_names(dry_build.meta_model(model, sizes))[:2]]
        mixup = bind("mixup", config["mixup"], places)
        strategy: Strategy = mixup()
        optimizer, scheduler = (bind(group, config[group], places) for group in ("optimizer", "scheduler"))
        warmup = scheduler.arguments.get("warmup_epochs", 0)
        if warmup >= trainer.epochs:
            raise ConfigError("scheduler.warmup_epochs", warmup, f"must be < {trainer.epochs}, trainer.epochs")
        if trainer.threads == "auto":
            hardware = resolve(trainer, dry_build.work(model, sizes, trainer.batch_size))

        components = (dataset, model, mixup, optimizer, scheduler)
        effective = _effective(config, components)
        cell = cell_id(effective)
        named, run = config["_choices_"], run_id(cell, config["seed"])
        name = run_name(named, _settings(config, components), words)
        folder = RunFolder(_path(config["output_dir"], name, run), run)
        experiment = cls(
            config, named, name, trainer, trackers, wandb, hardware, checkpoint_every, *components,
            sizes.classes, strategy, effective, cell, folder,
        )  # fmt: skip
        experiment._declare_public()
        # A run that is completed has passed this, and torch imports two seconds of compilers for it.
        if config["rerun"] or experiment.folder.completed() is None:
            with without_collections("torch._dynamo"):
                single = trainer.batch_size == 1
                dry_build.check_network(model, sizes, tuple(strategy.depths), single)
                dry_build.check_strategy(mixup, sizes)
                dry_build.check_schedule(optimizer, scheduler, trainer.epochs)
        return experiment

    def with_threads(self, threads: int) -> Experiment:
        """Return the same request on another number of CPU threads."""
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
    def sizes(self) -> Sizes:
        """Sizes of images and logits."""
        return Sizes(self.dataset.values["channels"], self.dataset.values["image_size"], self.classes)

    @property
    def targets(self) -> tuple[str, ...]:
        """Dotted names of the components."""
        return tuple(component.target for component in self.components)

    def settings(self) -> dict[str, Any]:
        """Return the config without the choices, and without keys that have no effect, such as alpha under ``none``."""
        return _settings(self.config, self.components)

    def request(self) -> dict[str, Any]:
        """Return the config without keys that only another option has, whose file may be out of reach."""
        own = {
            component.group: {
                key: value for key, value in self.config[component.group].items() if key not in component.ineffective
            }
            for component in self.components
        }
        return {**self.config, **own}

    def ineffective_keys(self) -> list[str]:
        """Return a line for each key that is set but has no effect."""
        return [
            f"{component.group}.{name}={written(value)} has no effect with {component.target}"
            for component in self.components
            for name, value in component.ineffective.items()
        ]

    def _declare_public(self) -> None:
        """Tell the filter for secrets what has to stay readable."""
        shown = {"output_dir": self.config["output_dir"], "project": self.wandb.project, "entity": self.wandb.entity}
        needed = {**self.effective, **shown, "seed": self.seed}
        redaction.need(needed, public=(run_name(self.choices, self.settings()), *self.choices.values(), *self.targets))


def _count(dataset: Component, names: tuple[str, ...]) -> int:
    """Return the number of classes, given or counted."""
    classes: int = dataset.values["classes"] or len(names)
    if not classes:
        raise ConfigError("dataset.classes", None, "must be an integer >= 2; only a folder of images can be counted")
    if names and len(names) != classes:
        raise ConfigError("dataset.classes", classes, f"must be {len(names)}, as in the data")
    return classes


def _effective(config: dict[str, Any], components: tuple[Component, ...]) -> dict[str, Any]:
    trainer = identity_values(TrainerConfig, config["trainer"])
    effective = {"trainer": trainer, **{component.group: component.identity() for component in components}}
    effective["dataset"] |= components[0].tell("fingerprint") or {}
    return effective


def _settings(config: dict[str, Any], components: tuple[Component, ...]) -> dict[str, Any]:
    settings = {name: value for name, value in config.items() if name != "_choices_"}
    return {**settings, **{component.group: component.effective() for component in components}}


def _path(output_dir: str, name: str, run: str) -> Path:
    """Return the run's folder. The identity decides; the name before it is for people, and may be another."""
    runs = Path(os.path.realpath(output_dir)) / "runs"  # Path.resolve raises at a circle of links
    path = runs / f"{name}-{run}"
    return path if path.exists() else next(runs.glob(f"*-{run}"), path)

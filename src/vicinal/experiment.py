"""One job, checked: all that can be refused has been, and nothing has been read, written or started yet."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from vicinal.config import redaction
from vicinal.config.components import OURS, Component, bind, places_of, typed
from vicinal.config.schema import (
    GROUPS,
    Config,
    DatasetConfig,
    TrainerConfig,
    WandbConfig,
    check_keys,
    check_ranges,
    suggest,
)
from vicinal.data import (
    CropFlip,
    ImageData,
    Images,
    Loader,
    Source,
    contents,
    fits,
    imagefolder,
    load,
    split,
    steps_per_epoch,
)
from vicinal.data.faults import FAIL
from vicinal.errors import ConfigError, written
from vicinal.mixing import MixPlan, Strategy, mixed_forward
from vicinal.mixing.strategies import INPUT
from vicinal.models import block_names, refuses_one
from vicinal.models import check as check_model
from vicinal.runs.files import safe_name
from vicinal.runs.folder import RunFolder
from vicinal.runs.identity import cell_id, run_id
from vicinal.tracking.choice import make_trackers
from vicinal.tracking.wandb import settings as wandb_settings
from vicinal.training.checkpointer import Interval
from vicinal.training.hardware import host_memory, resolve, work
from vicinal.training.loop import Loaders
from vicinal.training.rng_streams import derive
from vicinal.utils.gc_pause import without_collections

PATHS = ("output_dir", *(f"dataset.{item.name}" for item in fields(DatasetConfig) if item.metadata["path"]))
"""Keys whose value is a folder on this machine."""
TREE = "vicinal.data.imagefolder.imagefolder"
"""The source whose classes are counted and whose files are part of a run's identity."""

_works: dict[str, int] = {}
"""How much a step of a network has to do; the jobs of a sweep have few networks."""
_rehearsed: set[str] = set()
"""What has been rehearsed without a complaint in this process; the jobs of a sweep have much of it in common."""
_loaded: dict[str, dict[str, str]] = {}
"""Hashes of images that were loaded in this process only to compare them."""


class Experiment:
    """A config and the components it chooses.

    Args:
        cfg: composed by Hydra on the schema.
        choices: {group: option}, for the readable name; Hydra's own groups are left out.
        places: where Hydra finds options, ``scheme://path``.

    Raises:
        ConfigError: names the key, the value and what is allowed.
    """

    def __init__(self, cfg: DictConfig, choices: Mapping[str, str], places: tuple[str, ...] = OURS) -> None:
        cfg = _at_home(cfg)
        self.config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
        """Resolved, in plain containers. What is "auto" stays so: it is the request, not the machine's answer."""
        check_keys(Config, self.config)
        self.config = typed(Config, self.config)
        chosen = {
            group: option for group, option in choices.items() if option is not None and not group.startswith("hydra/")
        }
        self.choices = {str(group): str(option) for group, option in {**self.config["_choices_"], **chosen}.items()}
        self.config["_choices_"] = self.choices
        for group in GROUPS:
            if chosen and group not in self.choices:  # Hydra takes mixup=[input,none], and mixes the two files
                raise ConfigError(group, "[...]", "must be one option; several, without brackets, are a sweep (-m)")
        check_ranges(Config, self.config)
        for group, schema in {"trainer": TrainerConfig, "wandb": WandbConfig}.items():
            check_keys(schema, self.config[group], prefix=f"{group}.")
            self.config[group] = typed(schema, self.config[group], prefix=f"{group}.")
            check_ranges(schema, self.config[group], prefix=f"{group}.")
        self.trackers = make_trackers(self.config["tracker"])
        if "wandb" not in self.trackers:
            self.config["wandb"]["mode"] = "disabled"
        self.config["wandb"] = wandb_settings.settle(self.config["wandb"])
        self.trainer = TrainerConfig(**self.config["trainer"])
        self.wandb = WandbConfig(**self.config["wandb"])
        self.seed: int = self.config["seed"]
        self._check_output()
        self.hardware = resolve(self.trainer)
        self.checkpoint_every = Interval.parse(self.trainer.checkpoint_every)

        self.dataset = bind("dataset", self.config["dataset"], places)
        self._check_images()
        self._tree: dict[str, Any] | None = None
        names: tuple[str, ...] = ()
        if self.dataset.target == TREE:
            self._tree = self._choose_validation(places)
            names = imagefolder.class_names(self._tree["root"], self._tree["val_size"])
        self.classes = self.dataset.values["classes"] or len(names)
        if not self.classes:
            raise ConfigError(
                "dataset.classes", None, "must be an integer >= 2; only a folder of images can be counted"
            )
        if names and len(names) != self.classes:
            raise ConfigError("dataset.classes", self.classes, f"must be {len(names)}, as in the data")
        self.model = bind("model", self.config["model"], places)
        self._choose_layers()
        self.mixup = bind("mixup", self.config["mixup"], places)
        self.strategy: Strategy = self.mixup()
        self.optimizer = bind("optimizer", self.config["optimizer"], places)
        self.scheduler = bind("scheduler", self.config["scheduler"], places)
        warmup = self.scheduler.arguments.get("warmup_epochs", 0)
        if warmup >= self.trainer.epochs:
            raise ConfigError("scheduler.warmup_epochs", warmup, f"must be < {self.trainer.epochs}, trainer.epochs")

        if self.trainer.threads == "auto":
            self.hardware = resolve(self.trainer, self._work())

        effective = self.effective()
        self.cell_id = cell_id(effective)
        self.run_id = run_id(self.cell_id, self.seed)
        shown = {"output_dir": self.config["output_dir"], "project": self.wandb.project, "entity": self.wandb.entity}
        needed = {**effective, **shown, "seed": self.seed}
        redaction.need(needed, public=(self.name, *self.choices.values(), *self.targets))
        runs = Path(os.path.realpath(self.config["output_dir"])) / "runs"  # Path.resolve raises at a circle of links
        # The identity decides; the name before it is for people, and another name can lead to the same run.
        path = runs / f"{self.name}-{self.run_id}"
        if not path.exists():
            path = next(runs.glob(f"*-{self.run_id}"), path)
        self.folder = RunFolder(path, self.run_id)
        # What is completed has gone through this, and torch imports two seconds of compilers for it.
        if self.config["rerun"] or self.folder.completed() is None:
            with without_collections("torch._dynamo"):
                self._rehearse()

    @classmethod
    def composed(cls, cfg: DictConfig) -> Experiment:
        """Of what Hydra composes for one job, its own ``hydra`` node included."""
        own = [str(name) for name in cfg if name != "hydra"]
        return cls(OmegaConf.masked_copy(cfg, own), cfg.hydra.runtime.choices, places_of(cfg.hydra))

    @property
    def name(self) -> str:
        """Readable, the same for all seeds of a cell; also a name for a file."""
        parts = [self.choices.get(group, "custom") for group in ("dataset", "model", "mixup")]
        if "alpha" in self.mixup.arguments:
            parts.append(f"alpha{self.mixup.arguments['alpha']:g}")
        return safe_name("-".join(parts))

    def effective(self) -> dict[str, Any]:
        """All that can change a result, but the seed; keys that have no effect are left out."""
        trainer = {
            item.name: self.config["trainer"][item.name]
            for item in fields(TrainerConfig)
            if not item.metadata["neutral"]
        }
        effective = {"trainer": trainer, **{component.group: component.identity() for component in self._components()}}
        if self._tree is not None:
            effective["dataset"]["folder"] = imagefolder.fingerprint(**self._tree, kept=self._tree_contents())
        return effective

    def settings(self) -> dict[str, Any]:
        """The config without the choices, and without keys that have no effect, such as alpha under ``none``."""
        config = {name: value for name, value in self.config.items() if name != "_choices_"}
        return {**config, **{component.group: component.effective() for component in self._components()}}

    def request(self) -> dict[str, Any]:
        """The config without keys that have no effect, which another option brings: its file may be out of reach."""
        groups = {component.group: component.ineffective for component in self._components()}
        own = {group: {key: self.config[group][key] for key in self.config[group] if key not in idle}
               for group, idle in groups.items()}  # fmt: skip
        return {**self.config, **own}

    def ineffective_keys(self) -> list[str]:
        """The keys that are set but have no effect, a line each."""
        return [
            f"{component.group}.{name}={written(value)} has no effect with {component.target}"
            for component in self._components()
            for name, value in component.ineffective.items()
        ]

    def make_model(self) -> nn.Module:
        """A new network, initialised from torch's default generator."""
        channels, image_size, classes = self._sizes()
        model: nn.Module = self.model(channels=channels, image_size=image_size, classes=classes)
        return model

    def check_cuts(self) -> None:
        """Refuse an impossible cut of a tree of images, which is known without decoding it."""
        if self._tree is not None:
            values = self.dataset.values
            sizes = {name: values[name] for name in ("val_size", "train_size")}
            split(imagefolder.undecoded(**self._tree), **sizes, seed=values["split_seed"])

    def load_data(self) -> ImageData:
        """Read, or download, and split the images, and hash what they were read from.

        Raises:
            UserError: they cannot be had, or a key does not fit them; no hashes are kept then.
        """
        source, data = self.load_images()
        self.check_steps(data)
        known = self._files()
        return replace(data, contents=contents.of_images(source) if known is None else known)

    def load_images(self) -> tuple[Source, ImageData]:
        """The same without hashes, as the source has them and split.

        Raises:
            UserError: they cannot be had, or a key does not fit them.
        """
        self.check_cuts()
        values = self.dataset.values
        source = self.dataset()
        keys = ("val_size", "train_size", "split_seed", "mean", "std")
        data = load(source, **{name: values[name] for name in keys})
        found = (*data.train.images.shape[1:3], len(data.class_names))
        for name, expected, real in zip(("channels", "image_size", "classes"), self._sizes(), found, strict=True):
            if expected != real:
                raise ConfigError(f"dataset.{name}", expected, f"must be {real}, as in the data")
        return source, data

    def data_contents(self) -> dict[str, str]:
        """{name: hash} of the data that the experiment would use now; of a tree nothing, which is in the identity.

        The images are loaded for it where their source does not say which files it reads, once per process.
        """
        known = self._files()
        if known is not None:
            return known
        key = repr((self.dataset.target, self.dataset.arguments))
        if key not in _loaded:
            _loaded[key] = contents.of_images(self.dataset())
        return _loaded[key]

    def _files(self) -> dict[str, str] | None:
        """{name: hash} of the files of the data; None where the source does not name them."""
        if self._tree is not None:
            self._tree_contents().save()
            return {}
        try:
            files = contents.files_of(self.dataset.called, self.dataset.arguments)
        except Exception as error:  # of a source of anyone's
            raise ConfigError("dataset._target_", self.dataset.target, f"cannot say what it reads ({error})") from error
        return None if files is None else contents.of_files(files, Path(self.dataset.values["cache_dir"]))

    def _tree_contents(self) -> contents.Kept:
        assert self._tree is not None
        return imagefolder.contents(self._tree["root"], self.dataset.values["cache_dir"])

    def check_steps(self, data: ImageData) -> None:
        """Refuse a schedule that does not fit the number of steps, which only the data can show.

        Raises:
            ConfigError: names the key, the value and what is allowed.
        """
        steps = steps_per_epoch(len(data.train.labels), self.trainer.batch_size)
        self._rehearse_schedule(steps)

    def make_loaders(self, data: ImageData) -> Loaders:
        """The parts, on the device where they fit; only the images that are trained on are augmented."""
        values, settings, hardware = self.dataset.values, self.trainer, self.hardware
        augmentation = CropFlip(padding=values["crop_padding"], flip=values["flip"]) if values["augment"] else None

        def make(images: Images, batch_size: int, augmentation: CropFlip | None = None) -> Loader:
            return Loader(
                images,
                batch_size,
                data.mean,
                data.std,
                device=hardware.device,
                augmentation=augmentation,
                channels_last=settings.channels_last,
                stream=self.streams(images),
                compile=hardware.compile,
            )

        clean = None
        if settings.clean_subset:
            chooser = torch.Generator().manual_seed(derive(values["split_seed"], "clean"))
            chosen = torch.randperm(len(data.train.labels), generator=chooser)[: settings.clean_subset]
            clean = data.train.choose(chosen.sort().values)
        return Loaders(
            train=make(data.train, settings.batch_size, augmentation=augmentation),
            val=None if data.val is None else make(data.val, settings.eval_batch_size),
            test=make(data.test, settings.eval_batch_size),
            clean=None if clean is None else make(clean, settings.eval_batch_size),
            class_names=data.class_names,
        )

    def streams(self, images: Images) -> bool:
        """Whether they stay in the host's memory."""
        wish = self.trainer.stream
        return not fits(images, self.hardware.device) if wish == "auto" else bool(wish)

    @property
    def targets(self) -> tuple[str, ...]:
        """Dotted names of the components."""
        return tuple(component.target for component in self._components())

    def _components(self) -> list[Component]:
        return [self.dataset, self.model, self.mixup, self.optimizer, self.scheduler]

    def _sizes(self) -> tuple[int, int, int]:
        return self.dataset.values["channels"], self.dataset.values["image_size"], self.classes

    @cached_property
    def _outline(self) -> nn.Module:
        with torch.device("meta"):  # shapes without memory or time
            return self.make_model()

    def _work(self) -> int:
        batch_size = self.trainer.batch_size
        depends_on = repr((self.model.target, self.model.arguments, self._sizes(), batch_size))
        if depends_on not in _works:
            _works[depends_on] = work(self._outline, self.dataset.values["image_size"], batch_size)
        return _works[depends_on]

    def _rehearse(self) -> None:
        """Send shapes through the network, in every way it will be used, and build the optimizer and the schedule.

        Once a process for all that these depend on.
        """
        parts = [(part.target, part.arguments) for part in (self.model, self.optimizer, self.scheduler)]
        alone = self.trainer.batch_size == 1
        depends_on = repr((parts, self._sizes(), list(self.strategy.depths), self.trainer.epochs, alone))
        if depends_on in _rehearsed:
            return
        self._check_memory()
        check_model(self._outline, *self._sizes())
        if alone and (reason := refuses_one(self._outline, *self._sizes()[:2])):
            raise ConfigError("trainer.batch_size", 1, f"must be at least 2 for {self.model.target}: {reason}")
        self._check_layers()
        self._rehearse_schedule(1000)
        _rehearsed.add(depends_on)

    def _choose_validation(self, places: tuple[str, ...]) -> dict[str, Any]:
        """Replace ``dataset.val_size: null`` by a number where a tree has no folder for validation.

        Returns:
            Arguments of `imagefolder.fingerprint`.
        """
        root = self.dataset.arguments["folder"]
        if self.dataset.arguments["val_size"] is None and imagefolder.validation_folder(root) is None:
            self.config["dataset"]["val_size"] = imagefolder.VAL_SIZE
            self.dataset = bind("dataset", self.config["dataset"], places)
        given = self.dataset.arguments
        return {"root": root, "val_size": given["val_size"], "on_error": given.get("on_error", FAIL)}

    def _rehearse_schedule(self, steps: int) -> None:
        """Build the optimizer and the schedule for so many steps an epoch; once a process for all that is alike."""
        epochs = self.trainer.epochs
        depends_on = repr((self.optimizer.arguments, self.scheduler.target, self.scheduler.arguments, epochs, steps))
        if depends_on in _rehearsed:
            return
        weight = nn.Parameter(torch.zeros(1))
        weight.grad = torch.zeros(1)
        rehearsal = self.optimizer(params=[weight])
        self.scheduler(optimizer=rehearsal, total_steps=steps * epochs, steps_per_epoch=steps)
        try:
            rehearsal.step()
        except Exception as error:  # it wants more than gradients, such as a closure
            raise self.optimizer.refused(f"cannot be stepped: {error}") from error
        _rehearsed.add(depends_on)

    def _check_output(self) -> None:
        """Refuse an output folder that cannot become one."""
        output = self.config["output_dir"]
        if not output:
            raise ConfigError("output_dir", output, "must be the path of a folder")
        place = Path(output).absolute()
        try:
            there = next(path for path in (place, *place.parents) if path.exists())
        except (OSError, ValueError) as error:  # a name that is too long, a loop of links, a NUL
            raise ConfigError("output_dir", output, str(getattr(error, "strerror", error))) from None
        if not there.is_dir():
            raise ConfigError("output_dir", output, f"must be a folder, and {there} is a file")

    def _check_images(self) -> None:
        """What the keys of a data set say of each other, before any of it is read."""
        values = self.dataset.values
        channels, size = values["channels"], values["image_size"]
        for name in ("mean", "std"):
            if values[name] is not None and len(values[name]) != channels:
                allowed = f"must be null or a list of {channels}, one number per channel"
                raise ConfigError(f"dataset.{name}", values[name], allowed)
        if values["augment"] and values["crop_padding"] > size:
            allowed = f"must be an integer in [0, {size}], dataset.image_size"
            raise ConfigError("dataset.crop_padding", values["crop_padding"], allowed)

    def _check_memory(self) -> None:
        """Refuse a network whose weights and gradients alone are more than this machine holds."""
        weights = sum(weight.numel() * weight.element_size() for weight in self._outline.parameters())
        if 2 * weights <= (memory := host_memory()):
            return
        sizes = {f"model.{name}": value for name, value in self.model.arguments.items()}
        sizes |= dict(zip(("dataset.channels", "dataset.image_size", "dataset.classes"), self._sizes(), strict=True))
        name = max(sizes, key=lambda name: _largest(sizes[name]))
        needs = f"its weights and gradients would take {2 * weights / 1e9:.3g} GB"
        allowed = f"the network is too large: {needs}, and this machine has {memory / 1e9:.3g} GB"
        raise ConfigError(name, sizes[name], allowed)

    def _choose_layers(self) -> None:
        """``mixup.layers: null`` is the input and the outputs of the first two blocks, as in the reference code."""
        if self.config["mixup"].get("layers", ()) is None:
            self.config["mixup"]["layers"] = [INPUT, *block_names(self._outline)[:2]]

    def _check_layers(self) -> None:
        channels, size, _ = self._sizes()
        images = torch.empty(2, channels, size, size, device="meta")
        for layer in dict.fromkeys(self.strategy.depths):
            if layer == INPUT:
                continue
            plan = MixPlan(torch.full((2,), 0.5), torch.tensor([1, 0]), layer=layer).to(images.device)
            try:
                mixed_forward(self._outline, images, plan)
            except ValueError:
                allowed = suggest(layer, [INPUT, *block_names(self._outline)])
                raise ConfigError("mixup.layers", layer, f"no block of {self.model.target}; {allowed}") from None
            except RuntimeError as error:
                raise ConfigError("mixup.layers", layer, f"cannot be mixed: {error}") from None


def _at_home(cfg: DictConfig) -> DictConfig:
    """The config with ``~`` expanded where a folder is named, before other keys refer to it."""
    cfg = cfg.copy()
    for key in PATHS:
        path = OmegaConf.select(cfg, key, default=None)
        if isinstance(path, str) and path.startswith("~"):
            try:
                home = Path(path).expanduser()
            except RuntimeError:
                user = path.partition("/")[0][1:]
                raise ConfigError(key, path, f"there is no user {user}") from None
            OmegaConf.update(cfg, key, str(home), force_add=True)
    return cfg


def _largest(value: Any) -> int:
    """The largest integer in a value of the config, which may be a list."""
    if isinstance(value, Mapping):
        return _largest([*value.values()])
    if isinstance(value, (list, tuple)):
        return max(map(_largest, value), default=0)
    return value if isinstance(value, int) else 0

"""Check the config of one job, and return it as plain containers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vicinal.config import validation
from vicinal.config.schema import GROUPS, KEYS, Config, TrainerConfig, WandbConfig
from vicinal.errors import ConfigError, written
from vicinal.tasks import Task
from vicinal.utils.image_size import shortest, sides


def resolved(cfg: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    """Return the resolved config with ``_choices_``, {group: option}, without those of Hydra's own groups.

    Groups with a ``_target_`` are left for ``components.bind``; all other keys are checked. Raises ConfigError.
    """
    config: dict[str, Any] = OmegaConf.to_container(_with_home(cfg), resolve=True)  # type: ignore[assignment]
    config = validation.checked(Config, config)
    chosen = {name: option for name, option in choices.items() if option is not None and not name.startswith("hydra/")}
    config["_choices_"] = {str(name): str(option) for name, option in {**config["_choices_"], **chosen}.items()}
    for group in GROUPS:
        if chosen and group not in config["_choices_"]:  # Hydra takes mixup=[input,none], and mixes the two files
            raise ConfigError(group, "[...]", "must be one option; several, without brackets, are a sweep (-m)")
    for group, schema in {"trainer": TrainerConfig, "wandb": WandbConfig}.items():
        config[group] = validation.checked(schema, config[group], prefix=f"{group}.")
    return config


def check_output(output: str) -> None:
    """Raise ConfigError if the output folder cannot be one."""
    if not output:
        raise ConfigError("output_dir", output, "must be the path of a folder")
    path = Path(output).absolute()
    try:
        existing = next(folder for folder in (path, *path.parents) if folder.exists())
    except (OSError, ValueError) as error:  # a name that is too long, a loop of links, a NUL
        raise ConfigError("output_dir", output, str(getattr(error, "strerror", error))) from None
    if not existing.is_dir():
        raise ConfigError("output_dir", output, f"must be a folder, and {existing} is a file")


def check_loss(trainer: TrainerConfig, task: Task) -> None:
    """Raise ConfigError if keys of the loss contradict each other or the task."""
    if trainer.loss not in ("auto", *task.losses):
        allowed = f"must be one of auto, {', '.join(task.losses)} with dataset.task={task.name}"
        raise ConfigError("trainer.loss", trainer.loss, allowed)
    if not task.has_classes:
        for name in ("label_smoothing", "class_weights", "logit_adjustment"):
            value, default = getattr(trainer, name), KEYS[f"trainer.{name}"].default
            if value != default:
                allowed = f"must be {written(default)}: a sample of dataset.task={task.name} has not one class"
                raise ConfigError(f"trainer.{name}", value, allowed)
    start, last = trainer.class_weights_from, trainer.epochs - 1
    most = last if start > 1 else last / trainer.epochs
    if trainer.class_weights != "none" and start > most:
        allowed = f"must be at most {written(most)}, so that the last of {trainer.epochs} epochs is weighted"
        raise ConfigError("trainer.class_weights_from", start, allowed)
    if trainer.loss == "bce" and trainer.bce_threshold is not None and trainer.label_smoothing:
        allowed = "must be 0 with trainer.loss=bce, whose labels are whole unless trainer.bce_threshold=null"
        raise ConfigError("trainer.label_smoothing", trainer.label_smoothing, allowed)
    if trainer.loss == "bce" and trainer.logit_adjustment:
        allowed = "must be 0 with trainer.loss=bce: a prior of the classes shifts a softmax, as of ce and bce_softmax"
        raise ConfigError("trainer.logit_adjustment", trainer.logit_adjustment, allowed)


def check_data(values: Mapping[str, Any], task: Task) -> None:
    """Raise ConfigError if keys of a data set contradict each other or the task."""
    if not task.has_classes:
        for name in ("imbalance", "label_noise", "sampler"):
            value, default = values[name], KEYS[f"dataset.{name}"].default
            if value != default:
                allowed = f"must be {written(default)}: a sample of dataset.task={task.name} has not one class"
                raise ConfigError(f"dataset.{name}", value, allowed)
    if task.moves and isinstance(values.get("augment"), str):
        allowed = f"must be true or false: a policy moves images, and not the targets of dataset.task={task.name}"
        raise ConfigError("dataset.augment", values["augment"], allowed)
    if values["inputs"] == "image":
        check_images(values)
        if task.moves and values["augment"] and values["crop_fill"] != "black":
            allowed = f"must be black: mirrored pixels would be without the targets of dataset.task={task.name}"
            raise ConfigError("dataset.crop_fill", values["crop_fill"], allowed)


def check_balance(trainer: TrainerConfig, sampler: str) -> None:
    """Raise ConfigError if the loss corrects class sizes that the batches do not have.

    The prior of logit adjustment is the share of a class in what is trained on (Menon et al., arXiv 2007.07314,
    section 4), and weights have mean 1 over that.
    """
    if sampler == "class_balanced":
        for name in ("class_weights", "logit_adjustment"):
            if (value := getattr(trainer, name)) != (default := KEYS[f"trainer.{name}"].default):
                allowed = (
                    f"must be {written(default)} with dataset.sampler=class_balanced, which shows each class as often"
                )
                raise ConfigError(f"trainer.{name}", value, allowed)


def check_images(values: Mapping[str, Any]) -> None:
    """Raise ConfigError if keys of images contradict each other."""
    channels, size = values["channels"], shortest(values["image_size"])
    for name in ("mean", "std"):
        if values[name] is not None and len(values[name]) != channels:
            allowed = f"must be null or a list of {channels}, one number per channel"
            raise ConfigError(f"dataset.{name}", values[name], allowed)
    if isinstance(values["augment"], str) and channels not in (1, 3):
        allowed = f"must be true or false: a policy needs 1 or 3 channels, and dataset.channels is {channels}"
        raise ConfigError("dataset.augment", values["augment"], allowed)
    for name in ("crop_scale", "crop_ratio"):
        if name in values and values[name] != sorted(values[name]):
            raise ConfigError(f"dataset.{name}", values[name], "must be [least, largest]")
    shorter, square = min(sides(size)), isinstance(size, int)
    if values["augment"] and values.get("crop") != "resized":
        which = f"{'' if square else 'the shorter side of '}dataset.image_size"
        most, why = (shorter, which) if values["crop_fill"] == "black" else (shorter - 1, f"less than {which}")
        if (padding := values["crop_padding"]) > most:
            raise ConfigError("dataset.crop_padding", padding, f"must be an integer in [0, {most}], {why}")
    if values["augment"] and values["rotate"] and not square:
        allowed = f"must be false: right angles need squares, and dataset.image_size is {written(size)}"
        raise ConfigError("dataset.rotate", True, allowed)


def _with_home(cfg: DictConfig) -> DictConfig:
    """Expand ``~`` where a folder is named, before other keys refer to it."""
    paths = {key: OmegaConf.select(cfg, key, default=None) for key, item in KEYS.items() if item.metadata["path"]}
    homes = {key: path for key, path in paths.items() if isinstance(path, str) and path.startswith("~")}
    if homes:
        cfg = cfg.copy()
    for key, path in homes.items():
        try:
            home = Path(path).expanduser()
        except RuntimeError:
            user = path.partition("/")[0][1:]
            raise ConfigError(key, path, f"there is no user {user}") from None
        OmegaConf.update(cfg, key, str(home), force_add=True)
    return cfg

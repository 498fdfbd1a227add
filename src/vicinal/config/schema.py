"""The typed schema: one dataclass a group, each field with its unit and its range.

Hydra composes the YAML files of ``conf/`` into :class:`Config`. The groups ``dataset model optimizer scheduler mixup``
choose a component by ``_target_``. Their keys are the arguments of that target: the fields written down here state unit
and range of the usual ones, any other is checked against the target's signature (``config/components.py``). So a new
strategy or network brings its own keys along, and nothing here has to know.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf

from vicinal.errors import ConfigError, written

PACKAGE = Path(__file__).resolve().parents[1]
CONF = next((conf for conf in (PACKAGE / "conf", PACKAGE.parents[1] / "conf") if conf.is_dir()), PACKAGE / "conf")
"""The folder of the YAML files: in the package, where a wheel has put it, or at the top of the checkout."""
MANY, BILLION = 10**6, 10**9
"""Bounds for what could be any number: far above what makes sense, far below what overflows or never ends."""
LARGEST = 2**63 - 1
"""The largest integer that torch, NumPy and the files of a run can hold."""


def key(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: Iterable[str] = (),
    length: int | None = None,
    neutral: bool = False,
    needs: str = "",
    since: str = "",
    path: bool = False,
) -> Any:
    """A field of the schema.

    Args:
        default: its value where no file or command line gives one.
        doc: one line, with the unit.
        low: least allowed number.
        high: largest allowed number.
        above: the number must be larger than this.
        below: the number must be less than this.
        choices: allowed strings.
        length: of a list, whose items are what the limits above are about.
        neutral: cannot change a result, so it is no part of a run's identity.
        needs: key of the same group without which this one has no effect, and then is no part of the identity either.
        since: version that added the key, if runs are older. Its default must mean what those runs did; at its default
            it is no part of the identity, so that they keep theirs.
        path: of a file or folder; a leading ``~`` is the user's home.
    """
    limits = {"low": low, "high": high, "above": above, "below": below, "choices": tuple(choices), "length": length}
    metadata = {
        "default": default,
        "doc": doc,
        "neutral": neutral,
        "needs": needs,
        "since": since,
        "path": path,
        **limits,
    }
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass
class DatasetConfig:
    """Data, its split and its augmentation; all but the first three keys work the same for every source."""

    _target_: str = key(MISSING, "function that loads the official train and test parts as uint8 tensors")
    root: str = key(
        MISSING, "folder of the data on this machine; created if it is downloaded to", neutral=True, path=True
    )
    cache_dir: str = key(MISSING, "folder for decoded images and hashes of files", neutral=True, path=True)
    channels: int = key(MISSING, "channels of an image", low=1, high=1024)
    image_size: int = key(MISSING, "height and width in pixels", low=1, high=65536)
    classes: int | None = key(None, "number of classes; null = counted by the source", low=2, high=MANY)
    mean: list[float] | None = key(
        None, "per channel, of pixels in [0, 1]; null = of the training images", low=-MANY, high=MANY
    )
    std: list[float] | None = key(
        None, "per channel, of pixels in [0, 1]; null = of the training images", above=0, high=MANY
    )
    val_size: int | None = key(
        0,
        "images cut from train for validation, stratified; null = the data's own part, or 1000 of a tree without one",
        low=0,
        high=BILLION,
    )
    train_size: int | None = key(
        None, "images kept of the rest for training, stratified; null = all", low=1, high=BILLION
    )
    split_seed: int = key(0, "seed of the validation and training cuts; not of the run", low=0, high=2**32 - 1)
    label_noise: float = key(
        0.0, "share of training labels replaced by another class; by split_seed", low=0, high=1, since="0.2"
    )
    augment: bool = key(False, "random crop and flip of the training images")
    crop_padding: int = key(
        4, "black pixels around an image before it is cropped to its size", low=0, high=65536, needs="augment"
    )
    flip: bool = key(True, "mirror every other image, left to right", needs="augment")


@dataclass
class ModelConfig:
    _target_: str = key(MISSING, "network: (channels, image_size, classes, own keys...) -> logits")


@dataclass
class OptimizerConfig:
    _target_: str = key(MISSING, "torch.optim class")
    lr: float = key(MISSING, "peak learning rate", above=0, high=1e30)
    weight_decay: float = key(0.0, "on every parameter, as in the papers; decoupled for AdamW", low=0, high=MANY)
    momentum: float = key(0.0, "of SGD", low=0, below=1)
    nesterov: bool = key(False, "Nesterov momentum (SGD)")
    betas: list[float] = key([0.9, 0.999], "decay of the two running means (Adam, AdamW)", low=0, below=1, length=2)
    eps: float = key(1e-8, "added to the denominator (Adam, AdamW)", above=0, high=MANY)
    fused: bool = key(False, "one kernel for all weights; torch's own loop over them differs in the last digits")


@dataclass
class SchedulerConfig:
    _target_: str = key(MISSING, "schedule: (optimizer, total_steps, steps_per_epoch, own keys...)")
    warmup_epochs: float = key(0.0, "epochs of linear warm-up from 0 at the start; may be a fraction", low=0, high=MANY)


@dataclass
class MixupConfig:
    _target_: str = key(MISSING, "strategy")
    alpha: float = key(1.0, "lambda ~ Beta(alpha, alpha); 0 = off", low=0, high=MANY)
    prob: float = key(1.0, "probability that a batch is mixed (a sample, if per_sample)", low=0, high=1)
    per_sample: bool = key(False, "one lambda (and one box) a sample instead of one a batch")


@dataclass
class TrainerConfig:
    epochs: int = key(30, "passes over the training images", low=1, high=MANY)
    batch_size: int = key(64, "images per step", low=1, high=MANY)
    eval_batch_size: int = key(
        500, "images per batch in evaluation; changes the last digits of the scores", low=1, high=MANY
    )
    device: str = key("auto", "cuda, mps or cpu, the first there is", choices=("auto", "cpu", "cuda", "mps"))
    precision: str = key(
        "auto", "bf16 where the hardware multiplies it, else fp32", choices=("auto", "fp32", "bf16", "fp16")
    )
    threads: int | str = key(
        "auto",
        "CPU threads; auto = one for small layers, else at most the usable cores; changes the last digits",
        choices=("auto",),
        low=1,
        high=1024,
    )
    channels_last: bool = key(True, "keep images as (B, H, W, C) in memory, which convolutions like")
    compile: bool | str = key(
        "auto",
        "torch.compile model and batches; auto = on a GPU alone, if it can; max = with CUDA graphs",
        choices=("auto", "max"),
    )
    deterministic: bool = key(False, "deterministic kernels on a GPU (slower); on a CPU they always are")
    label_smoothing: float = key(0.0, "share of the target spread over all classes, in the loss alone", low=0, high=1)
    clip_grad_norm: float | None = key(None, "largest gradient norm; null = no clipping", above=0, high=BILLION)
    ema_decay: float | None = key(
        None, "a step, of averaged weights that are evaluated instead; null = none", low=0, high=1
    )
    checkpoint_every: int | str = key(
        1,
        "epochs between two checkpoints; 200steps = steps; what a crash loses at most",
        low=1,
        high=BILLION,
        neutral=True,
    )
    stream: bool | str = key(
        "auto",
        "keep the images in the host's memory and gather batches ahead; auto = where the GPU's would not do",
        choices=("auto",),
        neutral=True,
    )
    clean_subset: int = key(
        1000, "training images that are evaluated each epoch, unmixed; 0 = none", low=0, high=BILLION, neutral=True
    )
    log_every: int = key(20, "steps between two looks at the loss in an epoch", low=1, high=BILLION, neutral=True)


@dataclass
class WandbConfig:
    mode: str = key(
        "auto",
        "auto = WANDB_DISABLED, WANDB_MODE, else online when logged in, else offline",
        choices=("auto", "online", "offline", "disabled"),
    )
    project: str | None = key(None, "W&B project; null = WANDB_PROJECT, else vicinal")
    entity: str | None = key(None, "W&B user or team; null = WANDB_ENTITY, else your default")
    name: str | None = key(None, "name of the run at W&B; null = WANDB_NAME, else its readable name and seed")
    group: str | None = key(None, "group of runs at W&B; null = WANDB_RUN_GROUP, else the sweep's name")
    notes: str | None = key(None, "notes on the run; null = WANDB_NOTES, else none")
    tags: list[str] | None = key(None, "labels of the run; null = WANDB_TAGS (a,b), else none")
    images: int = key(16, "mixed images shown from the first four batches; 0 = none", low=0, high=1000)


@dataclass
class Config:
    """The whole config. The five open groups are typed by :data:`GROUPS` and by their target's signature."""

    seed: int = key(0, "of init, order, augmentation, mixing and dropout", low=0, high=LARGEST)
    output_dir: str = key("outputs", "folder of runs, sweeps and reports", neutral=True, path=True)
    rerun: bool = key(False, "train again although the same run is completed", neutral=True)
    busy: str = key(
        "wait", "for a run that another process works on, or skip it", choices=("wait", "skip"), neutral=True
    )
    dry_run: bool = key(False, "say what would run, and train nothing", neutral=True)
    _choices_: dict[str, str] = field(default_factory=dict)  # {group: option}; a run writes it into its config.yaml
    dataset: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    mixup: dict[str, Any] = field(default_factory=dict)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    wandb: WandbConfig = field(default_factory=WandbConfig)


GROUPS: dict[str, type] = {
    "dataset": DatasetConfig,
    "model": ModelConfig,
    "optimizer": OptimizerConfig,
    "scheduler": SchedulerConfig,
    "mixup": MixupConfig,
}
"""Groups whose options are components, with the keys that all their options may have."""


def identity_values(schema: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that are part of a run's identity: no neutral ones, and none added later that are the default.

    Args:
        schema: dataclass of the group.
        values: checked values by key; keys that the schema does not have count.
    """
    metadata = {item.name: item.metadata for item in fields(schema)}

    def counts(name: str) -> bool:
        known = metadata.get(name)
        return not known or not (known["neutral"] or (known["since"] and values[name] == known["default"]))

    return {name: value for name, value in values.items() if counts(name)}


def with_later_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored config with the keys that were added after it, at their defaults, which is what it meant."""
    groups = {"dataset": DatasetConfig, "trainer": TrainerConfig}
    later = {
        group: {item.name: item.metadata["default"] for item in fields(schema) if item.metadata["since"]}
        for group, schema in groups.items()
    }
    return {**config, **{group: {**later[group], **config[group]} for group in groups if group in config}}


def register() -> None:
    """Make the schema known to Hydra as the config named ``schema``."""
    from hydra.core.config_store import ConfigStore

    schema = OmegaConf.structured(Config)
    for group in GROUPS:
        # Hydra takes any key here, and components.bind knows which the chosen option has: a sweep's own words are
        # applied to the default option once before there is a job.
        OmegaConf.set_struct(schema[group], False)
    ConfigStore.instance().store(name="schema", node=schema)


def check_keys(schema: type, values: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse keys that ``schema`` does not have, and the lack of one that it has.

    Raises:
        ConfigError: names the key, the value and what is allowed.
    """
    known = [item.name for item in fields(schema)]
    for name, value in values.items():
        if name not in known:
            raise ConfigError(prefix + name, value, f"no such key; {suggest_key(name, known)}")
    for name in known:
        if values.get(name, MISSING) == MISSING:
            raise ConfigError(prefix + name, MISSING, "is missing")


def check_ranges(schema: type, values: Mapping[str, Any], prefix: str = "") -> None:
    """Refuse a value outside the range that its field in ``schema`` states.

    Raises:
        ConfigError: names the key, the value and what is allowed.
    """
    for item in fields(schema):
        value = values.get(item.name)
        if value is None or not item.metadata:
            continue
        length = item.metadata["length"]
        if length is not None and len(value) != length:
            raise ConfigError(prefix + item.name, value, f"must be a list of {length}")
        if isinstance(value, list) and not all(isinstance(each, str | int | float) for each in value):
            kind = "strings" if "str" in str(item.type) else "numbers"
            raise ConfigError(prefix + item.name, value, f"must be a list of {kind}")
        if not all(_allowed(item, each) for each in (value if isinstance(value, list) else [value])):
            subject = "each " if isinstance(value, list) else ""
            raise ConfigError(prefix + item.name, value, f"{subject}must be {describe_range(item)}")


def _allowed(item: Field[Any], value: Any) -> bool:
    limits = item.metadata
    if isinstance(value, str):
        return not limits["choices"] or value in limits["choices"]
    if isinstance(value, bool):
        return True
    return (
        (isinstance(value, int) or math.isfinite(value))  # an integer may be too large for any float
        and (limits["low"] is None or value >= limits["low"])
        and (limits["high"] is None or value <= limits["high"])
        and (limits["above"] is None or value > limits["above"])
        and (limits["below"] is None or value < limits["below"])
    )


def describe_range(item: Field[Any]) -> str:
    """What a field allows, to follow "must be"."""
    limits = item.metadata
    choices = limits["choices"]
    if choices and limits["low"] is None:
        truths = ("true", "false") if "bool" in str(item.type) else ()
        return "one of " + ", ".join((*choices, *truths))
    numbers = ("an integer" if "int" in str(item.type) else "a finite number") + _interval(limits)
    words = (*choices, *(("null",) if "None" in str(item.type) and "list" not in str(item.type) else ()))
    return " or ".join((*words, numbers))


def _interval(limits: Mapping[str, Any]) -> str:
    low, high, above, below = (
        None if limits[name] is None else written(limits[name]) for name in ("low", "high", "above", "below")
    )
    start = f"[{low}" if low is not None else f"({above}"
    end = f"{high}]" if high is not None else f"{below})"
    if "None" not in start and "None" not in end:
        return f" in {start}, {end}"
    words = {">=": low, "<=": high, ">": above, "<": below}
    return "".join(f" {sign} {limit}" for sign, limit in words.items() if limit is not None)


def suggest(word: str, known: Iterable[str], elsewhere: Iterable[str] = ()) -> str:
    """``a, b, c``, led by what ``word`` was perhaps meant to be.

    Args:
        word: that is not known.
        known: what is allowed in its place.
        elsewhere: dotted keys; where nothing in ``known`` is close, one that ends in the word is meant.
    """
    known = [name for name in known if not name.startswith("_")]
    close = difflib.get_close_matches(word, known, n=1)
    if not close:
        last = {name.rpartition(".")[2]: name for name in reversed([*elsewhere]) if name != word}
        close = [last[name] for name in difflib.get_close_matches(word, last, n=1, cutoff=0.8)]
    allowed = "allowed: " + ", ".join(known) if known else "it takes none"
    return (f"did you mean {close[0]}? " if close else "") + allowed


def suggest_key(word: str, known: Iterable[str]) -> str:
    """:func:`suggest` for a key, which may be one of another group: ``lr`` is ``optimizer.lr``."""
    return suggest(word.rpartition(".")[2], known, dotted_keys())


@cache
def dotted_keys() -> tuple[str, ...]:
    """``seed``, ``optimizer.lr``, ...: all keys of the schema, then those that only some options of a group have."""
    groups = {**GROUPS, "trainer": TrainerConfig, "wandb": WandbConfig}
    keys = [item.name for item in fields(Config) if item.metadata]
    keys += [f"{group}.{item.name}" for group, schema in groups.items() for item in fields(schema)]
    for group in GROUPS:
        for file in sorted((CONF / group).glob("*.yaml")):
            keys += [f"{group}.{name!s}" for name in OmegaConf.load(file) if name != "defaults"]
    return tuple(dict.fromkeys(key for key in keys if "._" not in key))

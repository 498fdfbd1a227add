"""Define the keys of the config, but those of data sets: one dataclass per group, each field with its unit and range.

Hydra composes the YAML files of ``conf/`` into :class:`Config`. The groups ``dataset model optimizer scheduler mixup``
choose a component by ``_target_``, and their keys are its arguments. The fields here state unit and range of the usual
ones; ``config/components.py`` checks all others against the signature of the target. So a new strategy or network
brings its own keys, and nothing here changes.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf

from vicinal.config.data_schema import DatasetConfig
from vicinal.config.keys import BILLION, LARGEST, MANY, key

PACKAGE = Path(__file__).resolve().parents[1]
CONF = next((conf for conf in (PACKAGE / "conf", PACKAGE.parents[1] / "conf") if conf.is_dir()), PACKAGE / "conf")
"""Folder of the YAML files: in an installed package, or at the top of the checkout."""
BASES = ("base", "base_any")  # files of a group with the keys of all its options, or of some; no options themselves


@dataclass
class ModelConfig:
    _target_: str = key(MISSING, "network: (what the inputs are, classes, own keys...) -> outputs")


@dataclass
class OptimizerConfig:
    _target_: str = key(MISSING, "torch.optim class")
    lr: float = key(MISSING, "peak learning rate", above=0, high=1e30)
    weight_decay: float = key(0.0, "L2 penalty of every parameter; decoupled for AdamW", low=0, high=MANY)
    momentum: float = key(0.0, "momentum of SGD", low=0, below=1)
    nesterov: bool = key(False, "Nesterov momentum (SGD)")
    betas: list[float] = key([0.9, 0.999], "decay of the running means (Adam, AdamW)", low=0, below=1, length=2)
    eps: float = key(1e-8, "added to the denominator (Adam, AdamW)", above=0, high=MANY)
    fused: bool = key(False, "one kernel for all weights; differs from torch's loop over them in the last digits")
    norm_bias_lr: float = key(
        1.0, "factor of the learning rate of biases of normalisation layers", low=1e-6, high=MANY, since="0.2"
    )


@dataclass
class SchedulerConfig:
    _target_: str = key(MISSING, "schedule: (optimizer, total_steps, steps_per_epoch, own keys...)")
    warmup_epochs: float = key(0.0, "epochs of linear warm-up from 0 at the start; may be a fraction", low=0, high=MANY)
    anneal_strategy: str = key("cos", "form of rise and fall of onecycle", choices=("cos", "linear"), since="0.2")


@dataclass
class MixupConfig:
    _target_: str = key(MISSING, "strategy")
    alpha: float = key(1.0, "lambda ~ Beta(alpha, alpha); 0 = off", low=0, high=MANY)
    prob: float = key(1.0, "probability that a batch (with per_sample: a sample) is mixed", low=0, high=1)
    per_sample: bool = key(False, "one lambda (and one box) per sample instead of one per batch")
    members: int = key(
        2, "samples that are mixed; of more than two, the weights are Dirichlet(alpha)", low=2, high=1000, since="0.2"
    )
    layers: list[str] | None = key(None, "blocks, one drawn per batch; null = as the strategy has it", since="0.2")
    law: Any = key("beta", "distribution of lambda, the weight of the sample itself", since="0.2")
    beta: float = key(1.0, "of the law asymmetric, Beta(alpha, beta)", above=0, high=MANY, since="0.2")
    low: float = key(0.0, "least lambda of the laws uniform and truncated", low=0, high=1, since="0.2")
    high: float = key(1.0, "largest lambda of the laws uniform and truncated", low=0, high=1, since="0.2")
    lam: float = key(0.5, "lambda of the law constant", low=0, high=1, since="0.2")
    alpha_end: float | None = key(
        None, "alpha at the end of the training; null = alpha stays", low=0, high=MANY, since="0.2"
    )
    partner: Any = key("permutation", "rule that chooses the sample to mix with", since="0.2")
    group: int = key(8, "samples that partner=nearest matches at once", low=1, high=MANY, since="0.2")
    balance: float = key(1.0, "of partner=class_balanced: exponent of 1 / class size", low=0, high=MANY, since="0.2")
    bandwidth: float = key(
        1.0, "of partner=label_kernel, in standard deviations of a numeric target", above=0, high=MANY, since="0.2"
    )
    odd_sides: bool = key(False, "boxes of CutMix may have odd sides", since="0.2")
    labels: Any = key("area", "rule for the weight of the sample's own label", since="0.2")
    label_weight: float = key(0.5, "weight of the own label under labels=constant", low=0, high=1, since="0.2")
    kappa: float = key(3.0, "of labels=remix: ratio of class sizes", low=1, high=MANY, since="0.2")
    tau: float = key(0.5, "of labels=remix: part of the larger class", low=0, high=1, since="0.2")
    window: list[float] = key(
        [0.0, 1.0], "part of the training that mixes: shares, or epochs", low=0, high=MANY, length=2, since="0.2"
    )
    taper: bool = key(False, "mix less towards the end: mixup without hesitation", since="0.2")
    mixed_weight: float | str = key(
        1.0, "weight of the loss on the mixed batch", above=0, high=MANY, choices=("lam", "1-lam"), since="0.2"
    )
    clean_weight: float | str = key(
        0.0,
        "weight of the loss on the same batch, unmixed",
        low=0,
        high=MANY,
        choices=("lam", "1-lam"),
        since="0.2",
    )
    together: bool = key(False, "both losses in one pass over twice the images", since="0.2")
    depth: str = key("input", "where it mixes: the input, or the output of a block, by its name", since="0.2")


@dataclass
class TrainerConfig:
    epochs: int = key(30, "passes over the training images", low=1, high=MANY)
    batch_size: int = key(64, "images per step", low=1, high=MANY)
    eval_batch_size: int = key(500, "images per step of evaluation; changes the last digits", low=1, high=MANY)
    eval_views: int = key(1, "views of an image whose logits are averaged in evaluation", low=1, high=6, since="0.2")
    device: str = key("auto", "auto = the first available of cuda, mps, cpu", choices=("auto", "cpu", "cuda", "mps"))
    precision: str = key("auto", "auto = bf16 if it is faster, else fp32", choices=("auto", "fp32", "bf16", "fp16"))
    threads: int | str = key("auto", "CPU threads; change the last digits", choices=("auto",), low=1, high=1024)
    channels_last: bool = key(True, "keep images as (B, H, W, C) in memory, which is faster for convolutions")
    compile: bool | str = key("auto", "torch.compile; auto = on GPUs; max = CUDA graphs", choices=("auto", "max"))
    deterministic: bool = key(False, "the same bits on a GPU, and by any number of processes; slower")
    shards: int | str = key(
        1, "parts of a batch, mixed alone; auto = one per process", choices=("auto",), low=1, high=MANY, since="0.2"
    )
    label_smoothing: float = key(0.0, "fraction of the target spread over all classes; only in training", low=0, high=1)
    loss: str = key("auto", "loss of the training; auto = the first that the task has", since="0.2")
    bce_threshold: float | None = key(
        0.0, "classes above it are whole labels; null = mixed", low=0, below=1, needs="loss=bce", since="0.2"
    )
    focal_gamma: float = key(2.0, "exponent of 1 - p", low=0, high=MANY, needs="loss=focal", since="0.2")
    class_weights: str = key(
        "none", "factor of the loss per class", choices=("none", "inverse", "effective"), since="0.2"
    )
    class_weights_beta: float = key(
        0.9999, "beta of the effective number of images", low=0, below=1, needs="class_weights=effective", since="0.2"
    )
    class_weights_from: float = key(
        0.0,
        "done share of the training, or epochs above 1, when they begin",
        low=0,
        high=MANY,
        needs="class_weights",
        since="0.2",
    )
    logit_adjustment: float = key(
        0.0, "factor of the log class share that is added to the logits in training", low=0, high=MANY, since="0.2"
    )
    clip_grad_norm: float | None = key(None, "largest gradient norm; null = no clipping", above=0, high=BILLION)
    ema_decay: float | None = key(None, "decay per step of averaged weights, for evaluation; null = off", low=0, high=1)
    checkpoint_every: int | str = key(1, "epochs, or steps as in 200steps", low=1, high=BILLION, neutral=True)
    stream: bool | str = key("auto", "images in host memory; auto = if large", choices=("auto",), neutral=True)
    clean_subset: int = key(1000, "training images evaluated unmixed; 0 = none", low=0, high=BILLION, neutral=True)
    log_every: int = key(20, "steps between two reports of the loss in an epoch", low=1, high=BILLION, neutral=True)


@dataclass
class TrackerConfig:
    _target_: str = key(MISSING, "subclass of vicinal.tracking.tracker.Tracker: (own keys...)")


@dataclass
class WandbConfig:
    mode: str = key("auto", "auto = by WANDB_MODE and the login", choices=("auto", "online", "offline", "disabled"))
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

    seed: int = key(0, "seed of init, order, augmentation, mixing and dropout", low=0, high=LARGEST)
    output_dir: str = key("outputs", "folder of runs, sweeps and reports", neutral=True, path=True)
    rerun: bool = key(False, "train again although the same run is completed", neutral=True)
    busy: str = key("wait", "what to do if another process works on a run", choices=("wait", "skip"), neutral=True)
    dry_run: bool = key(False, "print what would run, and train nothing", neutral=True)
    _choices_: dict[str, str] = field(default_factory=dict)  # {group: option}; a run writes it into its config.yaml
    dataset: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    mixup: dict[str, Any] = field(default_factory=dict)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    tracker: dict[str, Any] = field(default_factory=dict)  # {name: {_target_, own keys}}; several options are merged
    wandb: WandbConfig = field(default_factory=WandbConfig)


GROUPS: dict[str, type] = {
    "dataset": DatasetConfig,
    "model": ModelConfig,
    "optimizer": OptimizerConfig,
    "scheduler": SchedulerConfig,
    "mixup": MixupConfig,
}  # groups whose options are components, with the keys that all their options may have
SCHEMAS: dict[str, type] = {**GROUPS, "trainer": TrainerConfig, "wandb": WandbConfig}
NAMED: dict[str, type] = {"tracker": TrackerConfig}  # {name: component}, of several options, as in ``tracker=[a,b]``
VIEWS = ("tracker", "wandb")  # groups that show a run and cannot change its result, so no part of its identity
CHOOSABLE = (*GROUPS, "trainer", *VIEWS, "experiment")  # the groups of ``conf/config.yaml``
KEYS: dict[str, Field[Any]] = {item.name: item for item in fields(Config) if item.metadata} | {
    f"{group}.{item.name}": item for group, schema in SCHEMAS.items() for item in fields(schema)
}  # all keys of the schema with one value, such as ``seed`` and ``optimizer.lr``
NEUTRAL = frozenset(key for key, item in KEYS.items() if item.metadata["neutral"])  # they cannot change a result


def register() -> None:
    """Make the schema known to Hydra as the config named ``schema``, and the options that are in folders."""
    from hydra.core.config_store import ConfigStore

    from vicinal.config.option_folders import list_folders

    list_folders()
    schema = OmegaConf.structured(Config)
    for group in (*GROUPS, *NAMED):
        # Hydra takes any key here; components.bind refuses those that the chosen option lacks. Before there is a job,
        # Hydra applies the overrides of a sweep to the default options once.
        OmegaConf.set_struct(schema[group], False)
    ConfigStore.instance().store(name="schema", node=schema)

"""Wrong command lines: one line that names the key, the value and what is allowed; exit code 1; nothing left behind."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vicinal.config.schema import CONF
from vicinal.experiment import Experiment

from .. import forked

REPO = Path(__file__).parents[2]
EXPERIMENTS = ", ".join(sorted(path.stem for path in (REPO / "conf/experiment").glob("*.yaml")))
ROOT = "seed, output_dir, rerun, busy, dry_run, dataset, model, optimizer, scheduler, mixup, trainer, tracker, wandb"
MIXUP = (
    "alpha, alpha_end, prob, per_sample, members, law, beta, low, high, lam, partner, group, balance, bandwidth, "
    "labels, label_weight, kappa, tau, window, taper, mixed_weight, clean_weight, together, depth"
)
TRAINER = (
    "epochs, batch_size, eval_batch_size, eval_views, device, precision, threads, channels_last, compile, "
    "deterministic, shards, label_smoothing, loss, bce_threshold, focal_gamma, class_weights, class_weights_beta, "
    "class_weights_from, logit_adjustment, clip_grad_norm, ema_decay, checkpoint_every, stream, clean_subset, log_every"
)
DATASET = (
    "inputs, task, root, cache_dir, channels, image_size, classes, mean, std, val_size, train_size, split_seed, "
    "imbalance, imbalance_ratio, label_noise, label_noise_kind, sampler, augment, crop_padding, crop_fill, flip, rotate"
)
EVERY = "must be an integer in [1, 1000000000], of epochs, or of steps: 200steps"
TREE = "expected train/<class>/*.jpg and test/<class>/*.jpg"
NO_KEY = (
    "cannot be read as key=value; a key has letters, digits and _, groups and keys joined by dots, and no space stands "
    "beside the ="
)
TOO_MANY = "jobs are too many for one sweep, which has at most 100000"
QUOTE = "text of such characters is quoted:"
MODELS = ", ".join(sorted(file.stem for file in (CONF / "model").glob("*.yaml")))
PRESETS = sorted(f"{file.parent.name}/{file.stem}" for file in (CONF / "mixup").glob("*/*.yaml"))
OPTIONS = ", ".join(sorted(file.stem for file in (CONF / "mixup").glob("*.yaml") if file.stem != "base") + PRESETS)
OPTION = "must be the name of an option; --help lists them"
SWEEP = "several values are a sweep, which needs -m; a list is written [a,b]"

AXES = "must be null or a mapping of keys to values, {seed: '0,1'}"
ALONE = "a range, a glob or an interval stands alone; beside others write out its values"
SHAPE = "must be a mapping of names to values where the config has one, and a list where it has one"
PATH = "must be the path of a class or function that can be imported"

# A command line, and its message; {tmp} is a folder with no_test/train/cat/ in it.
REFUSED = [
    # options in a list
    ("tracker=[wandb,csvv]", "tracker=csvv: no such option; did you mean csv? allowed: csv, none, tensorboard, wandb"),
    ("hydra.sweeper.params=5", f"hydra.sweeper.params=5: {AXES}"),
    # parts with a _target_ of their own, and mappings
    ("mixup=one_of mixup.weights=1", "mixup.weights=1: must be a mapping of names to numbers"),
    ("mixup=one_of mixup.weights=null", "mixup.weights=null: must be a mapping of names to numbers"),
    ("mixup=one_of mixup.weights=[1,2]", f"mixup.weights=[1,2]: {SHAPE}"),
    ("tracker.wandb=[1]", f"tracker.wandb=[1]: {SHAPE}"),
    ("wandb={tags:{a:1}}", f"wandb={{tags:{{a:1}}}}: {SHAPE}"),
    ("wandb.tags={a:1}", "wandb.tags={a:1}: must be a list of strings or null"),
    ("mixup=one_of mixup.weights={null:1}", "mixup.weights={null:1}: Incompatible key type 'NoneType'"),
    (
        "mixup=one_of mixup.weights.input=abc",
        "mixup.weights={input:abc,cutmix:0.5}: must be a mapping of names to numbers",
    ),
    (
        "mixup=one_of mixup.strategies.input=cutmix",
        "mixup.strategies={input:cutmix,cutmix:{_target_:vicinal.mixing.CutMix,alpha:1}}: "
        "must have a _target_ each that is a strategy",
    ),
    (
        "mixup=one_of mixup.strategies.input._target_=vicinal.mixing.InputMixupp",
        f"mixup.strategies.input._target_=vicinal.mixing.InputMixupp: {PATH}",
    ),
    ("mixup=one_of mixup.strategies.input.alpha=abc", "mixup.strategies.input.alpha=abc: must be a number or null"),
    ("mixup=one_of mixup.strategies.input.alpha=???", "mixup.strategies.input.alpha=???: is missing"),
    (
        "mixup=one_of mixup.strategies.input.alpha='1'",
        "mixup.strategies.input.alpha=1: must be a number or null, not text in quotes",
    ),
    ("mixup=one_of mixup.strategies.input.alpha=-1", "mixup.strategies.input.alpha=-1: must be a finite number >= 0"),
    (
        "mixup=one_of +mixup.strategies.input.lamda=1",
        "mixup.strategies.input.lamda=1: vicinal.mixing.InputMixup has no such argument; "
        f"did you mean lam? allowed: {MIXUP}",
    ),
    (
        "mixup.law={_target_:vicinal.mixing.laws.Uniform,low:0.5,high:0.2}",
        "mixup.law.high=0.2: must be in [low, 1]",
    ),
    # types
    ("trainer.epochs=many", "trainer.epochs=many: must be an integer in [1, 1000000]"),
    ("trainer.epochs=1.5", "trainer.epochs=1.5: must be an integer in [1, 1000000]"),
    ("trainer.epochs=null", "trainer.epochs=null: must be an integer in [1, 1000000]"),
    ("trainer.compile=perhaps", "trainer.compile=perhaps: must be one of auto, max, true, false"),
    ("trainer.compile=max", "trainer.compile=max: must be auto, true or false: cpu has no CUDA graphs"),
    ("trainer.clip_grad_norm=big", "trainer.clip_grad_norm=big: must be null or a finite number in (0, 1000000000]"),
    ("wandb.tags=abc", "wandb.tags=abc: must be a list of strings or null"),
    ("output_dir=null", "output_dir=null: must be a string"),
    ("optimizer.lr=fast", "optimizer.lr=fast: must be a number"),
    ("optimizer.lr=[1,2]", "optimizer.lr=[1,2]: must be a number"),
    ("optimizer.lr={a:1}", "optimizer.lr={a:1}: must be a number"),
    ("mixup.alpha=null", "mixup.alpha=null: must be a number"),
    ("dataset.augment=3", "dataset.augment=3: must be one of augmix, randaugment, trivialaugment, true, false"),
    ("dataset.flip=1", "dataset.flip=1: must be one of alternating, true, false"),
    ("mixup.mixed_weight=-1", "mixup.mixed_weight=-1: must be lam or 1-lam or a finite number in (0, 1000000]"),
    ("mixup.mixed_weight=[1]", "mixup.mixed_weight=[1]: must be lam or 1-lam or a finite number in (0, 1000000]"),
    ("mixup.mixed_weight=half", "mixup.mixed_weight=half: must be lam or 1-lam or a finite number in (0, 1000000]"),
    ("trainer.threads=[1]", "trainer.threads=[1]: must be auto or an integer in [1, 1024]"),
    ("dataset.augment=no", "dataset.augment=no: must be one of augmix, randaugment, trivialaugment, true, false"),
    (
        "dataset.channels=2 dataset.mean=null dataset.std=null dataset.augment=augmix",
        "dataset.augment=augmix: must be true or false: a policy needs 1 or 3 channels, and dataset.channels is 2",
    ),
    ("dataset.mean=0.5", "dataset.mean=0.5: must be a list of numbers or null"),
    ("model=mlp model.hidden=64", "model.hidden=64: must be a list of integers"),
    ("mixup=manifold mixup.layers=input", "mixup.layers=input: must be a list of strings or null"),
    ("seed=null", "seed=null: must be an integer in [0, 9223372036854775807]"),
    ("seed=1.5", "seed=1.5: must be an integer in [0, 9223372036854775807]"),
    # keys
    ("epochs=1", f"epochs=1: no such key; did you mean trainer.epochs? allowed: {ROOT}"),
    ("+epochs=1", f"epochs=1: no such key; did you mean trainer.epochs? allowed: {ROOT}"),
    ("+foo.bar=1", f"foo={{bar:1}}: no such key; allowed: {ROOT}"),
    ("trainr.epochs=1", f"trainr.epochs=1: no such key; did you mean trainer? allowed: {ROOT}"),
    ("trainer.epoch=1", f"trainer.epoch=1: no such key; did you mean epochs? allowed: {TRAINER}"),
    ("+trainer.epoch=1", f"trainer.epoch=1: no such key; did you mean epochs? allowed: {TRAINER}"),
    (
        "+wandb.projekt=x",
        "wandb.projekt=x: no such key; did you mean project? "
        "allowed: mode, project, entity, name, group, notes, tags, images",
    ),
    (
        "dataset.train_sise=100",
        "dataset.train_sise=100: vicinal.data.sources.digits has no such argument; "
        f"did you mean train_size? allowed: {DATASET}",
    ),
    (
        "+dataset.train_sise=100",
        "dataset.train_sise=100: vicinal.data.sources.digits has no such argument; "
        f"did you mean train_size? allowed: {DATASET}",
    ),
    (
        "model.widht=3",
        "model.widht=3: vicinal.models.cnn.CNN has no such argument; did you mean model.width? "
        "allowed: conv_dropout, hidden_dropout",
    ),
    (
        "+model.widht=3",
        "model.widht=3: vicinal.models.cnn.CNN has no such argument; did you mean model.width? "
        "allowed: conv_dropout, hidden_dropout",
    ),
    (
        "scheduler.gama=0.1",
        "scheduler.gama=0.1: vicinal.training.schedules.cosine has no such argument; "
        "did you mean scheduler.gamma? allowed: min_lr, warmup_epochs",
    ),
    (
        "mixup.aplha=1",
        "mixup.aplha=1: vicinal.mixing.InputMixup has no such argument; "
        f"did you mean alpha? allowed: {MIXUP}",
    ),
    ("~mixup.alpha", "mixup.alpha=null: must be a finite number >= 0"),
    ("~optimizer.lr", "optimizer.lr=???: is missing; torch.optim.SGD needs it"),
    ("~seed", "seed=???: is missing"),
    ("trainer.clip_grad_norm=???", "trainer.clip_grad_norm=???: is missing"),
    ("output_dir=???", "output_dir=???: is missing"),
    ("+seed=3", "+seed=3: seed is there already; leave out the +"),
    ("+experiment=mnist_cnn", "+experiment=mnist_cnn: experiment is there already; leave out the +"),
    # options
    ("mixup=cutmx", "mixup=cutmx: no such option; did you mean cutmix? allowed: " + OPTIONS),
    ("mixup=reference/tim", "mixup=reference/tim: no such option; did you mean reference/timm? allowed: " + OPTIONS),
    ("mixup=timm", "mixup=timm: no such option; did you mean reference/timm? allowed: " + OPTIONS),
    ("mixup/reference=timm", "mixup/reference=timm: an option in a folder is written mixup=reference/timm"),
    (
        "model=resnet19",
        f"model=resnet19: no such option; did you mean resnet18? allowed: {MODELS}",
    ),
    ("wandb=off", "wandb=off: no such option; allowed: default"),
    ("experiment=nothing", f"experiment=nothing: no such option; allowed: {EXPERIMENTS}"),
    ("mixup=null", "mixup=null: must be the name of an option; --help lists them"),
    (
        "mixup._target_=vicinal.mixing.Nope",
        "mixup._target_=vicinal.mixing.Nope: must be the path of a class or function that can be imported",
    ),
    # ranges
    ("mixup.alpha=-1", "mixup.alpha=-1: must be a finite number in [0, 1000000]"),
    ("mixup.alpha=nan", "mixup.alpha=nan: must be a finite number in [0, 1000000]"),
    ("mixup.alpha=inf", "mixup.alpha=inf: must be a finite number in [0, 1000000]"),
    ("mixup.prob=1.5", "mixup.prob=1.5: must be a finite number in [0, 1]"),
    ("mixup.prob=-0.1", "mixup.prob=-0.1: must be a finite number in [0, 1]"),
    ("seed=-1", "seed=-1: must be an integer in [0, 9223372036854775807]"),
    ("trainer.batch_size=0", "trainer.batch_size=0: must be an integer in [1, 1000000]"),
    ("trainer.label_smoothing=2", "trainer.label_smoothing=2: must be a finite number in [0, 1]"),
    ("trainer.ema_decay=1.5", "trainer.ema_decay=1.5: must be null or a finite number in [0, 1]"),
    ("busy=no", "busy=no: must be one of wait, skip"),
    ("trainer.checkpoint_every=0", "trainer.checkpoint_every=0: must be an integer in [1, 1000000000]"),
    ("trainer.checkpoint_every=0steps", f"trainer.checkpoint_every=0steps: {EVERY}"),
    ("trainer.checkpoint_every=5mins", f"trainer.checkpoint_every=5mins: {EVERY}"),
    ("trainer.threads=0", "trainer.threads=0: must be auto or an integer in [1, 1024]"),
    ("trainer.threads=all", "trainer.threads=all: must be auto or an integer in [1, 1024]"),
    ("trainer.threads=2.5", "trainer.threads=2.5: must be auto or an integer in [1, 1024]"),
    ("dataset.train_size=0", "dataset.train_size=0: must be null or an integer in [1, 1000000000]"),
    ("optimizer.lr=0", "optimizer.lr=0: must be a finite number in (0, 1e+30]"),
    ("optimizer=adamw optimizer.betas=[0.9]", "optimizer.betas=[0.9]: must be a list of 2 numbers"),
    (
        "optimizer=adamw optimizer.betas=[0.9,1]",
        "optimizer.betas=[0.9,1]: each must be a finite number in [0, 1)",
    ),
    ("model.conv_dropout=1", "model.conv_dropout=1: must be a probability in [0, 1)"),
    ("wandb.mode=ofline", "wandb.mode=ofline: must be one of auto, online, offline, disabled"),
    ("scheduler=onecycle scheduler.pct_start=2", "scheduler.pct_start=2: must be in (0, 1)"),
    # what does not fit together
    (
        "mixup=manifold mixup.layers=[input,blok1]",
        "mixup.layers=blok1: no block of vicinal.models.cnn.CNN; did you mean block1? "
        "allowed: input, block1, block2, hidden",
    ),
    (
        "mixup=manifold mixup.layers=[]",
        'mixup.layers=[]: must be a list of block names or "input", at least one',
    ),
    (
        "optimizer.nesterov=true optimizer.momentum=0",
        "optimizer.momentum=0 optimizer.nesterov=true: Nesterov momentum requires a momentum and zero dampening",
    ),
    (
        "scheduler=multistep scheduler.milestones=[5,3]",
        "scheduler.milestones=[5,3]: must rise, and lie after the warm-up of 0.0 epochs",
    ),
    ("scheduler.warmup_epochs=40", "scheduler.warmup_epochs=40: must be < 30, trainer.epochs"),
    ("model=preact_resnet18 dataset.image_size=4", "dataset.image_size=4: must be at least 8 for PreActResNet"),
    ("model=torchvision model.name=vgg11", "dataset.image_size=8: must be at least 32 for VGG"),
    (
        "model=torchvision model.name=resnet19",
        "model.name=resnet19: must be a classification model of torchvision.models, "
        "such as resnet18 or resnet152 or resnet101",
    ),
    # the machine
    ("trainer.device=cuda", "trainer.device=cuda: must be one of what this machine has: auto, cpu"),
    ("trainer.device=tpu", "trainer.device=tpu: must be one of auto, cpu, cuda, mps"),
    (
        "trainer.device=cpu trainer.precision=fp16",
        "trainer.precision=fp16: must be one of what cpu can do: auto, bf16, fp32",
    ),
    (
        "dataset=imagefolder dataset.root={tmp}/nowhere",
        f"dataset.root={{tmp}}/nowhere: no folder {{tmp}}/nowhere/train; {TREE}",
    ),
    (
        "dataset=imagefolder dataset.root={tmp}/no_test",
        f"dataset.root={{tmp}}/no_test: no folder {{tmp}}/no_test/test; {TREE}",
    ),
    (
        "dataset.root=${oc.env:NOT_SET_ANYWHERE}",
        "dataset.root=${oc.env:NOT_SET_ANYWHERE}: the environment variable NOT_SET_ANYWHERE is not set",
    ),
    (
        "output_dir=${oc.env:NOT_SET_ANYWHERE}",
        "output_dir=${oc.env:NOT_SET_ANYWHERE}: the environment variable NOT_SET_ANYWHERE is not set",
    ),
    ("seed=${sead}", "seed=${sead}: there is no key sead"),
    ("output_dir={tmp}/file", "output_dir={tmp}/file: must be a folder, and {tmp}/file is a file"),
    # how it is written
    ("mixup.alpha=0.2,0.4", f"mixup.alpha=0.2,0.4: {SWEEP}"),
    ("mixup=input,cutmix", f"mixup=input,cutmix: {SWEEP}"),
    ("seed=range(3)", f"seed=range(3): {SWEEP}"),
    ("mixup.alpha=0.2 0.4", f"0.4: {NO_KEY}"),
    (
        "mixup.alpha=[",
        f"""mixup.alpha=[: cannot be read (no viable alternative at input '['); {QUOTE} 'mixup.alpha="["'""",
    ),
    # sweeps: every point is checked before the first one trains
    ("mixup.alpha=0.2,0.4,-1 -m", "mixup.alpha=-1: must be a finite number in [0, 1000000]"),
    ("experiment=alpha_sweep mixup.alpha=0.1,-1", "mixup.alpha=-1: must be a finite number in [0, 1000000]"),
    ("mixup=input,nothing -m", "mixup=nothing: no such option; allowed: " + OPTIONS),
    ("seed=range(0) -m", "seed=range(0): there is no value in it to sweep over"),
    ("seed=1,range(3) -m", f"seed=1,range(3): {ALONE}"),
    ("seed=range(3),range(3,5) -m", f"seed=range(3),range(3,5): {ALONE}"),
    ("mixup=glob(*),none -m", f"mixup=glob(*),none: {ALONE}"),
    ("mixup.alpha=0.1,interval(1,2) -m hydra/sweeper=search", f"mixup.alpha=0.1,interval(1,2): {ALONE}"),
    ("seed=0,1 -m hydra.sweeper.params=[1]", f"hydra.sweeper.params=[1]: {AXES}"),
    ("mixup.alpha=interval(1,2) -m hydra/sweeper=search hydra.sweeper.params=5", f"hydra.sweeper.params=5: {AXES}"),
    (
        "hydra.sweeper.max_batch_size=0 -m",
        "hydra.sweeper.max_batch_size=0: must be null or an integer >= 1",
    ),
    (
        "hydra.sweeper.zip=[mixup,mixup.alpha] mixup=none,input mixup.alpha=1,2,3 -m",
        "hydra.sweeper.zip: the keys must have as many values each, and have: mixup 2, mixup.alpha 3",
    ),
    (
        "hydra.sweeper.zip=[mixup,mixup.alpah] mixup=none,input mixup.alpha=1,2 -m",
        "hydra.sweeper.zip: mixup.alpah must have several values; keys that have: mixup, mixup.alpha",
    ),
    (
        "hydra.sweeper.zip=[mixup,mixup.alpha] mixup=none,input mixup.alpha=1,2 mixup.alpha=3 -m",
        "hydra.sweeper.zip: mixup.alpha must have several values; keys that have: mixup",
    ),
    (
        "dataset=digits,diabetes -m",
        "the runs of a sweep are compared with each other, and these are of several tasks: "
        "classification (dataset=digits), regression (dataset=diabetes)",
    ),
    (
        "hydra.sweeper.zip=[seed,seed] seed=0,1 -m",
        "hydra.sweeper.zip=[seed,seed]: must not have a key twice, as seed",
    ),
    # both ends
    ("trainer.threads=100000", "trainer.threads=100000: must be auto or an integer in [1, 1024]"),
    (
        "trainer.batch_size=9223372036854775808",
        "trainer.batch_size=9223372036854775808: must be an integer in [1, 1000000]",
    ),
    ("trainer.checkpoint_every=99999999999steps", f"trainer.checkpoint_every=99999999999steps: {EVERY}"),
    ("trainer.clip_grad_norm=1e400", "trainer.clip_grad_norm=inf: must be null or a finite number in (0, 1000000000]"),
    (
        f"trainer.clip_grad_norm={10**400}",
        f"trainer.clip_grad_norm={10**400}: must be null or a finite number in (0, 1000000000]",
    ),
    (f"wandb.images={10**400}", f"wandb.images={10**400}: must be an integer in [0, 1000]"),
    ("seed=18446744073709551616", "seed=18446744073709551616: must be an integer in [0, 9223372036854775807]"),
    (
        f"seed={'9' * 5000}",
        f"seed={'9' * 55}... (5005 characters): must be an integer in [0, 9223372036854775807]",
    ),
    (f"model.width={'9' * 5000}", f"model.width={'9' * 48}... (5012 characters): the number has too many digits"),
    ("dataset.split_seed=4294967296", "dataset.split_seed=4294967296: must be an integer in [0, 4294967295]"),
    ("dataset.crop_padding=1000000", "dataset.crop_padding=1000000: must be an integer in [0, 65536]"),
    (
        "dataset.augment=true dataset.crop_padding=9",
        "dataset.crop_padding=9: must be an integer in [0, 8], dataset.image_size",
    ),
    (
        "dataset.augment=true dataset.crop_fill=reflect dataset.crop_padding=8",
        "dataset.crop_padding=8: must be an integer in [0, 7], less than dataset.image_size",
    ),
    (
        "dataset=dsb2018 dataset.augment=true dataset.crop_fill=reflect",
        "dataset.crop_fill=reflect: must be black: mirrored pixels would be without the targets of "
        "dataset.task=segmentation",
    ),
    (
        "optimizer.norm_bias_lr=64",
        "optimizer.norm_bias_lr=64: must be 1: vicinal.models.cnn.CNN trains no bias of a normalisation layer",
    ),
    ("optimizer.norm_bias_lr=0", "optimizer.norm_bias_lr=0: must be a finite number in [1e-06, 1000000]"),
    ("trainer.eval_views=3", "trainer.eval_views=3: must be one of 1, 2, 6"),
    (
        "dataset=diabetes trainer.eval_views=2",
        "trainer.eval_views=2: must be 1: only images keep their target when they are mirrored, and only if it is a "
        "class",
    ),
    ("dataset.crop_fill=grey", "dataset.crop_fill=grey: must be one of black, reflect"),
    ("dataset.flip=both", "dataset.flip=both: must be one of alternating, true, false"),
    *(
        (f"dataset.image_size={value}", f"dataset.image_size={value}: must be an integer or a list of integers")
        for value in ("abc", "1.5", "null", "true", "[32,true]", "[a,b]", "[[1,2]]", "[1.5,2]", "[null,3]", "{a:1}")
    ),
    ("dataset.image_size=[32]", "dataset.image_size=[32]: must be an integer or a list of 2 integers"),
    ("dataset.image_size=[]", "dataset.image_size=[]: must be an integer or a list of 2 integers"),
    ("dataset.image_size=[32,0]", "dataset.image_size=[32,0]: each must be an integer in [1, 65536]"),
    ("dataset.image_size=0", "dataset.image_size=0: must be an integer in [1, 65536]"),
    ("dataset.image_size=[20,4]", "dataset.image_size=[20,4]: must be at least 6 for CNN"),
    (
        "dataset.image_size=[8,20] dataset.augment=true dataset.crop_padding=9",
        "dataset.crop_padding=9: must be an integer in [0, 8], the shorter side of dataset.image_size",
    ),
    (
        "dataset.image_size=[8,20] dataset.augment=true dataset.rotate=true",
        "dataset.rotate=true: must be false: right angles need squares, and dataset.image_size is [8,20]",
    ),
    (
        "dataset.image_size=[12,20] model=vit_tiny model.patch=8",
        "model.patch=8: must divide image_size, [12,20]",
    ),
    (
        "dataset.image_size=[32,64] model=torchvision model.name=vit_b_16",
        "dataset.image_size=[32,64]: must be one number for vit_b_16, which takes squares alone",
    ),
    ("scheduler=multistep scheduler.gamma=nan", "scheduler.gamma=nan: must be a finite number"),
    (
        "scheduler=multistep scheduler.milestones=[1,inf]",
        "scheduler.milestones=[1,inf]: must be a finite number",
    ),
    (
        "model=preact_resnet18 model.width=9223372036854775808",
        "model.width=9223372036854775808: must be an integer in [-9223372036854775807, 9223372036854775807]",
    ),
    (
        "model=wide_resnet28_10 model.depth=6000000004",
        "model.depth=6000000004: must be 6n + 4 with n >= 1: 10, 16, 22, 28, ... up to 1000",
    ),
    ("wandb.tags=[[1]]", "wandb.tags=[[1]]: must be a list of strings or null"),
    ("wandb.tags=[null]", "wandb.tags=[null]: must be a list of strings or null"),
    ("dataset.mean=[[1]]", "dataset.mean=[[1]]: must be a list of numbers or null"),
    ("dataset.mean=[0.1,0.2]", "dataset.mean=[0.1,0.2]: must be null or a list of 1, one number per channel"),
    ("mixup=manifold mixup.layers=['']", "mixup.layers=['']: must be a list of block names or \"input\", at least one"),
    (
        "trainer.batch_size=1 model=resnet18",
        "trainer.batch_size=1: must be at least 2 for vicinal.models.resnet.resnet18: Expected more than 1 value per "
        "channel when training, got input size torch.Size([1, 512, 1, 1])",
    ),
    # what is no component
    (
        "mixup._target_=builtins.dict",
        "mixup._target_=builtins.dict: no signature found for builtin type <class 'dict'>",
    ),
    (
        "dataset._target_=builtins.list",
        "dataset._target_=builtins.list: must be a subclass of Source, or a function that returns one",
    ),
    (
        "optimizer._target_=torch.optim.LBFGS",
        "optimizer._target_=torch.optim.LBFGS: cannot be stepped: LBFGS.step() missing 1 required positional argument: "
        "'closure'",
    ),
    ("scheduler=onecycle scheduler.div_factor=0", "scheduler.div_factor=0: must be a finite number > 0"),
    ("scheduler=multistep scheduler.gamma=-1", "scheduler.gamma=-1: must be a finite number >= 0"),
    # what only the data can show
    (
        "dataset.val_size=1437",
        "dataset.val_size=1437: must be 0 or from 10 to 1427: there are 1437 images of 10 classes to choose from",
    ),
    (
        "dataset.val_size=0,1437 -m",
        "dataset.val_size=1437: must be 0 or from 10 to 1427: there are 1437 images of 10 classes to choose from",
    ),
    (
        "dataset.train_size=5",
        "dataset.train_size=5: must be null, 1237 or from 10 to 1227: there are 1237 images of 10 classes to choose "
        "from",
    ),
    ("dataset.image_size=9", "dataset.image_size=9: must be 8, as in the data"),
    ("dataset.image_size=[8,9]", "dataset.image_size=[8,9]: must be 8, as in the data"),
    ("dataset.classes=7", "dataset.classes=7: must be 10, as in the data"),
    (
        "dataset=cifar10 dataset.name=CIFAR",
        "dataset.name=CIFAR: must be one of MNIST, FashionMNIST, CIFAR10, CIFAR100, SVHN",
    ),
    (
        "scheduler=onecycle scheduler.pct_start=0.01 trainer.epochs=2 trainer.batch_size=500",
        "scheduler.pct_start=0.01: must be more than a step, 1/6 of this training",
    ),
    # keys of other groups
    ("lr=0.1", f"lr=0.1: no such key; did you mean optimizer.lr? allowed: {ROOT}"),
    ("alpha=0.2", f"alpha=0.2: no such key; did you mean mixup.alpha? allowed: {ROOT}"),
    ("layer=[input]", f"layer=[input]: no such key; did you mean mixup.layers? allowed: {ROOT}"),
    ("trainer.lr=1", f"trainer.lr=1: no such key; did you mean optimizer.lr? allowed: {TRAINER}"),
    ("mixup=none mixup.foo=1", "mixup.foo=1: vicinal.mixing.NoMix has no such argument; it takes none"),
    # quotes
    (
        "output_dir=a=b",
        f"""output_dir=a=b: cannot be read (mismatched input '=' expecting <EOF>); {QUOTE} 'output_dir="a=b"'""",
    ),
    ("output_dir=\u00e9", f"""output_dir=\u00e9: cannot be read; {QUOTE} 'output_dir="\u00e9"'"""),
    ("output_dir=x,y", f"""output_dir=x,y: {SWEEP}; a text with a comma is quoted: 'output_dir="x,y"'"""),
    ("x,y", f"x,y: {NO_KEY}"),
    ("%", f"%: {NO_KEY}"),
    ("seed=1 +=", f"+=: {NO_KEY}"),
    ("seed=1 ~", f"~: {NO_KEY}"),
    # groups
    ("wandb=5", f"wandb=5: {OPTION}"),
    ("seed=1 trainer=[1]", f"trainer=[1]: {OPTION}"),
    ("~dataset=1.5", f"~dataset=1.5: {OPTION}"),
    # the whole command
    ("dry_run=true,false -m", "dry_run=true,false: dry_run is of the whole command, and cannot be swept"),
    ("output_dir=a,b -m", "output_dir=a,b: output_dir is of the whole command, and cannot be swept"),
    ("output_dir='~no_such_user_here/o'", "output_dir=~no_such_user_here/o: there is no user no_such_user_here"),
    # flags
    ("-m --cfg job", "Only one of --run, --multirun, --cfg, --info and --shell_completion can be specified"),
    (
        "--shell-completion",
        "--shell-completion: needs install=bash or uninstall=bash; a shell itself asks with query=bash",
    ),
    ("--resolve", "The --resolve flag can only be used in conjunction with --cfg or --help"),
    (
        "--experimental-rerun x",
        "--experimental-rerun x: a pickle is a program, not data; the config of a run is: --config-path FOLDER "
        "--config-name config",
    ),
    # axes
    (
        "mixup.alpha=interval(0,1) -m",
        "mixup.alpha=interval(0,1): an interval has no single values to run; write choice(0.2,0.4) or range(1,5)",
    ),
    (
        "mixup.alpha=range(0,1,0) -m",
        "mixup.alpha=range(0,1,0): start, stop and step must be finite numbers, and the step not 0",
    ),
    ("seed=range(1000000000) -m", f"seed=range(1000000000): 1000000000 {TOO_MANY}"),
    ("mixup.alpha=range(0,1,1e-9) -m", f"mixup.alpha=range(0,1,1e-9): 1000000000 {TOO_MANY}"),
    (
        "seed=range(400) mixup=input,none mixup.alpha=range(400) -m",
        f"seed=range(400) mixup=input,none mixup.alpha=range(400): 320000 {TOO_MANY}",
    ),
]  # fmt: skip

Train = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "no_test/train/cat").mkdir(parents=True)
    (tmp_path / "file").touch()
    return tmp_path


@pytest.fixture(autouse=True)
def cpu_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On any machine the lines are those of one with a CPU alone."""
    monkeypatch.setattr("vicinal.training.hardware._present", lambda device: device == "cpu")
    monkeypatch.delenv("NOT_SET_ANYWHERE", raising=False)


def test_the_table_is_long_enough() -> None:
    lines = [line for line, _ in REFUSED]
    assert len(set(lines)) == len(lines) >= 120


@pytest.mark.parametrize(("line", "message"), REFUSED, ids=[line for line, _ in REFUSED])
def test_a_mistake_is_one_line_and_leaves_nothing(line: str, message: str, folder: Path, train: Train) -> None:
    before = sorted(folder.rglob("*"))
    code, out, err = train(*line.replace("{tmp}", str(folder)).split(" "))
    assert err == f"error: {message}\n".replace("{tmp}", str(folder))
    assert out == ""
    assert code == 1
    assert sorted(folder.rglob("*")) == before


# A recipe of the user's own as bytes, and its message; {file} is its path.
RECIPES = {
    b"trainer: {epochs: 2}": "experiment=own: {recipe}",
    b"\xef\xbb\xbf# @package _global_\nseed: 1": "experiment=own: {recipe}",
    b"": "experiment=own: {recipe}",
    b"- 1\n- 2": "experiment=own: {recipe}",
    b"# @package _global_\n5": "{file}: Invalid loaded object type: int",
    b"# @package _global_\nlr: 0.1": f"lr: no such key; did you mean optimizer.lr? allowed: {ROOT}",
    b"# @package _global_\ndefaults:\n  - mixup: cutmix": (
        "experiment/own.yaml: write `override /mixup: cutmix` in its defaults"
    ),
    b"# @package _global_\ndefaults:\n  - /mixup: cutmix": (
        "experiment=own: mixup is chosen already; write `override mixup: cutmix` in its defaults"
    ),
    b"# @package _global_\ndefaults:\n  - override /mixxup: cutmix": (
        "experiment/own.yaml: override mixxup: there is no such group; did you mean mixup? "
        "allowed: dataset, model, optimizer, scheduler, mixup, trainer, tracker, wandb, experiment"
    ),
    b"# @package _global_\ntrainer:\n\tepochs: 2": "{file}, line 3: found a tab, that cannot start any token",
    b"# @package _global_\nseed: 1\nseed: 2": "{file}, line 3: found duplicate key seed",
    b"# @package _global_\n# caf\xe9": "{file}: must be UTF-8; byte 0xe9 is not",
    b"# @package _global_\nseed: *a": "{file}, line 2: found undefined alias 'a'",
    b"# @package _global_\ndefaults: 5": (
        "experiment=own: Invalid defaults list in 'experiment/own', defaults must be a list (got int)"
    ),
}


@pytest.mark.parametrize(("content", "message"), RECIPES.items(), ids=map(repr, RECIPES))
def test_a_recipe_that_cannot_be_used_is_one_line(content: bytes, message: str, folder: Path, train: Train) -> None:
    file = folder / "own/experiment/own.yaml"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    recipe = "its file must begin with the line `# @package _global_`, and then say `key: value`"
    expected = message.replace("{file}", str(file)).replace("{recipe}", recipe)
    assert train("--config-dir", "own", "experiment=own") == (1, "", f"error: {expected}\n")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--multirn", "--multirn: no such flag; did you mean --multirun? --hydra-help lists them"),
        ("--qqq=1 seed=1", "--qqq=1: no such flag; --hydra-help lists them"),
        ("--config-dir", "argument --config-dir/-cd: expected one argument; --hydra-help lists the flags"),
    ],
)
def test_an_unknown_flag_is_one_line_and_exit_code_2(line: str, message: str, folder: Path, train: Train) -> None:
    assert train(*line.split(" ")) == (2, "", f"error: {message}\n")


def test_overrides_may_stand_between_flags(train: Train) -> None:
    code, out, err = train("seed=4", "--cfg", "job", "mixup.alpha=0.7", "--package", "mixup")
    assert (code, err) == (0, "")
    assert "alpha: 0.7\n" in out


def test_a_network_that_no_machine_holds_is_refused_before_memory_is_taken(train: Train) -> None:
    code, out, err = train("model=mlp", "model.hidden=[16,99999999999]")
    assert (code, out) == (1, "")
    assert err.startswith(
        "error: model.hidden=[16,99999999999]: the network is too large: its weights and gradients would take 2.16e+04 "
    )
    assert train("model=mlp", "model.hidden=[4611686018427387904]")[2].startswith(
        "error: model.hidden=[46116860184273879"
    )


def test_what_a_component_raises_is_one_line_whatever_it_is(
    folder: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "own_parts.py").write_text(
        "from vicinal.mixing import NoMix\n\ndef strategy(length: int = 1) -> NoMix:\n    return [NoMix()][length]\n"
    )
    monkeypatch.syspath_prepend(str(folder))
    code, out, err = train("mixup=none", "mixup._target_=own_parts.strategy", "+mixup.length=3")
    assert (code, out) == (1, "")
    assert err == "error: mixup._target_=own_parts.strategy: IndexError: list index out of range\n"


def test_a_bug_is_not_taken_for_a_mistake(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vicinal.config.request.check_images", lambda values: {}["x"])
    with pytest.raises(KeyError):
        train("seed=1")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "dataset.val_size=9",
            "dataset.val_size=9: must be 0 or from 2 to 4: there are 6 images of 2 classes to choose from",
        ),
        (
            "dataset.val_size=2 dataset.train_size=3",
            "dataset.train_size=3: must be null, 4 or from 2 to 2: there are 4 ",
        ),
        ("dataset.val_size=0 dataset.classes=3", "dataset.classes=3: must be 2, as in the data"),
        ("dataset.val_size=0 dataset.channels=2", "dataset.channels=2: must be 1 (grey) or 3 (RGB)"),
    ],
)
def test_a_tree_of_images_is_not_decoded_for_a_refusal(line: str, message: str, folder: Path, train: Train) -> None:
    from PIL import Image

    for place in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (folder / "tree" / place).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / "tree" / place / f"{place[-3:]}{number}.png")
    before = sorted(folder.rglob("*"))
    words = ("dataset=imagefolder", "dataset.root=tree", "dataset.image_size=8", "dataset.crop_padding=0")
    code, _, err = train(*words, *line.split(" "))
    assert code == 1
    assert err.startswith(f"error: {message}")
    assert sorted(folder.rglob("*")) == before


def test_a_home_is_expanded_where_a_folder_is_named(
    folder: Path, compose: Callable[..., Experiment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    asked = compose("output_dir='~/o'", "dataset.root='~/d'")
    assert asked.folder.path.parent == folder / "o/runs"
    assert asked.config["dataset"]["root"] == f"{folder}/d"
    assert asked.config["dataset"]["cache_dir"] == f"{folder}/o/cache"


def test_a_mistake_in_a_file_is_found_like_one_on_the_command_line(folder: Path, train: Train) -> None:
    recipes = folder / "own/experiment"
    recipes.mkdir(parents=True)
    for name, content in {
        "word": "trainer: {epochs: many}",
        "typo": "trainer: {epoch: 3}",
        "own": "mixup: {strength: 1}",
    }.items():
        (recipes / f"{name}.yaml").write_text(f"# @package _global_\n{content}\n")
    messages = {
        "word": "trainer.epochs=many: must be an integer in [1, 1000000]",
        "typo": f"trainer.epoch: no such key; did you mean epochs? allowed: {TRAINER}",
        "own": f"mixup.strength=1: vicinal.mixing.InputMixup has no such argument; allowed: {MIXUP}",
    }
    for name, message in messages.items():
        assert train("--config-dir", str(folder / "own"), f"experiment={name}") == (1, "", f"error: {message}\n")


def test_two_mistakes_in_a_row_do_not_disturb_each_other(folder: Path, train: Train) -> None:
    first = train("mixup.alpha=-1")
    assert train("mixup=cutmx")[0] == 1
    assert train("mixup.alpha=-1") == first
    assert train("dry_run=true")[0] == 0


def subprocess_of(words: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPO / "train.py"), *words]
    inherited = {name: value for name, value in os.environ.items() if name != "HYDRA_FULL_ERROR"}
    return subprocess.run(command, cwd=folder, env=inherited | environment, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "mixup.alpha=nan",
        "trainer.epoch=1",
        "mixup=cutmx",
        "mixup=manifold mixup.layers=[]",
        "mixup.alpha=0.2,0.4,-1 -m",
    ],
)
def test_the_real_program_says_the_same(line: str, folder: Path) -> None:
    start = subprocess_of if line.endswith("-m") else forked.run  # the others without the imports
    ended = start(line.split(" "), folder)
    assert (ended.returncode, ended.stdout, ended.stderr) == (1, "", f"error: {dict(REFUSED)[line]}\n")


@pytest.mark.slow
def test_a_traceback_is_there_for_the_asking(folder: Path) -> None:
    ended = subprocess_of(["mixup.alpha=nan"], folder, HYDRA_FULL_ERROR="1")
    assert ended.returncode == 1
    assert "Traceback (most recent call last)" in ended.stderr
    assert re.search(
        r"^vicinal\.errors\.ConfigError: mixup\.alpha=nan: must be a finite number in \[0, 1000000\]$",
        ended.stderr,
        re.M,
    )

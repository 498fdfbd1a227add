"""What a strategy cannot do with inputs, targets or a network is one line, before there is a folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.data.box_files import write_voc
from vicinal.dry_build import make_strategy
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.mixing import MixPlan, Mixup
from vicinal.mixing.context import Context
from vicinal.mixing.label_rules import LabelRule
from vicinal.models.vit import ViT

VIT = "dataset=digits model=vit_tiny"
MASKED = "dataset=digits model._target_=tests.test_dry_build.Masked ~model.conv_dropout ~model.hidden_dropout"


class Halved(ViT):
    """Looks at the upper half of the patches alone."""

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patches(images[..., : images.shape[-2] // 2, :]).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1)
        for name in self.blocks:
            x = getattr(self, name)(x)
        return self.head(x[:, 0])


def squares(channels: int, image_size: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size**2, classes))


class Masked(nn.Module):
    """Its first block returns features and where they count, its second features alone."""

    blocks = ("block1", "block2")

    def __init__(self, channels: int, image_size: int, classes: int, booleans: bool = False) -> None:
        super().__init__()
        self.block1, self.block2 = Pair(channels, booleans), nn.Conv2d(4, 4, 3)
        self.head = nn.Linear(4 * (image_size - 4) ** 2, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.block2(self.block1(images)[0]).flatten(1))


class Pair(nn.Module):
    def __init__(self, channels: int, booleans: bool) -> None:
        super().__init__()
        self.conv, self.booleans = nn.Conv2d(channels, 4, 3), booleans

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.conv(images)
        return x, x > 0 if self.booleans else x


def first_side(channels: int, image_size: tuple[int, int], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * image_size[0] ** 2, classes))


def no_schedule(optimizer, total_steps, steps_per_epoch, min_lr=0.0, warmup_epochs=0.0):  # type: ignore[no-untyped-def]
    """Forgets to return it."""


def no_network(channels: int, image_size: int, classes: int):  # type: ignore[no-untyped-def]
    return [nn.Flatten(), nn.Linear(channels * image_size**2, classes)]


@dataclass(frozen=True)
class Tripled(LabelRule):
    def weight(self, drawn: Tensor, area: Tensor, partner: Tensor, context: Context) -> Tensor:
        return 3 * area


@dataclass(frozen=True)
class Nothing(Mixup):
    def make_plan(self, *_: Any) -> MixPlan:
        return None  # type: ignore[return-value]


IMAGES = "images (B, C, H, W)"
PLACES = "images, clips and the like (B, C, ...)"
ROWS = "and these inputs are rows (B, 10)"
DISTANCES = "must be a rule without distances: they are of the numbers of a regression, not of labels (16,) int64"
LINES = [
    ("dataset=diabetes mixup=puzzlemix",
     f"mixup._target_=vicinal.mixing.saliency.PuzzleMix: PuzzleMix mixes {IMAGES}, {ROWS}"),
    ("dataset=diabetes mixup=ricap", f"mixup._target_=vicinal.mixing.pasting.Ricap: Ricap mixes {IMAGES}, {ROWS}"),
    ("dataset=diabetes mixup=cutout", f"mixup._target_=vicinal.mixing.pasting.Cutout: Cutout mixes {IMAGES}, {ROWS}"),
    ("dataset=diabetes mixup=fmix mixup.depth=hidden1",
     f"mixup.depth=hidden1: must be where {IMAGES} are, for FMix, and hidden1 returns (B, "),
    ("dataset=digits mixup=between_class",
     "mixup._target_=vicinal.mixing.sound.BetweenClass: BetweenClass mixes clips of sound (B, 1, T), and these inputs "
     "are images (B, 1, 8, 8)"),
    (f"{VIT} mixup=cutmix mixup.depth=block1",
     "mixup.depth=block1: must be where images, clips and the like (B, C, ...) are, for CutMix, and block1 returns "
     "vectors (B, "),
    (f"{VIT} mixup=ricap mixup.depth=block1", f"mixup.depth=block1: must be where {IMAGES} are, for Ricap, and "),
    (f"{VIT} mixup=transmix mixup.attention=block1",
     "mixup.attention=block1: must be a block that returns attention, [heads, T, T]; it returns ["),
    (f"{VIT} dataset.image_size=[8,12] mixup=transmix model._target_=tests.test_dry_build.Halved",
     "mixup.attention=attention: must be of one token and all patches; 3 patches are no grid of squares of an image of "
     "8 x 12 pixels"),
    ("dataset=digits dataset.image_size=[8,12] model._target_=tests.test_dry_build.squares ~model.conv_dropout "
     "~model.hidden_dropout",
     "dataset.image_size=[8,12]: must be one number for tests.test_dry_build.squares, which is made for squares alone "
     "(TypeError: unsupported operand type(s) for ** or pow(): 'tuple' and 'int')"),
    ("dataset=digits dataset.image_size=[8,12] model._target_=tests.test_dry_build.first_side ~model.conv_dropout "
     "~model.hidden_dropout",
     "dataset.image_size=[8,12]: does not fit Sequential: "),
    ("dataset=digits mixup=c_mixup", f"mixup.partner=label_kernel: {DISTANCES}"),
    ("dataset=digits mixup=smoothmix mixup.labels=drawn",
     "mixup.labels=drawn: must be area, majority, remix, constant for SmoothMix, no lambda is drawn"),
    ("dataset=digits mixup=moex mixup.labels=area",
     "mixup.labels=area: must be constant for MoEx, no lambda is drawn"),
    ("dataset=digits model=mlp mixup=input mixup.members=3 mixup.labels=constant mixup.window=[0.5,1]",
     'mixup.labels=constant: must be area for more than two members'),
    ("dataset=digits mixup=ricap mixup.partner=blank mixup.prob=0.001",
     "mixup.partner=blank: must not be blank where more than two samples are mixed"),
    ("dataset=diabetes mixup=remix mixup.window=[0.5,1]",
     "mixup.labels=remix: must be one without classes: a sample of these data has not one"),
    ("dataset=diabetes mixup=one_of mixup.weights={input:0.001,cutmix:0.001}",
     f"mixup.strategies.cutmix._target_=vicinal.mixing.CutMix: CutMix mixes {PLACES}, {ROWS}"),
    ("dataset=digits mixup=moex mixup.layers=[input]",
     "mixup._target_=vicinal.mixing.features.MoEx: cannot mix images of [1, 8, 8]: moments are exchanged"),
    (f"{VIT} mixup=alignmix",
     "mixup.layers=null: must name blocks of vicinal.models.vit.ViT: no block returns one tensor with two or more "),
    (f"{VIT} mixup=alignmix mixup.layers=[block2]",
     "mixup._target_=vicinal.mixing.features.AlignMix: cannot mix outputs of block2 of [5, 96]: features "),
    ("dataset=digits model=preact_resnet18 model.width=4 mixup=alignmix mixup.layers=[input,layer4]",
     "mixup._target_=vicinal.mixing.features.AlignMix: cannot mix outputs of layer4 of [32, 1, 1]: features "),
    ("dataset=digits mixup=input mixup.labels={_target_:tests.test_dry_build.Tripled}",
     "mixup.labels={_target_:tests.test_dry_build.Tripled}: must be weighed by numbers in [0, 1]"),
    ("dataset=digits mixup._target_=tests.test_dry_build.Nothing",
     "mixup._target_=tests.test_dry_build.Nothing: TypeError: make_plan must return a MixPlan, got None"),
    ("dataset=digits mixup=input mixup.window=[1,1]",
     "mixup.window=[1,1]: must be [start, stop] with 0 <= start < stop"),
    ("dataset=digits mixup=input mixup.law=uniform mixup.members=3",
     "mixup.law=uniform: must be beta for more than two members"),
    ("dataset=digits scheduler._target_=tests.test_dry_build.no_schedule",
     "scheduler._target_=tests.test_dry_build.no_schedule: must return LRScheduler, not None"),
    ("dataset=digits model._target_=tests.test_dry_build.no_network ~model.conv_dropout ~model.hidden_dropout",
     "model._target_=tests.test_dry_build.no_network: must return Module, not list"),
    (f"{MASKED} +model.booleans=true mixup=manifold mixup.layers=[block1]",
     "mixup.layers=block1: cannot be mixed: mixing needs floating-point values, got torch.bool"),
    (f"{MASKED} mixup=cutmix mixup.depth=block1",
     "mixup.depth=block1: a mask is drawn for one tensor, and it returns another thing"),
    ("dataset=digits mixup=input mixup.window=[30,40]",
     "mixup.window=[30,40]: must begin before epoch 30, trainer.epochs"),
    ("dataset=digits trainer.epochs=8 mixup=one_of mixup.strategies.cutmix.window=[8,9]",
     "mixup.strategies.cutmix.window=[8,9]: must begin before epoch 8, trainer.epochs"),
    ("dataset=digits mixup=one_of mixup.strategies.input.clean_weight=1",
     "mixup.strategies={input:{_target_:vicinal.mixing.InputMixup,alpha:0.8,clean_weight:1},cutmix:{_target_:"
     "vicinal.mixing.CutMix,alpha:1}}: must leave clean_weight to mixup.clean_weight, for all of them; input has 1, "
     "not 0.0"),
    ("dataset=digits mixup=balanced mixup.alpha=0", "mixup.alpha=0: must be > 0 for law=asymmetric"),
    ("dataset=digits dataset.sampler=class_balanced trainer.logit_adjustment=1",
     "trainer.logit_adjustment=1: must be 0 with dataset.sampler=class_balanced, which shows each class as often"),
    ("dataset=digits dataset.sampler=class_balanced trainer.class_weights=inverse",
     "trainer.class_weights=inverse: must be none with dataset.sampler=class_balanced, which shows each class as"),
    ("trainer.epochs=4 trainer.class_weights=inverse trainer.class_weights_from=0.8",
     "trainer.class_weights_from=0.8: must be at most 0.75, so that the last of 4 epochs is weighted"),
    ("trainer.epochs=4 trainer.class_weights=inverse trainer.class_weights_from=4",
     "trainer.class_weights_from=4: must be at most 3, so that the last of 4 epochs is weighted"),
    ("trainer.epochs=4 trainer.class_weights=inverse trainer.class_weights_from=1",
     "trainer.class_weights_from=1: must be at most 0.75, so that the last of 4 epochs is weighted"),
    ("optimizer.norm_bias_lr=0.01 optimizer.lr=0.1 scheduler.min_lr=0.05 model=preact_resnet18 model.width=4",
     "scheduler.min_lr=0.05: must be in [0, 0.001], the peak by optimizer.lr and norm_bias_lr"),
    ("dataset=digits mixup=one_of +mixup.strategies.cutmix.depth=bogus",
     "mixup.strategies.cutmix.depth=bogus: no block of vicinal.models.cnn.CNN"),
    ("mixup=one_of mixup.strategies.input={_target_:vicinal.mixing.ManifoldMixup,alpha:1,layers:[block1,no]}",
     "mixup.strategies.input.layers=no: no block of vicinal.models.cnn.CNN"),
    ("dataset=digits mixup=one_of +mixup.strategies.input.partner=label_kernel",
     "mixup.strategies.input.partner=label_kernel: must be"),
    ("dataset=digits mixup=one_of +mixup.strategies.input.window=[30,31]",
     "mixup.strategies.input.window=[30,31]: must begin before epoch 30, trainer.epochs"),
    ("dataset=digits mixup=one_of +mixup.strategies.input.alpha_end=-1",
     "mixup.strategies.input.alpha_end=-1: must be a finite number >= 0"),
    ("dataset=digits mixup=input mixup.law=asymmetric mixup.alpha_end=0",
     "mixup.alpha_end=0: must be > 0 for law=asymmetric"),
    ("dataset=digits mixup=cutout mixup.size=16",
     "mixup.size=16: must be at most 15: nothing would be left of 8 x 8 places"),
    ("dataset=digits mixup=fmix mixup.decay=50",
     "mixup.decay=50: must be smaller for 8 x 8 places, some amplitudes are infinite"),
    ("dataset=digits mixup=zeta mixup.labels=majority",
     "mixup.labels=majority: must be area for ZetaMixup"),
    ("dataset=digits mixup=input mixup.members=3 mixup.labels=drawn",
     "mixup.labels=drawn: must be area for more than two members"),
    ("dataset=digits mixup=one_of +mixup.strategies.input.members=1001",
     "mixup.strategies.input.members=1001: must be at most 1000 for InputMixup"),
    ("dataset=digits mixup=one_of +mixup.strategies.cutmix.layers=null",
     "mixup.strategies.cutmix.layers=null: "),
    ("dataset=digits mixup=input mixup.members=1001",
     "mixup.members=1001: must be an integer in [2, 1000]"),
    ("dataset=diabetes mixup=unimix mixup.partner=roll",
     "mixup._target_=vicinal.mixing.unimix.UniMix: the strategy must be one without classes"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "message"), LINES, ids=[words for words, _ in LINES])
def test_what_does_not_fit_is_refused_in_a_line(
    compose: Callable[..., Experiment], tmp_path: Path, words: str, message: str
) -> None:
    with pytest.raises(UserError) as refused:
        compose(*words.split())
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "outputs/runs").exists()


def test_a_choice_may_blend_a_block_of_two_tensors_and_cut_another(compose: Callable[..., Experiment]) -> None:
    parts = (
        "input:{_target_:vicinal.mixing.ManifoldMixup,alpha:1,layers:[block1]},"
        "cutmix:{_target_:vicinal.mixing.CutMix,alpha:1,depth:block2}"
    )
    experiment = compose(*MASKED.split(), "mixup=one_of", f"mixup.strategies={{{parts}}}")
    assert make_strategy(experiment.mixup).depths == ["block1", "block2"]


@pytest.mark.parametrize(
    ("words", "layers"),
    [
        ("model=cnn", ["input", "block2"]),
        ("model=preact_resnet18 model.width=4", ["input", "layer3"]),  # layer4 has one place
        ("model=preact_resnet18 model.width=4 dataset.image_size=16", ["input", "layer4"]),
        ("model=cnn mixup.layers=[block1]", ["block1"]),
    ],
)
def test_features_are_aligned_at_the_last_block_with_places(
    compose: Callable[..., Experiment], words: str, layers: list[str]
) -> None:
    assert compose("dataset=digits", "mixup=alignmix", *words.split()).strategy.depths == layers


def test_a_part_of_a_choice_may_choose_its_own_layers(compose: Callable[..., Experiment]) -> None:
    part = "{_target_:vicinal.mixing.ManifoldMixup,alpha:2,layers:null}"
    experiment = compose("dataset=digits", "mixup=one_of", f"mixup.strategies.input={part}")
    alone = compose("dataset=digits", "mixup=manifold")
    assert experiment.strategy.depths == [*alone.strategy.depths]


@pytest.mark.parametrize("together", [True, False])
def test_two_batches_in_one_pass_need_outputs_of_one_tensor(
    compose: Callable[..., Experiment], tmp_path: Path, together: bool
) -> None:
    write_voc(tmp_path / "voc")
    words = ["dataset=bccd", f"dataset.folder={tmp_path / 'voc'}", "dataset.names=[bar,dot]", "mixup=regmixup"]
    words += ["model=torchvision_detection", f"mixup.together={together}"]
    if not together:
        assert compose(*words).strategy.clean_weight == 1
        return
    with pytest.raises(UserError, match=r"^mixup.together=true: must be false: the outputs of .* are not one tensor$"):
        compose(*words)


@pytest.mark.parametrize(
    "words",
    [
        f"{VIT} mixup=moex",
        f"{VIT} mixup=transmix",
        "dataset=diabetes mixup=c_mixup",
        "dataset=diabetes mixup=zeta",
        "dataset=digits mixup=ricap mixup.depth=block1",
        "dataset=digits mixup=resizemix mixup.labels=drawn",
        "dataset=digits mixup=input mixup.window=[29,40]",
        "dataset=digits mixup=one_of mixup.strategies.cutmix.window=[0.5,1]",
        "trainer.epochs=4 trainer.class_weights=inverse trainer.class_weights_from=0.75",
        "trainer.epochs=4 trainer.class_weights=inverse trainer.class_weights_from=3",
    ],
)
def test_what_fits_is_taken(compose: Callable[..., Experiment], words: str) -> None:
    assert compose(*words.split()).strategy.depths

"""Segmentation against torchmetrics, scikit-learn, torchvision, and sums that are written out pixel by pixel."""

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torchmetrics.classification as tm
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix
from torch import Tensor
from torchmetrics.functional.segmentation import dice_score
from torchvision.transforms.v2 import functional as transforms

from vicinal.data import CropFlip, RunData, Samples
from vicinal.mixing import MixPlan
from vicinal.mixing.fields import HardMask, SoftMask
from vicinal.mixing.masks import Boxes
from vicinal.mixing.pasting import CropsPlan, ResizeIntoBox
from vicinal.mixing.several import blend
from vicinal.mixing.transforms import Blank
from vicinal.tasks import SEGMENTATION
from vicinal.tasks.pixel_losses import PixelLoss
from vicinal.tasks.segmentation import IGNORE

CPU = torch.device("cpu")
BATCH, CLASSES, SIDE = 4, 3, 6
PARTNER = torch.tensor([2, 0, 3, 1])
LAM = torch.tensor([0.7, 0.2, 1.0, 0.5])


def random_batch(seed: int = 0, classes: int = CLASSES, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    """Logits (B, K, H, W), and maps (B, H, W) in which a fifth of the pixels does not count."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, SIDE, SIDE, generator=generator)
    maps = torch.randint(classes, (batch, SIDE, SIDE), generator=generator)
    maps[torch.rand(maps.shape, generator=generator) < 0.2] = IGNORE
    return logits, maps.to(torch.uint8)


def scores(logits: Tensor, maps: Tensor, size: int = 3) -> dict[str, float]:
    evaluator = SEGMENTATION.evaluator(CPU)
    for start in range(0, len(maps), size):
        evaluator.update(SEGMENTATION.read(logits[start : start + size]), maps[start : start + size])
    return evaluator.compute()


@given(st.integers(0, 10**6), st.integers(2, 5))
def test_metrics_equal_torchmetrics_and_scikit_learn(seed: int, classes: int) -> None:
    logits, maps = random_batch(seed, classes, batch=5)
    found, true = scores(logits, maps), maps.long()
    options: Any = {"num_classes": classes, "ignore_index": IGNORE, "average": "macro"}
    assert found["miou"] == pytest.approx(tm.MulticlassJaccardIndex(**options)(logits, true).item(), abs=1e-6)
    assert found["dice"] == pytest.approx(tm.MulticlassF1Score(**options)(logits, true).item(), abs=1e-6)
    counted, predicted = maps != IGNORE, logits.argmax(1)
    table = confusion_matrix(true[counted], predicted[counted], labels=range(classes))
    iou = table.diagonal() / (table.sum(0) + table.sum(1) - table.diagonal())
    assert found["iou"] == pytest.approx(iou[1:].mean())
    assert found["pixel_acc"] == pytest.approx(accuracy_score(true[counted], predicted[counted]))
    if classes == 2:
        binary = tm.BinaryJaccardIndex(ignore_index=IGNORE)(predicted, true).item()
        assert found["iou"] == pytest.approx(binary, abs=1e-6)


def test_the_mean_image_by_image_is_that_of_each_image_alone() -> None:
    logits, maps = random_batch()
    maps[0][maps[0] == 1] = 0  # a class that the first image lacks, and is said to have
    each = [
        tm.MulticlassJaccardIndex(CLASSES, ignore_index=IGNORE)(logits[i : i + 1], maps[i : i + 1].long()).item()
        for i in range(BATCH)
    ]
    assert scores(logits, maps)["image_iou"] == pytest.approx(np.mean(each), abs=1e-6)


def test_an_image_without_a_counted_pixel_is_in_no_mean() -> None:
    logits, maps = random_batch()
    maps[1] = IGNORE
    some = [0, 2, 3]
    assert scores(logits, maps) == pytest.approx(scores(logits[some], maps[some]))
    losses = [
        torch.nn.functional.cross_entropy(logits[i : i + 1], maps[i : i + 1].long(), ignore_index=IGNORE).item()
        for i in some
    ]
    assert scores(logits, maps)["nll"] == pytest.approx(np.mean(losses))


@pytest.mark.parametrize("name", ["train", "val", "test"])
def test_a_part_without_a_counted_pixel_is_refused(name: str) -> None:
    _, maps = random_batch()
    given = replace(data(maps), val=data(maps).train)
    part = getattr(given, name)
    given = replace(given, **{name: part._replace(targets=torch.full_like(maps, IGNORE))})
    with pytest.raises(
        ValueError, match=f"^task must fit the targets: maps need pixels that count, and {name} has none$"
    ):
        SEGMENTATION.refuse(given, (1, SIDE, SIDE))


def test_classes_that_nobody_has_are_left_out() -> None:
    maps = torch.zeros(2, SIDE, SIDE, dtype=torch.uint8)
    maps[:, :3] = 1
    logits = torch.zeros(2, 4, SIDE, SIDE)
    logits[:, 1] = 1.0  # all pixels are said to be of class 1, a half is
    found = scores(logits, maps)
    assert (found["miou"], found["iou"], found["pixel_acc"]) == pytest.approx((0.25, 0.5, 0.5))
    assert found["dice"] == pytest.approx((0 + 2 / 3) / 2)


def test_an_image_without_counted_pixels_counts_for_nothing() -> None:
    logits, maps = random_batch()
    maps[:] = IGNORE
    assert set(scores(logits, maps).values()) == {0.0}
    logits.requires_grad_()
    for kind in SEGMENTATION.losses:
        loss = PixelLoss(kind)(MixPlan(LAM, PARTNER), logits, maps)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.item() == 0
        assert not gradient.any()


def cross_entropy(logits: Tensor, maps: Tensor) -> float:
    """Of one image, pixel by pixel."""
    costs = [
        -logits[:, y, x].log_softmax(0)[maps[y, x].long()].item()
        for y in range(SIDE)
        for x in range(SIDE)
        if maps[y, x] != IGNORE
    ]
    return sum(costs) / max(len(costs), 1)


def dice(logits: Tensor, maps: Tensor) -> float:
    """1 - Dice of one image, class by class."""
    p, counted = logits.softmax(0), maps != IGNORE
    values = []
    for label in range(len(logits)):
        both = p[label][maps == label].sum().item()
        values.append((2 * both + 1) / (p[label][counted].sum().item() + int((maps == label).sum()) + 1))
    return 1 - sum(values) / len(values)


TERMS = {"ce": (cross_entropy,), "dice": (dice,), "ce_dice": (cross_entropy, dice)}


def one(kind: str, logits: Tensor, maps: Tensor) -> float:
    return sum(term(logits, maps) for term in TERMS[kind])


@pytest.mark.parametrize("kind", TERMS)
@pytest.mark.parametrize("layer", [None, "encoder1"])
def test_blended_samples_have_the_weighted_sum_of_both_losses(kind: str, layer: str | None) -> None:
    logits, maps = random_batch()
    expected = [
        lam * one(kind, logits[i], maps[i]) + (1 - lam) * one(kind, logits[i], maps[PARTNER[i]])
        for i, lam in enumerate(LAM.tolist())
    ]
    plan = MixPlan(LAM, PARTNER, layer)
    assert PixelLoss(kind)(plan, logits, maps).item() == pytest.approx(np.mean(expected), rel=1e-5)
    weight = torch.tensor([0.1, 0.0, 2.0, 1.0])
    weighted = PixelLoss(kind)(plan, logits, maps, weight).item()
    assert weighted == pytest.approx(np.mean(np.array(expected) * weight.numpy()), rel=1e-5)


@pytest.mark.parametrize("kind", TERMS)
def test_pasted_samples_have_one_loss_to_the_map_that_is_cut_too(kind: str) -> None:
    logits, maps = random_batch()
    own = torch.rand(BATCH, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1)) < 0.5
    expected = []
    for i in range(BATCH):
        pasted = maps[i].clone()
        for y in range(SIDE):
            for x in range(SIDE):
                if not own[i, 0, y, x]:
                    pasted[y, x] = maps[PARTNER[i], y, x]
        expected.append(one(kind, logits[i], pasted))
    plan = MixPlan(LAM, PARTNER, mask=HardMask(own))
    assert PixelLoss(kind)(plan, logits, maps).item() == pytest.approx(np.mean(expected), rel=1e-5)
    with_instances = torch.stack([maps, torch.full_like(maps, 7)], dim=1)
    assert PixelLoss(kind)(plan, logits, with_instances).item() == pytest.approx(np.mean(expected), rel=1e-5)
    hidden = PixelLoss(kind)(replace(plan, layer="encoder1"), logits, maps)
    assert torch.equal(hidden, PixelLoss(kind)(MixPlan(LAM, PARTNER), logits, maps))


def test_a_soft_mask_weighs_each_pixel() -> None:
    logits, maps = random_batch()
    own = torch.rand(BATCH, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    expected = []
    for i in range(BATCH):
        cost = weight = 0.0
        for y in range(SIDE):
            for x in range(SIDE):
                share = own[i, 0, y, x].item()
                for part, label in ((share, maps[i, y, x]), (1 - share, maps[PARTNER[i], y, x])):
                    if label != IGNORE:
                        cost -= part * logits[i, :, y, x].log_softmax(0)[label.long()].item()
                        weight += part
        expected.append(cost / weight)
    plan = MixPlan(LAM, PARTNER, mask=SoftMask(own))
    assert PixelLoss("ce")(plan, logits, maps).item() == pytest.approx(np.mean(expected), rel=1e-5)
    blended = PixelLoss("dice")(MixPlan(LAM, PARTNER), logits, maps).item()
    assert PixelLoss("dice")(plan, logits, maps).item() == pytest.approx(blended, rel=1e-6)
    total = PixelLoss("ce_dice")(plan, logits, maps).item()
    assert total == pytest.approx(np.mean(expected) + blended, rel=1e-5)


def test_dice_is_one_less_torchmetrics_score_where_predictions_are_certain() -> None:
    logits, maps = random_batch()
    maps[maps == IGNORE] = 0
    predicted = logits.argmax(1)
    sharp = torch.nn.functional.one_hot(predicted, CLASSES).movedim(-1, 1) * 100.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = dice_score(predicted, maps.long(), CLASSES, average="none", input_format="index")
    assert score.shape == (BATCH, CLASSES)
    # (2 both + 1) / (sizes + 1), by torchmetrics' 2 both / sizes
    sizes = torch.stack([(predicted == k).sum((1, 2)) + (maps == k).sum((1, 2)) for k in range(CLASSES)], dim=1)
    expected = 1 - ((score * sizes + 1) / (sizes + 1)).mean()
    nothing = MixPlan(torch.ones(BATCH), torch.arange(BATCH), active=False)
    assert PixelLoss("dice")(nothing, sharp, maps).item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("kind", TERMS)
def test_gradients_of_the_losses(kind: str) -> None:
    logits, maps = random_batch()
    plan = MixPlan(LAM, PARTNER)
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(PixelLoss(kind)(plan, logits, maps), logits)
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        step = 1e-2 * direction
        difference = PixelLoss(kind)(plan, logits + step, maps) - PixelLoss(kind)(plan, logits - step, maps)
    assert difference.item() / 2e-2 == pytest.approx((gradient * direction).sum().item(), rel=1e-3)


def test_scores_are_the_share_of_right_pixels() -> None:
    logits, maps = random_batch()
    predicted = logits.argmax(1)

    def share(i: int, target: Tensor) -> float:
        counted = target != IGNORE
        return (predicted[i] == target)[counted].double().mean().item()

    lams = LAM.tolist()
    blended = [lam * share(i, maps[i]) + (1 - lam) * share(i, maps[PARTNER[i]]) for i, lam in enumerate(lams)]
    assert SEGMENTATION.score(MixPlan(LAM, PARTNER), logits, maps).tolist() == pytest.approx(blended, rel=1e-5)
    box = Boxes([[1], [4], [0], [3]], (SIDE, SIDE))
    cut = maps.clone()
    cut[:, 1:4, 0:3] = maps[PARTNER, 1:4, 0:3]
    pasted = [share(i, cut[i]) for i in range(BATCH)]
    assert SEGMENTATION.score(MixPlan(LAM, PARTNER, mask=box), logits, maps).tolist() == pytest.approx(pasted)


def images_of(maps: Tensor) -> Tensor:
    """A batch whose pixels say their class."""
    return maps[:, None].float() + 1


@pytest.mark.parametrize("name", ["resized", "blank", "crops"])
def test_maps_go_the_way_of_the_images(name: str) -> None:
    """A certain network that reads the class off the mixed image has no loss."""
    maps = torch.zeros(BATCH, 8, 8, dtype=torch.uint8)
    maps[:, :, 4:], maps[1], maps[2] = 1, 2, 0
    boxes = Boxes([[0], [4], [4], [8]], (8, 8))
    plans: dict[str, MixPlan] = {
        "resized": MixPlan(LAM, PARTNER, mask=boxes, transform=ResizeIntoBox(boxes)),
        "blank": MixPlan(LAM, torch.arange(BATCH), mask=boxes, transform=Blank()),
        "crops": CropsPlan(
            LAM,
            PARTNER,
            shares=torch.full((BATCH, 4), 0.25),
            indices=torch.stack([torch.arange(BATCH), PARTNER, PARTNER.flip(0), PARTNER], dim=1),
            boundary=(3, 5),
            offsets=[(1, 2), (0, 3), (2, 0), (3, 4)],
        ),
    }
    mixed = plans[name].mix(images_of(maps))
    logits = -50 * (mixed - 1 - torch.arange(CLASSES).view(1, -1, 1, 1)).abs()  # that of a blank pixel is no class
    assert PixelLoss("ce")(plans[name], logits, maps).item() < 1e-3
    assert SEGMENTATION.score(plans[name], logits, maps).tolist() == [1.0] * BATCH
    if name == "blank":
        wrong = logits.clone()
        wrong[:, :, 0:4, 4:8] = torch.randn(BATCH, CLASSES, 4, 4)
        assert PixelLoss("ce")(plans[name], wrong, maps).item() < 1e-3


def test_three_blended_samples() -> None:
    logits, maps = random_batch()
    shares = torch.tensor([[0.5, 0.3, 0.2]]).expand(BATCH, -1)
    plan = blend(shares, torch.stack([PARTNER, PARTNER.flip(0)], dim=1))
    members = torch.stack([torch.arange(BATCH), PARTNER, PARTNER.flip(0)], dim=1)
    expected = [
        sum(w * one("ce", logits[i], maps[j]) for w, j in zip((0.5, 0.3, 0.2), members[i], strict=True))
        for i in range(BATCH)
    ]
    assert PixelLoss("ce")(plan, logits, maps).item() == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("rotate", [False, True])
def test_maps_move_along_with_images(rotate: bool) -> None:
    _, maps = random_batch(batch=64)
    instances = torch.randint(9, maps.shape).to(torch.uint8)
    augmentation = CropFlip(padding=2, flip=True, rotate=rotate)
    draws = augmentation.sample(64, torch.Generator().manual_seed(3))
    moved = SEGMENTATION.moved(torch.stack([maps, instances], dim=1), augmentation, draws)
    turns = torch.zeros(64, dtype=torch.int64) if draws.turns is None else draws.turns
    assert len(turns.unique()) == (4 if rotate else 1)
    for i in range(64):
        for layer, source, outside in ((0, maps, IGNORE), (1, instances, 0)):
            image = source[i : i + 1]
            image = transforms.pad(image, [2], fill=outside)
            image = transforms.crop(image, int(draws.top[i]), int(draws.left[i]), SIDE, SIDE)
            image = transforms.horizontal_flip(image) if draws.flip[i] else image
            image = transforms.rotate(image, 90.0 * int(turns[i]))
            assert torch.equal(moved[i, layer], image[0])
    assert torch.equal(SEGMENTATION.moved(maps.long(), augmentation, draws), moved[:, 0].long())
    pixels = augmentation.apply(images_of(maps), draws)[:, 0]
    seen = pixels > 0  # black is outside
    assert torch.equal(pixels[seen] - 1, moved[:, 0][seen].float())


def data(maps: Tensor, size: int = SIDE) -> RunData:
    part = Samples(torch.zeros(len(maps), 1, size, size, dtype=torch.uint8), maps)
    return RunData(part, None, part, ("background", "cat", "dog"), (0.0,), (1.0,))


@pytest.mark.parametrize(
    ("maps", "reason"),
    [
        (torch.zeros(4, 6, 5, dtype=torch.uint8), r"maps \(N, 6, 6\) of the images' size, .*, got \(4, 6, 5\)"),
        (torch.zeros(4, 3, 6, 6, dtype=torch.uint8), r"maps \(N, 6, 6\) of the images' size, .*, got \(4, 3, 6, 6\)"),
        (torch.zeros(4, dtype=torch.int64), r"maps \(N, 6, 6\) of the images' size, .*, got \(4,\)"),
        (torch.zeros(4, 6, 6), r"uint8 or int64, got \(4, 6, 6\) torch.float32 in train"),
        (torch.full((4, 6, 6), 3, dtype=torch.uint8), "classes from 0 to 2, or 255 .*, got 3 in train"),
        (torch.full((4, 6, 6), -1), "classes from 0 to 2, or 255 .*, got -1 in train"),
    ],
)
def test_maps_that_do_not_fit_are_refused(maps: Tensor, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^task must fit the targets: .*{reason}"):
        SEGMENTATION.refuse(data(maps), (1, SIDE, SIDE))


def test_maps_that_fit() -> None:
    _, maps = random_batch()
    for fitting in (maps, maps.long(), torch.stack([maps, torch.full_like(maps, 200)], dim=1)):
        SEGMENTATION.refuse(data(fitting), (1, SIDE, SIDE))
    assert SEGMENTATION.output_shape(3, (1, 6, 8)) == (3, 6, 8)


def test_captions_name_the_largest_classes() -> None:
    first, second = torch.zeros(10, 10, dtype=torch.uint8), torch.zeros(10, 10, dtype=torch.uint8)
    first[0], first[1, :2] = 2, 1
    names = ("background", "cat", "dog")
    members = [(0.75, first.tolist()), (0.25, second.tolist())]
    assert SEGMENTATION.caption(members, names) == "0.75 (dog 10%, cat 2%) + 0.25 (background)"
    assert SEGMENTATION.caption(members[:1], names) == "dog 10%, cat 2%"
    both = torch.stack([first, second]).tolist()
    assert SEGMENTATION.caption([(1.0, both)], names) == "dog 10%, cat 2%"


def test_the_panel_shows_the_own_map_and_the_mixed_map() -> None:
    _, maps = random_batch()
    shown = torch.randint(256, (2, 4, 1, SIDE, SIDE), dtype=torch.uint8)
    box = Boxes([[1], [4], [0], [3]], (SIDE, SIDE))
    tiles = SEGMENTATION.tiles(shown, MixPlan(LAM, PARTNER, mask=box), maps)
    assert tiles.shape == (2, 6, 3, SIDE, SIDE)
    assert torch.equal(tiles[:, :4], shown.expand(-1, -1, 3, -1, -1))
    colours = {int(label): tiles[0, 4][:, maps[0] == label].T.unique(dim=0) for label in maps[0].unique()}
    assert all(len(colour) == 1 for colour in colours.values())
    assert len(torch.cat([*colours.values()]).unique(dim=0)) == len(colours)
    assert tiles[0, 5, :, 4:].equal(tiles[0, 4, :, 4:])
    of_partner = SEGMENTATION.tiles(shown, MixPlan(LAM, PARTNER), maps[PARTNER])[0, 4]
    assert tiles[0, 5, :, 1:4, 0:3].equal(of_partner[:, 1:4, 0:3])
    blended = SEGMENTATION.tiles(shown, MixPlan(LAM, PARTNER, "encoder1"), maps)[0, 5].float()
    assert (blended - (0.7 * tiles[0, 4].float() + 0.3 * of_partner.float())).abs().max() <= 1

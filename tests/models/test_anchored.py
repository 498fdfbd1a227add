"""What RetinaNet and FCOS have in common, each against torchvision's own loss and its own detections."""

import pytest
import torch
from torch import Tensor

from vicinal.config.components import bind
from vicinal.models.anchored import AnchoredDetector
from vicinal.models.torchvision_detection import torchvision_detection

CONFIG = {"_target_": "vicinal.models.torchvision_detection.torchvision_detection"}
APART = torch.tensor([[[0.0, 2, 2, 26, 26, 1], [1, 36, 38, 62, 60, 1]]])
"""Boxes of one image, (1, M, 6), that no anchor could belong to both of."""


@pytest.fixture(scope="module", params=["retinanet", "fcos"])
def net(request: pytest.FixtureRequest) -> AnchoredDetector:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision_detection(3, 64, 2, name=request.param).eval()


@pytest.fixture(scope="module")
def outputs(net: AnchoredDetector) -> dict[str, Tensor]:
    """What the network says of four images of noise, with more noise: new heads are close to 0."""
    with torch.no_grad():
        made = net(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)))
    noise = torch.Generator().manual_seed(2)
    for name in net.heads:
        made[name] = made[name] + torch.randn(made[name].shape, generator=noise)
    if len(net.heads) == 3:
        made["bbox_regression"] = made["bbox_regression"].abs()  # distances
    return made


def of_image(outputs: dict[str, Tensor], net: AnchoredDetector, image: int) -> dict[str, Tensor]:
    return {**outputs, **{name: outputs[name][image : image + 1] for name in net.heads}}


def random_boxes(seed: int, count: int) -> Tensor:
    drawn = torch.Generator().manual_seed(seed)
    first = torch.rand(count, 2, generator=drawn) * 40
    last = first + 3 + torch.rand(count, 2, generator=drawn) * 20
    label = torch.randint(0, 2, (count, 1), generator=drawn)
    return torch.cat([label, first, last, torch.ones(count, 1)], dim=1)


def test_with_weights_of_one_each_image_has_torchvisions_loss(
    net: AnchoredDetector, outputs: dict[str, Tensor]
) -> None:
    counts = (7, 1, 0, 3)
    boxes = torch.zeros(4, 8, 6)
    for image, count in enumerate(counts):
        boxes[image, :count] = random_boxes(image, count)
    ours = net.losses(outputs, boxes)
    assert ours.shape == (4,)
    more = [] if len(net.heads) == 2 else [outputs["levels"].tolist()]
    for image, count in enumerate(counts):
        rows = boxes[image, :count]
        target = {"boxes": rows[:, 1:5], "labels": rows[:, 0].long()}
        theirs = net.detector.compute_loss([target], of_image(outputs, net, image), [outputs["anchors"]], *more)
        assert float(ours[image]) == pytest.approx(float(sum(theirs.values())), rel=1e-5)


@pytest.mark.parametrize("lam", [0.7, 1.0])
def test_the_loss_of_two_sets_is_the_weighted_sum_of_each(
    lam: float, net: AnchoredDetector, outputs: dict[str, Tensor]
) -> None:
    """Before it is divided, it is that of each set alone, less the background that both have counted."""
    weights = torch.tensor([lam, 1 - lam if lam < 1 else 1.0])
    counts = (net.match(APART[0, :, 1:5], outputs["anchors"])[:, None] == torch.arange(2)).sum(0)
    assert (counts > 0).all()

    def total(there: list[float]) -> Tensor:
        own = weights * torch.tensor(there)
        boxes = APART.clone()
        boxes[0, :, 5] = own
        [loss] = net.losses(of_image(outputs, net, 0), boxes)
        return loss * (own * counts).sum().clamp(min=1)

    expected = total([1, 0]) + total([0, 1]) - total([0, 0])
    torch.testing.assert_close(total([1, 1]), expected, rtol=1e-5, atol=1e-4)


def test_what_it_finds_is_what_torchvision_finds(net: AnchoredDetector) -> None:
    image = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(3))
    last = net.detector.head.classification_head.cls_logits
    with torch.no_grad():
        before, last.bias[:] = last.bias.clone(), 0.0  # scores that reach the threshold
        found = net.decode(net(image[None]))
        transform = net.detector.transform
        transform.min_size, transform.max_size = (64,), 64
        transform.image_mean, transform.image_std = [0.0] * 3, [1.0] * 3
        [theirs] = net.detector([image])
        last.bias[:] = before
    assert found.shape == (1, 100, 6)
    few = found[0][found[0, :, 5] > 0]
    assert len(few) == len(theirs["scores"]) > 10
    torch.testing.assert_close(few[:, 5], theirs["scores"])
    torch.testing.assert_close(few[:, 1:5], theirs["boxes"])
    assert torch.equal(few[:, 0].long(), theirs["labels"])


def test_the_loss_reaches_every_weight(net: AnchoredDetector) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    net.losses(net(images), APART.expand(2, -1, -1)).sum().backward()
    still = [name for name, weight in net.named_parameters() if weight.grad is None or not weight.grad.any()]
    net.zero_grad()
    assert not still


def test_anchors_are_the_same_in_half_precision(net: AnchoredDetector) -> None:
    """Those of RetinaNet have odd coordinates above 256, which bfloat16 has not."""
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        whole = net(images)["anchors"]
        with torch.autocast("cpu", torch.bfloat16):
            outputs = net(images)
    assert outputs["cls_logits"].dtype == torch.bfloat16
    assert torch.equal(outputs["anchors"], whole)


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_other_images_are_refused(name: str) -> None:
    network = {"retinanet": "RetinaNet", "fcos": "FCOS"}[name]
    with pytest.raises(ValueError, match=f"^channels must be 3 for {network}, got 1$"):
        torchvision_detection(1, 64, 2, name=name)
    with pytest.raises(ValueError, match=f"^image_size must be at least 32 for {network}, got 31$"):
        torchvision_detection(3, 31, 2, name=name)


def test_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^name must be one of retinanet, fcos, got ssd$"):
        torchvision_detection(3, 64, 2, name="ssd")


def test_a_run_of_retinanet_keeps_the_identity_that_it_had_without_a_name() -> None:
    inputs = ("channels", "image_size")
    own = {"_target_": "vicinal.models.retinanet.RetinaNet"}
    assert bind("model", {**CONFIG, "name": "retinanet"}, inputs=inputs).identity() == own
    assert bind("model", own, inputs=inputs).identity() == own  # a stored config
    assert bind("model", {**CONFIG, "name": "fcos"}, inputs=inputs).identity() == {**own, "name": "fcos"}


@pytest.mark.parametrize("size", [(64, 96), (96, 64)])
def test_a_rectangle_has_torchvisions_loss_and_detections(net: AnchoredDetector, size: tuple[int, int]) -> None:
    drawn = torch.Generator().manual_seed(3)
    with torch.no_grad():
        outputs = net(torch.rand(1, 3, *size, generator=drawn))
    for name in net.heads:
        outputs[name] = (outputs[name] + torch.randn(outputs[name].shape, generator=drawn)).abs()
    boxes = random_boxes(4, 5)
    more = [] if len(net.heads) == 2 else [outputs["levels"].tolist()]
    target = {"boxes": boxes[:, 1:5], "labels": boxes[:, 0].long()}
    heads = {name: outputs[name] for name in net.heads}
    theirs = net.detector.compute_loss([target], heads, [outputs["anchors"]], *more)
    assert float(net.losses(outputs, boxes[None])) == pytest.approx(float(sum(theirs.values())), rel=1e-5)
    found = net.decode(outputs)[0]
    assert (found[:, 1:5:2].amax(), found[:, 2:5:2].amax()) == (size[1], size[0])  # cut to the image

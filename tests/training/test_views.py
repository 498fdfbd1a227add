"""The mean over views of an image, against each view made on its own."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tv

from vicinal import build
from vicinal.experiment import Experiment
from vicinal.jobs.run import run
from vicinal.tasks import CLASSIFICATION
from vicinal.training.evaluation import evaluate
from vicinal.training.views import averaged


def moved(image: Tensor, right: int, down: int) -> Tensor:
    """The window of an image with a mirrored border that is so many pixels further."""
    height, width = image.shape[-2:]
    return tv.crop(tv.pad(image, [1] * 4, padding_mode="reflect"), 1 + down, 1 + right, height, width)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_views_and_their_weights(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 5, 7)).eval()
    images = torch.randn(5, 3, 8, 7).contiguous(memory_format=layout)
    before = images.clone()
    with torch.inference_mode():
        own, mirrored = model(images), model(tv.horizontal_flip(images))
        assert averaged(model, 1) is model
        torch.testing.assert_close(averaged(model, 2)(images), (own + mirrored) / 2)
        places = [moved(images, step, step) for step in (-1, 1)]
        others = sum(model(view) + model(tv.horizontal_flip(view)) for view in places) / 4
        torch.testing.assert_close(averaged(model, 6)(images), (own + mirrored) / 4 + others / 2)
    assert torch.equal(images, before)


def test_a_constant_image_and_a_symmetric_one_have_one_score() -> None:
    """Whatever the precision: the mean is taken in float32."""
    logits = torch.tensor([[3.0, -1.0]], dtype=torch.bfloat16)
    for views in (2, 6):
        found = averaged(lambda images: logits.expand(len(images), 2), views)(torch.ones(4, 1, 5, 5))
        assert found.dtype == torch.float32
        assert torch.equal(found, logits.float().expand(4, 2))


def test_a_run_is_scored_by_the_mean_of_its_views(compose: Callable[..., Experiment]) -> None:
    experiment = compose("model=mlp", "trainer.epochs=1", "trainer.eval_views=6", "dataset.train_size=100")
    scores = run(experiment)["test"]["last"]
    model = experiment.model(**experiment.sizes.arguments)
    model.load_state_dict(torch.load(experiment.folder.checkpoint, weights_only=True)["model"])
    loader = build.make_loaders(experiment, build.load_data(experiment)).test
    of_views, of_images = (
        evaluate(CLASSIFICATION, model, loader.batches(), experiment.hardware, forward)
        for forward in (averaged(model, 6), None)
    )
    assert scores == of_views
    assert scores["nll"] != of_images["nll"]

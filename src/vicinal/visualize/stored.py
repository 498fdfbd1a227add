"""What a completed run has learned, read from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from vicinal.build import load_data, make_model
from vicinal.data import Images
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs.reproduce import original
from vicinal.jobs.stored_config import stored_config
from vicinal.runs import checkpoint
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder


@dataclass(frozen=True)
class Stored:
    """A completed run.

    Attributes:
        name: the readable one, the same for all seeds of a cell.
        cell_id: what the run is but for its seed.
        strategy: the option of ``mixup``.
        seed: of the run.
        model: with the weights of the last epoch (the averaged ones, if they are what was scored), in evaluation mode.
        test: images that it was not trained on.
        mean, std: one number per channel, of pixels in [0, 1], as it was trained with.
    """

    name: str
    cell_id: str
    strategy: str
    seed: int
    model: nn.Module
    test: Images
    mean: tuple[float, ...]
    std: tuple[float, ...]


def stored(path: Path, overrides: Sequence[str] = (), trusted: Sequence[str] = ()) -> Stored:
    """Load a run's weights and the test images, on the CPU.

    Args:
        path: of the folder, wherever it is now.
        overrides: ``key=value``, such as ``dataset.root`` on another machine.
        trusted: what the stored config may name besides our own components; see :mod:`vicinal.jobs.stored_config`.

    Raises:
        UserError: there is no completed run, or its config, its weights or its data are lost or refused; a line says
            which.
    """
    folder = RunFolder(path)
    result = original(folder)
    words = ["trainer.device=cpu", "trainer.compile=false", *overrides]
    experiment = Experiment.composed(stored_config(folder.config, words, trusted))
    model = make_model(experiment)
    try:
        model.load_state_dict(weights(folder))
    except RuntimeError as error:  # other names or shapes
        reason = " ".join(str(error).split())
        raise UserError(
            f"{folder.checkpoint}: the weights do not fit the network of {folder.config}: {reason}"
        ) from None
    data = load_data(experiment)
    strategy = result["choices"].get("mixup", "custom")
    return Stored(
        result["name"], result["cell_id"], strategy, result["seed"], model.eval(), data.test, data.mean, data.std
    )


def weights(folder: RunFolder) -> dict[str, object]:
    """Those of the last epoch, by name.

    Raises:
        UserError: they are not there any more.
    """
    again = "rerun=true trains the run again"
    try:
        found: dict[str, object] = checkpoint.load(folder.checkpoint, checkpoint.WEIGHTS)["model"]
    except FileNotFoundError:
        raise UserError(f"{folder.checkpoint} is missing, so there are no weights; {again}") from None
    except DamagedError as damage:
        raise UserError(f"{damage}, so there are no weights; {again}") from None
    return found

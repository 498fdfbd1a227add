"""A completed run, read from its folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from vicinal.build import load_data, make_model
from vicinal.data import ImageData
from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.jobs.reproduce import original
from vicinal.jobs.stored_config import stored_config
from vicinal.runs import checkpoint
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder


class Stored(NamedTuple):
    """A completed run.

    Attributes:
        result: content of its ``result.json``.
        model: with the weights of the last epoch (the averaged ones, if they are what was scored), in evaluation mode.
        data: what it was trained and tested on.
    """

    result: dict[str, Any]
    model: nn.Module
    data: ImageData


def stored(path: Path, overrides: Sequence[str] = (), trusted: Sequence[str] = ()) -> Stored:
    """Load the weights and the data of a run, on the CPU.

    Args:
        path: of its folder, which may have been moved.
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
    return Stored(result, model.eval(), load_data(experiment))


def weights(folder: RunFolder) -> dict[str, Any]:
    """Return the weights of the last epoch by name. Raises UserError if they cannot be read."""
    advice = "so there are no weights; rerun=true trains the run again"
    try:
        return dict(checkpoint.load(folder.checkpoint, checkpoint.WEIGHTS)["model"])
    except FileNotFoundError:
        raise UserError(f"{folder.checkpoint} is missing, {advice}") from None
    except DamagedError as damage:
        raise UserError(f"{damage}, {advice}") from None

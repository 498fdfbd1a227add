"""Find the last good checkpoint of a run, and restore it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from vicinal.errors import UserError
from vicinal.experiment import Experiment
from vicinal.runs import checkpoint
from vicinal.runs.environment import differences, others
from vicinal.runs.files import DamagedError
from vicinal.runs.folder import RunFolder
from vicinal.runs.shapes import misfit
from vicinal.training.state import TrainState

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """The content of a checkpoint; ``Saved()`` stands for none."""

    training: dict[str, Any] | None = None  # state of the training; None without a checkpoint
    wandb_id: str | None = None
    made_with: dict[str, Any] = field(default_factory=dict)  # values that decide the last bits; code and data hashes
    changed: list[str] = field(default_factory=list)  # differences of earlier sessions in these, one line each
    seconds: float = 0.0  # time that all sessions have taken

    def news(self, made_with: Mapping[str, Any]) -> list[str]:
        """Return the differences, in what decides the numbers, from the session that wrote this to another one."""
        bits = {name: value for name, value in made_with.items() if not isinstance(value, Mapping)}
        return [*differences(self.made_with, bits), *others(self.made_with, made_with)]


def recover(experiment: Experiment) -> Saved:
    """Return the last good checkpoint of a run; an empty one if there is none. Damage is named and set aside."""
    folder = experiment.folder
    for file, instead in {
        folder.checkpoint: "the one before it is used, if there is one",
        folder.previous: "the training begins again",
    }.items():
        try:
            content = checkpoint.load(file, {"run_id": str})
            if content["run_id"] != experiment.run_id:
                raise DamagedError(file, f"it is of another run, {content['run_id']}")
            if "training" in content:
                saved = Saved(**{item.name: content[item.name] for item in fields(Saved)})
                if (where := misfit(content, checkpoint.TRAINING)) is not None:
                    raise DamagedError(file, f"{where} in it is not what was written")
                return saved
        except FileNotFoundError:
            continue
        except KeyError as missing:
            folder.set_aside(DamagedError(file, f"another version of Vicinal wrote it, without {missing}"), instead)
            continue
        except DamagedError as damage:
            folder.set_aside(damage, instead)
            continue
        if folder.previous.exists() and file is folder.checkpoint:
            file.unlink()  # the weights of a training that had ended, but whose result was not written yet
        else:
            folder.set_aside(DamagedError(file, "it has weights, but the result that belongs to them is lost"), instead)
    return Saved()


def load(state: TrainState, saved: Saved) -> None:
    """Restore a training from its checkpoint. Raises UserError where the code does not fit it."""
    try:
        state.load_state_dict(saved.training or {})
    except Exception as error:  # of any type; torch names the key in its second line
        reason = " ".join(str(error).split("\n")[:2]).replace("\t", "").strip()
        raise UserError(
            f"the checkpoint does not fit the code any more ({reason}); rerun=true trains from the beginning"
        ) from error


def restore(state: TrainState, saved: Saved, news: list[str], folder: RunFolder) -> None:
    """Restore a training from its checkpoint, and tell of it. Raises UserError where the code does not fit it."""
    load(state, saved)
    for line in news:
        more = "rerun=true trains from the beginning" if line.startswith("other ") else "the last bits may differ"
        log.warning("it is not continued as it was begun: %s; %s", line, more)
    rows = state.history.rows
    if folder.rows()[: len(rows)] != rows:
        log.warning("%s is not what was written; it is written again, as the checkpoint has it", folder.metrics)
    log.info("going on in epoch %d after step %d", state.epoch, state.steps)
    state.mixed_examples.show()

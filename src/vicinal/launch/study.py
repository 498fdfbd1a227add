"""The trials of a search in a journal of Optuna's, which several processes share and which survives each of them.

What is tried next depends on the seed, the number of the trial and what the trials before it have returned, and on
nothing that a process keeps in memory: so an interrupted search ends with the trials of one that was not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from vicinal.errors import UserError
from vicinal.launch.journal import JOURNAL, readable, storage
from vicinal.launch.own_folder import ADVICE, TRIALS, check_search
from vicinal.launch.samplers import NAME, choose, new_study, unused
from vicinal.launch.search_space import Axis
from vicinal.runs.files import make_folder
from vicinal.runs.locks import safe_lock

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial

log = logging.getLogger(__name__)

IDENTITY, WARM = "identity", "warm"  # attributes of the study
BATCH, SIZE, RUNS, REASON = "batch", "size", "runs", "reason"  # attributes of a trial, which may be ``warm`` too


@dataclass(frozen=True)
class Trial:
    """A point of the space, and what has become of it."""

    number: int
    values: dict[str, str]  # {key: text}, as the command line spells it
    state: str  # "running", "completed", "pruned" or "failed"
    value: float | None  # of the objective; None if there is none (yet)
    batch: int  # number of the first trial that was chosen with it; -1 if the search has not chosen it
    size: int  # of that batch
    warm: bool  # whether it was completed before the search began
    runs: tuple[str, ...] = ()  # ids of its runs, one per seed; empty while it is running
    reason: str = ""  # why it has no value; "" if it has one

    @property
    def point(self) -> str:
        """Its values, as the command line spells them."""
        return " ".join(f"{key}={text}" for key, text in self.values.items())

    @property
    def done(self) -> bool:
        """Whether it is one of the trials that a search has to do, and has ended."""
        return not self.warm and self.state != "running"


@dataclass(frozen=True)
class Known:
    """A point that was completed before the search began."""

    values: dict[str, str]
    value: float
    runs: tuple[str, ...]


class SharedStudy:
    """A study in the folder of a search, which other processes may work on at the same time.

    Args:
        folder: of the search.
        axes: of the space.
        sampler: one of SAMPLERS.
        seed: of the sampler.
        higher: whether a larger value is better.
        identity: of the search.
    """

    def __init__(
        self, folder: Path, axes: Sequence[Axis], sampler: str, seed: int, higher: bool, identity: str = ""
    ) -> None:
        self._folder, self._axes, self._identity = folder, axes, identity
        self._sampler, self._seed, self._higher = sampler, seed, higher
        self._study: Study | None = None
        self._mine: dict[int, filelock.FileLock] = {}  # locks of the trials that this process works on

    def open(self, known: Callable[[], Sequence[Known]]) -> None:
        """Open the study; a new one begins with what is ``known``. Raises UserError if the journal is damaged."""
        make_folder(self._folder)
        with self.alone():
            if not self.look():
                with readable(self._folder):
                    self._study = new_study(storage(self._folder), self._higher)
            if WARM not in self._shared.user_attrs:
                self._shared.set_user_attr(IDENTITY, self._identity)
                self._shared.set_user_attr(WARM, [asdict(each) for each in known()])
            with readable(self._folder):
                for trial in self._warm(self._shared.user_attrs[WARM]):
                    self._shared.add_trial(trial)

    def look(self) -> bool:
        """Open the study without writing to it, and return whether there is one."""
        import optuna

        if not (self._folder / JOURNAL).exists():
            check_search(self._folder)
            return False
        with readable(self._folder):
            journal = storage(self._folder)
            if not journal.get_all_studies():
                return False
            self._study = optuna.load_study(study_name=NAME, storage=journal, sampler=unused())
            other = self._study.user_attrs.get(IDENTITY, self._identity) != self._identity
        if other:
            raise UserError(f"{self._folder}: is the folder of another search; {ADVICE}")
        return True

    def trials(self) -> list[Trial]:
        """Return all trials, as they are now."""
        with readable(self._folder):
            return [self._trial(each) for each in self._frozen()]

    def next(self, size: int, most: int) -> list[Trial]:
        """Return the trials that this process does next, at most ``size``; none if there are ``most``.

        Those that a killed process has left are first. The trials of a batch are chosen together.
        """
        with self.alone():
            left = [trial for trial in self.trials() if trial.state == "running" and self._take(trial.number)]
            if left:
                batch = [trial for trial in left if trial.batch == left[0].batch][:size]
                for trial in left:
                    if trial not in batch:
                        self.release(trial.number)
                whole = [trial for trial in self.trials() if trial.batch == batch[0].batch]
                if len(whole) == batch[0].size or any(trial.state != "running" for trial in whole):
                    return batch
                first, size = batch[0].batch, batch[0].size  # it was killed while it chose them
                return batch + self._ask(first, size, size - len(whole))
            trials = self.trials()
            size = min(size, most - sum(not trial.warm for trial in trials))
            return self._ask(len(trials), size, size)

    def propose(self, count: int, known: Callable[[], Sequence[Known]]) -> list[Trial]:
        """Return the next points, as one process would choose them together, and record nothing.

        A study that is not there yet would begin with what is ``known``.
        """
        with readable(self._folder):
            recorded = None if self._study is None else self._study.user_attrs.get(WARM)
            warm = [asdict(each) for each in known()] if recorded is None else recorded
            trials = [*self._frozen(), *self._warm(warm)]
        first = len(trials)
        for number in range(first, first + count):
            trial = self._recorded(choose(self._sampler, self._seed, self._axes, self._higher, trials))
            trial.number = number
            trials.append(trial)
        return [self._trial(trial) for trial in trials[first:]]

    def tell(
        self, trial: Trial, state: str, value: float | None, runs: Sequence[str], reason: str = "", epoch: int = 0
    ) -> None:
        """Record the outcome of a trial; of one that was pruned, ``value`` is its last, of that ``epoch``."""
        import optuna

        states = optuna.trial.TrialState
        with self.alone(), readable(self._folder):
            known = self._frozen()[trial.number]
            record = optuna.trial.Trial(self._shared, known._trial_id)
            record.set_user_attr(RUNS, list(runs))
            record.set_user_attr(REASON, reason)
            if state == "pruned" and value is not None and epoch not in known.intermediate_values:
                record.report(value, epoch)
            outcome = {"completed": states.COMPLETE, "pruned": states.PRUNED, "failed": states.FAIL}[state]
            self._shared.tell(trial.number, value if state == "completed" else None, outcome)
            self.release(trial.number)

    def best(self) -> Trial | None:
        """Return the best completed trial, the first of equals."""
        done = [trial for trial in self.trials() if trial.state == "completed" and trial.value is not None]
        sign = 1 if self._higher else -1
        return max(done, key=lambda trial: sign * (trial.value or 0.0), default=None)

    def _ask(self, batch: int, size: int, count: int) -> list[Trial]:
        """Choose points and record them as running, each in one line of the journal."""
        found = []
        for _ in range(count):
            with readable(self._folder):
                trials = self._frozen()
            drawn = choose(self._sampler, self._seed, self._axes, self._higher, trials)
            self._take(len(trials))
            with readable(self._folder):
                self._shared.add_trial(self._recorded(drawn, batch=batch, size=size))
                found.append(self._trial(self._frozen()[len(trials)]))
        return found

    def _warm(self, known: Sequence[Mapping[str, Any]]) -> list[FrozenTrial]:
        """Return the trials of known points that are not recorded; a killed process has recorded the first ones."""
        found = []
        for each in known[len(self._frozen()) :]:
            drawn = {axis.key: axis.value(each["values"][axis.key]) for axis in self._axes}
            found.append(self._recorded(drawn, each["value"], warm=True, runs=each[RUNS]))
        return found

    def _recorded(self, drawn: dict[str, Any], value: float | None = None, **attributes: Any) -> FrozenTrial:
        """Return a trial as Optuna records it: completed if it has a value, else running."""
        import optuna

        states = optuna.trial.TrialState
        return optuna.trial.create_trial(
            state=states.RUNNING if value is None else states.COMPLETE,
            value=value,
            params=drawn,
            distributions={axis.key: axis.distribution for axis in self._axes},
            user_attrs=attributes,
        )

    @property
    def _shared(self) -> Study:
        assert self._study is not None
        return self._study

    def _frozen(self) -> list[FrozenTrial]:
        return [] if self._study is None else self._study.get_trials(deepcopy=False)

    def _trial(self, trial: FrozenTrial) -> Trial:
        states = {"RUNNING": "running", "COMPLETE": "completed", "PRUNED": "pruned", "FAIL": "failed"}
        values = {axis.key: axis.text(trial.params[axis.key]) for axis in self._axes}
        if any(axis.value(values[axis.key]) is None for axis in self._axes):
            raise ValueError(f"trial {trial.number} is not in the space")
        state, about = states[trial.state.name], trial.user_attrs
        placed = (about.get(BATCH, -1), about.get(SIZE, 1), about.get(WARM, False), tuple(about.get(RUNS, [])))
        return Trial(trial.number, values, state, trial.value, *placed, about.get(REASON, ""))

    def _take(self, number: int) -> bool:
        """Return whether no other process works on a trial; then this one does."""
        if number in self._mine:
            return True
        make_folder(self._folder / TRIALS)
        lock = safe_lock(self._folder / TRIALS / f"{number}.lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            return False
        self._mine[number] = lock
        return True

    def release(self, number: int) -> None:
        """Leave a trial that is not done to any process."""
        if lock := self._mine.pop(number, None):
            lock.release()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no other process chooses or records trials."""
        with safe_lock(self._folder / "study.lock"):
            yield

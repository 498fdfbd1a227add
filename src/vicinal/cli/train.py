"""The command line: ``python train.py``, ``vicinal-train`` and ``python -m vicinal``."""

from __future__ import annotations

import argparse
import atexit
import difflib
import logging
import os
import signal
import sys
import warnings
from contextlib import nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from vicinal.cli.script_args import trust
from vicinal.config.error_messages import MISSING_FOLDER, explain, is_mistake
from vicinal.config.redaction import redact, show_bugs_redacted
from vicinal.config.schema import CONF, register
from vicinal.errors import UserError
from vicinal.launch.slurm import after_interruption
from vicinal.runs.signals import leave_an_import, present
from vicinal.tasks import task_named
from vicinal.training.world import one_of_several_runs, processes
from vicinal.utils import output
from vicinal.utils.escaping import visible
from vicinal.utils.gc_pause import without_collections

log = logging.getLogger(__name__)

FULL_ERROR = os.environ.get("HYDRA_FULL_ERROR") == "1"  # the user asks for tracebacks
_received: list[int] = []  # signals that have ended the command; within a training ``GracefulShutdown`` handles them


def command() -> None:
    """Run :func:`main`, and end the process without clean-up by Python, which takes over a second with torch."""
    code = 1

    def leave() -> None:  # called after all that is registered from here on
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # a library may have replaced it
                stream.flush()
        os._exit(code)

    output.steady()
    atexit.register(leave)
    show_bugs_redacted()
    try:
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except KeyboardInterrupt:
        code = 130
        raise


def main() -> None:
    """Compose the config, train, and leave with 0 (all completed), 1 (a job failed or a mistake), 2 (no such flag) or
    130/143 (interrupted). A user's mistake is one line; HYDRA_FULL_ERROR=1 asks for the traceback.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra would print several lines of its own and leave
    _handle_signals()
    register()
    # Hydra would go on without a folder of configs that is not there.
    warnings.filterwarnings("error", MISSING_FOLDER, UserWarning)
    try:
        _start()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        _leave_if_stopped()
        if FULL_ERROR or not is_mistake(error):
            raise
        if processes().rank > 0:  # the first process says the same
            sys.exit(1)
        sys.exit(f"error: {explain(error, sys.argv[1:])}")


def _handle_signals() -> None:
    """Let signals without a handler end the ``with`` blocks of W&B and of the progress bar, and then the process."""
    _received.clear()
    for number in present():
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, _stop):
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    leave_an_import(number, frame)
    _received.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _leave_if_stopped() -> None:
    """Leave if there was a signal: a library that it interrupted may have turned the exception into an error."""
    if _received:
        sys.exit(128 + _received[0])


def _start() -> None:
    """Do as ``hydra.main`` does, but never let Hydra read the config of a run, which is data: ``--config-path``."""
    parser, args = _arguments()
    if args.experimental_rerun is not None:
        again = "the config of a run is: --config-path FOLDER --config-name config"
        raise UserError(f"--experimental-rerun {args.experimental_rerun}: a pickle is a program, not data; {again}")
    if args.config_path is not None:
        from vicinal.jobs.stored_config import offer

        name = (args.config_name or "config").removesuffix(".yaml")
        args.config_name = offer(Path(args.config_path) / f"{name}.yaml", args.trust)
        args.config_path = None
    version.setbase("1.3")
    _run_hydra(args=args, args_parser=parser, task_function=job, config_path=str(CONF), config_name="config")


def job(cfg: DictConfig) -> float | None:
    """Run one job, for Hydra; return its last validation score by the task's selection metric, if any, for sweepers."""
    output.steady()  # a launcher from a plugin may run jobs in other processes
    settings, first = HydraConfig.get(), processes().rank == 0
    alone = settings.mode == RunMode.RUN
    try:
        with nullcontext() if alone else one_of_several_runs():
            if first:
                return _run(cfg, settings)
            _assist(cfg, settings)
            return None
    except SystemExit as end:
        if isinstance(end.code, int):
            after_interruption(end.code - 128, first)
        raise


def _run(cfg: DictConfig, settings: HydraConf) -> float | None:
    single = settings.mode == RunMode.RUN
    try:
        from vicinal.config.composition import hidden, refuse_moving
        from vicinal.tracking.wandb import client

        refuse_moving(settings)
        if single:
            _refuse_sweep(settings)
        if not cfg.dry_run:
            client.begin(cfg)  # beside the imports that follow, which use one core
        with without_collections():
            from vicinal.experiment import Experiment
            from vicinal.jobs.run import run
            from vicinal.training.world import world

            world()  # the other processes wait from here on
            experiment = Experiment.of(cfg, settings)
        for line in hidden(settings) if single else ():
            log.warning("%s", line)
        if single:
            result = run(experiment)
        else:
            from vicinal.launch.foreign import check_results
            from vicinal.launch.search import stop_of

            check_results(experiment, settings)
            result = run(experiment, Path(settings.sweep.dir).name, stop_of(settings, experiment))
    except Exception as error:
        _leave_if_stopped()
        alone = single or getattr(
            error, "of_all", False
        )  # a NoResultError, which plugins would put into lines of theirs
        if alone and is_mistake(error) and not FULL_ERROR:
            sys.exit(f"error: {explain(error, sys.argv[1:])}")  # raised, a line of Hydra's would announce it
        if not single:
            log.error("failed: %s", explain(error))
        raise
    return (result.get("val") or {}).get(task_named(result.get("task")).selection)


def _assist(cfg: DictConfig, settings: HydraConf) -> None:
    """Compute a part of a run, when the first process has checked the request and begins to train."""
    from vicinal.experiment import Experiment
    from vicinal.jobs.run import assist
    from vicinal.training.world import LostProcessError, world

    prefix, single = f"rank {processes().rank}: ", settings.mode == RunMode.RUN
    logging.getLogger().setLevel(logging.ERROR)  # the first process tells the rest
    try:
        try:
            saved = world().first()
        except LostProcessError:  # there was nothing to train, or the first process has told why not
            return
        experiment, stop = Experiment.of(cfg, settings), None
        if not single:
            from vicinal.launch.search import stop_of

            stop = stop_of(settings, experiment)
        assist(experiment, saved, stop)
    except Exception as error:
        _leave_if_stopped()
        if single and is_mistake(error) and not FULL_ERROR:
            sys.exit(f"{prefix}error: {explain(error, sys.argv[1:])}")
        if not single:
            log.error("%sfailed: %s", prefix, explain(error))
        raise


def _refuse_sweep(settings: HydraConf) -> None:
    """Refuse a recipe with values to sweep over as a single job: it would silently train the defaults."""
    from vicinal.config.composition import sweeping_word

    if word := sweeping_word(settings):
        raise UserError(f"{word}: is a sweep, which needs -m; hydra.sweeper.params=null makes it one job")


def _arguments() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """Read the command line, and put its overrides before the flags; exit with 2 at a wrong flag, as argparse does."""
    parser = get_args_parser()
    trust(parser)
    parser.exit_on_error = False
    try:
        args, unknown = parser.parse_known_intermixed_args(sys.argv[1:])
    except argparse.ArgumentError as error:
        _refuse_flag(f"{error}; --hydra-help lists the flags")
    for word in unknown:
        flags = [flag for action in parser._actions for flag in action.option_strings]
        close = difflib.get_close_matches(word.partition("=")[0], flags, n=1)
        _refuse_flag(f"{word}: no such flag; {f'did you mean {close[0]}? ' if close else ''}--hydra-help lists them")
    flags = sys.argv[1:]
    for word in args.overrides:
        flags.remove(word)
    sys.argv[1:] = [*args.overrides, *flags]
    return parser, args


def _refuse_flag(line: str) -> NoReturn:
    print(visible(redact(f"error: {line}")), file=sys.stderr)
    sys.exit(2)

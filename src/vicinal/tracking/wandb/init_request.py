"""What the training asks W&B's process for at the start of a run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class InitRequest:
    """Settings of a run at W&B.

    Attributes:
        mode: ``auto``, ``online`` or ``offline``; see :func:`resolve_mode`.
        project: W&B project.
        entity: W&B user or team; the account's default when None.
        tags: labels.
        name: of the run.
        group: of the run; None for none.
        notes: about the run.
        id: W&B's id of the run.
        resume: whether W&B may know the run already.
        program: the script that trains, and its arguments.
        process: the id of the process that trains, whose memory and CPU time W&B shows.
    """

    mode: str
    project: str
    entity: str | None
    tags: tuple[str, ...]
    name: str
    group: str | None
    notes: str | None
    id: str
    resume: bool
    program: tuple[str, ...]
    process: int

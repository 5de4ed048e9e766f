"""Run the cells of a profile: several at a time, each in its own DVC, whatever happens to the others."""

from __future__ import annotations

import contextlib
import queue
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fineprune.errors import ConfigError
from tables.job import Failure, Job, environment
from tables.leftovers import MARK, alone, end_leftovers, mend_locks
from tables.lockfile import Spare
from tables.profiles import Pipeline, Profile, Step
from tables.progress import Board, Clock
from tables.sources import write_sources

FOLDER = Path("artifacts/tables")
PIPELINE = "tables/dvc.yaml"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: what failed, and the cells that are not up to date."""

    failures: list[Failure]
    undone: list[str]


@dataclass
class Work:
    """Steps of a case or of a cell, those of them that are not done, and what they need of other work."""

    where: str
    steps: list[Step]
    logs: Path
    is_cell: bool
    missing: list[Step] = field(init=False)
    needs: set[str] = field(init=False)

    def __post_init__(self) -> None:
        self.missing = list(self.steps)
        self.needs = {path for step in self.steps for path in step.reads} - writes(self.steps)


def run(profile: Profile, *, root: Path, jobs: int, threads: int, sources: Mapping[str, Path]) -> Outcome:
    """Bring every cell of a profile up to date; what is up to date already is left alone.

    Args:
        profile: what to run.
        root: the repository.
        jobs: how many cells at a time.
        threads: how many threads each may use.
        sources: where the data of a case lies, instead of what its file says.

    Returns:
        What failed, and where something is left undone; all else was run.

    Raises:
        ConfigError: another run is at work in this repository; a cell reads what none of the profile writes.
        FinePruneError: a source is of no case of the profile that reads data, or is not there.
    """
    with alone(root / FOLDER / "lock"):
        if ended := end_leftovers(root):
            print(f"tables: ended {ended} processes of a run that was killed", file=sys.stderr)
        if mend_locks(root / ".dvc" / "tmp" / "rwlock", PIPELINE):
            print("tables: removed DVC's locks, which a killed run had left half written", file=sys.stderr)
        spare = Spare(root / "tables" / "dvc.lock", root / FOLDER / "dvc.lock.spare")
        if spare.mend():
            print("tables: mended tables/dvc.lock, which a killed run had left half written", file=sys.stderr)
        write_sources(root, FOLDER / "sources", profile.cases, sources)
        work = _work(profile, Pipeline(root / PIPELINE), root / FOLDER / "logs")
        clock = Clock(root / FOLDER / "logs" / "stages.csv")
        steps: dict[str, list[Step]] = {}
        for one in work:
            steps.setdefault(one.where, []).extend(one.steps)
        with Board(steps, jobs, clock) as board:
            given = environment(threads, **{MARK: str(root)})
            return _Crew(work, board, spare, root=root, jobs=jobs, environment=given).run()


def writes(steps: Sequence[Step]) -> set[str]:
    """The paths that the steps write."""
    return {path for step in steps for path in step.writes}


class _Crew:
    """The jobs at work, and the loop that starts them and listens to them."""

    def __init__(
        self,
        work: Sequence[Work],
        board: Board,
        spare: Spare,
        *,
        root: Path,
        jobs: int,
        environment: Mapping[str, str],
    ) -> None:
        self._waiting, self._board, self._spare, self._jobs = list(work), board, spare, jobs
        self._root, self._environment = root, environment
        self._at_work: dict[Job, Work] = {}
        self._unwritten = {path for one in work for path in writes(one.steps)}
        self._outcome = Outcome([], [])
        self._told: queue.Queue[tuple[Job, str, Step | None, float]] = queue.Queue()

    def run(self) -> Outcome:
        """Until nothing is left to do."""
        try:
            while self._waiting or self._at_work:
                self._start()
                self._listen()
        finally:
            with contextlib.ExitStack() as stopping:  # all of them, even if that is interrupted
                for job in self._at_work:
                    stopping.callback(job.stop)
                for job in self._at_work:
                    job.end()
        return self._outcome

    def _start(self) -> None:
        """Give work to whoever is free, in the order of the list, as far as all is there that it needs."""
        for work in list(self._waiting):
            if len(self._at_work) >= self._jobs:
                return
            if work.needs & self._unwritten:
                continue
            self._waiting.remove(work)
            job = Job(
                work.where,
                work.steps,
                pipeline=PIPELINE,
                logs=work.logs,
                root=self._root,
                environment=self._environment,
                tell=lambda *event: self._told.put(event),
            )
            self._at_work[job] = work
            job.start()

    def _listen(self) -> None:
        try:
            job, event, step, used = self._told.get(timeout=1)
        except queue.Empty:
            self._board.tick({job.where: job.doing for job in self._at_work if job.doing})
            return
        work = self._at_work[job]
        if step is not None and event == "begun":
            self._board.begun(work.where, step, used)
            self._spare.keep()  # whatever this DVC has written until now is whole
        elif step is not None and event in ("done", "skipped"):
            self._board.done(work.where, step, used)
            work.missing.remove(step)
            self._unwritten -= step.writes
        elif event == "failed":
            assert job.failure is not None
            self._outcome.failures.append(job.failure)
            self._board.say(f"tables: {job.failure}")
        elif event == "ended":
            del self._at_work[job]
            self._spare.keep()
            self._finish(work)

    def _finish(self, work: Work) -> None:
        """What follows from the end of work: what it has not written never will be, nor what needs that."""
        if not work.missing:
            return
        self._board.dropped(work.where, work.missing)
        if work.is_cell and work.where not in self._outcome.undone:
            self._outcome.undone.append(work.where)
        lost = writes(work.missing)
        while (other := next((one for one in self._waiting if one.needs & lost), None)) is not None:
            self._waiting.remove(other)
            self._finish(other)


def _work(profile: Profile, pipeline: Pipeline, logs: Path) -> list[Work]:
    """All there is to do, in the order in which to begin it.

    Seed by seed, so that a run that is cut short has whole seeds; of one seed first the baseline attack on
    each case, since the other's cell waits for that of its case: for the control before its attack, for the
    defended control before its evaluation; of the cases first the last one, which takes longest: else all
    would wait for it at the end.
    """
    first = [Work(case, pipeline.ingest(case), logs / case, is_cell=False) for case in profile.cases]
    longest_first = replace(profile, cases=profile.cases[::-1])
    cells = [
        Work(str(cell), part, logs / cell.case / cell.attack / str(cell.seed), is_cell=True)
        for cell in longest_first.cells
        for part in _parts(pipeline.steps(cell))
    ]
    written = writes([step for one in (*first, *cells) for step in one.steps])
    if strangers := {path for one in cells for path in one.needs} - written:
        # They may be there, but of an earlier state.
        raise ConfigError(
            f"{PIPELINE}: expected the profile's cells to write all that they read, found none that writes "
            f"{min(strangers)}"
        )
    return first + cells


def _parts(steps: Sequence[Step]) -> list[list[Step]]:
    """The steps of a cell, divided where one needs something more of other cells."""
    own, needed = writes(steps), frozenset[str]()
    parts: list[list[Step]] = []
    for step in steps:
        more = step.reads - own - needed
        if more or not parts:
            parts.append([])
        needed |= more
        parts[-1].append(step)
    return parts

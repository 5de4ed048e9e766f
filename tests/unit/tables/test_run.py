"""The driver, with a stand-in for DVC: what is done stays done, and a failure or kill -9 costs no more."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from fineprune.errors import ConfigError
from tables import job
from tables.leftovers import MARK, alone, end_leftovers, mend_locks
from tables.lockfile import Spare
from tables.profiles import Pipeline, Profile, Step
from tables.progress import Board, Clock
from tables.run import FOLDER, PIPELINE, Outcome, run

from .reports import profile

ROOT = Path(__file__).parents[3]
# Knows what it has done by files in done/, and fails, hangs or is busy as plan.json says.
DVC = """#!{python} -IS
import json, os, pathlib, sys, time
plan = json.loads(pathlib.Path("plan.json").read_text())
with open("calls.txt", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
assert sys.argv[1:4] == ["--wait-for-lock", "repro", "--single-item"]
pathlib.Path("done").mkdir(exist_ok=True)
for target in sys.argv[4:]:
    name = target.partition(":")[2]
    if (pathlib.Path("done") / name).exists():
        print(f"Stage '{{target}}' didn't change, skipping", flush=True)
        continue
    with open("ran.txt", "a") as ran:
        ran.write(name + "\\n")
    if pathlib.Path("ran.txt").read_text().split().count(name) <= plan.get("busy", {{}}).get(name, 0):
        sys.exit("ERROR: " + plan.get("says", "Unable to acquire lock. Most likely…"))
    if name == plan.get("lacks"):
        sys.exit(f"ERROR: failed to reproduce '{{target}}': missing data 'source': gone.txt")
    print(f"Running stage '{{target}}':", flush=True)
    print("> fineprune " + name.partition("@")[0], flush=True)
    if name == plan.get("killed"):
        os.kill(os.getpid(), 9)
    if name == plan.get("hang"):
        time.sleep(600)
    if name in plan.get("fail", {{}}):
        print(plan["fail"][name], flush=True)
        print(f"ERROR: failed to reproduce '{{target}}': failed to run: fineprune, exited with 2", flush=True)
        sys.exit(255)
    (pathlib.Path("done") / name).touch()
"""
Go = Callable[..., Outcome]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with our dvc.yaml, and the stand-in as the only ``dvc``."""
    root = tmp_path / "repository"
    (root / "tables").mkdir(parents=True)
    for name in ("dvc.yaml", "profiles.yaml"):
        (root / "tables" / name).write_bytes((ROOT / "tables" / name).read_bytes())
    program = tmp_path / "bin" / "dvc"
    program.parent.mkdir()
    program.write_text(DVC.format(python=sys.executable))
    program.chmod(0o755)
    return root


@pytest.fixture
def go(root: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    """Run a profile with what the stand-in is to do wrong."""
    monkeypatch.setenv("PATH", f"{root.parent / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(job, "_PAUSE", 0.01)

    def start(
        wanted: Profile, *, jobs: int = 2, sources: Mapping[str, Path] | None = None, **plan: Any
    ) -> Outcome:
        (root / "plan.json").write_text(json.dumps(plan))
        (root / "ran.txt").write_text("")
        return run(wanted, root=root, jobs=jobs, threads=1, sources=sources or {})

    return start


def ran(root: Path) -> list[str]:
    return (root / "ran.txt").read_text().split()


SMALL = profile("faces", "signs", seeds=(0,))


def test_every_step_is_run_once_ingest_first_and_a_second_run_finds_all_done(root: Path, go: Go) -> None:
    assert go(SMALL) == Outcome([], [])
    first = ran(root)
    assert len(first) == len(set(first)) == 2 * (1 + 10)
    for case in ("faces", "signs"):
        own = [name for name in first if f"@{case}" in name]
        assert own[0] == f"ingest@{case}"
        assert own[-1] == f"evaluate@{case}-baseline-0"
    assert go(SMALL) == Outcome([], [])
    assert ran(root) == []


def test_a_failure_is_told_in_one_line_and_the_others_go_on(
    root: Path, go: Go, capsys: pytest.CaptureFixture[str]
) -> None:
    error = "fineprune prune: error: prune.tolerance: expected a finite number, found 'x'"
    outcome = go(SMALL, fail={"prune@faces-0-delivered1": error})
    assert [str(failure) for failure in outcome.failures] == [
        "faces, baseline, seed 0: prune-control: prune.tolerance: expected a finite number, found 'x' "
        "(log: artifacts/tables/logs/faces/baseline/0/prune-control.log)"
    ]
    assert outcome.undone == ["faces, baseline, seed 0"]
    assert "evaluate@signs-baseline-0" in ran(root)
    assert "evaluate@faces-baseline-0" not in ran(root)
    assert error in (root / outcome.failures[0].log).read_text()
    told = capsys.readouterr().err.splitlines()
    assert [line for line in told if "expected a finite" in line] == [f"tables: {outcome.failures[0]}"]
    go(SMALL)
    assert ran(root)[0] == "prune@faces-0-delivered1"
    assert len(ran(root)) == 6


def test_a_case_that_cannot_be_ingested_leaves_its_cells_undone(root: Path, go: Go) -> None:
    outcome = go(SMALL, fail={"ingest@faces": "fineprune ingest: error: faces: no such folder or archive"})
    assert [(failure.where, failure.step) for failure in outcome.failures] == [("faces", "ingest")]
    assert outcome.undone == ["faces, baseline, seed 0"]
    assert "attack@faces-baseline-0" not in ran(root)
    assert "evaluate@signs-baseline-0" in ran(root)


BOTH = profile("faces", attacks=("baseline", "pruning_aware"), seeds=(0,))


def test_a_cell_waits_for_the_control_of_another(root: Path, go: Go) -> None:
    assert go(BOTH) == Outcome([], [])
    steps = ran(root)
    assert len(steps) == len(set(steps)) == 1 + 10 + 6
    attack, evaluate = (f"{name}@faces-pruning_aware-0" for name in ("attack_with_control", "evaluate"))
    assert steps.index("attack@faces-baseline-0") < steps.index(attack)
    assert steps.index("finetune@faces-0-tuned1") < steps.index(evaluate)
    assert go(BOTH) == Outcome([], [])
    assert ran(root) == []


def test_a_cell_whose_control_no_cell_makes_is_refused(root: Path, go: Go) -> None:
    with pytest.raises(ConfigError, match=r"found none that writes .*/faces/baseline/0/attack/control"):
        go(profile("faces", attacks=("pruning_aware",), seeds=(0,)))
    assert ran(root) == []


def test_a_control_that_failed_leaves_the_cells_that_wait_for_it_undone(root: Path, go: Go) -> None:
    outcome = go(BOTH, fail={"finetune@faces-0-tuned1": "fineprune finetune: error: no"})
    assert [(failure.where, failure.step) for failure in outcome.failures] == [
        ("faces, baseline, seed 0", "finetune-control_fine_pruned")
    ]
    assert outcome.undone == ["faces, baseline, seed 0", "faces, pruning_aware, seed 0"]
    # It was trained, which is all that the other attack needs; it is not defended, which is what is measured.
    assert [name for name in ran(root) if "pruning_aware" in name] == [
        "attack_with_control@faces-pruning_aware-0"
    ]
    (root / "done" / "attack@faces-baseline-0").unlink()
    (root / "done" / "attack_with_control@faces-pruning_aware-0").unlink()
    outcome = go(BOTH, fail={"attack@faces-baseline-0": "fineprune attack: error: no"})
    assert outcome.undone == ["faces, baseline, seed 0", "faces, pruning_aware, seed 0"]
    assert ran(root) == ["attack@faces-baseline-0"]


def test_a_failure_behind_the_control_does_not_keep_the_other_cell_from_running(root: Path, go: Go) -> None:
    outcome = go(BOTH, fail={"finetune@faces-0-tuned2": "fineprune finetune: error: no"})
    assert outcome.undone == ["faces, baseline, seed 0"]
    assert "evaluate@faces-pruning_aware-0" in ran(root)


def test_a_step_that_dvc_cannot_begin_is_blamed_and_not_the_one_before_it(root: Path, go: Go) -> None:
    outcome = go(BOTH, lacks="finetune@faces-0-tuned2")
    assert [(failure.step, failure.cause) for failure in outcome.failures] == [
        ("finetune-fine_tuned", "missing data 'source': gone.txt")
    ]
    assert outcome.undone == ["faces, baseline, seed 0"]
    assert "evaluate@faces-pruning_aware-0" in ran(root)  # which waited for the step before


def test_a_killed_dvc_is_told_as_such(root: Path, go: Go) -> None:
    outcome = go(profile("faces", seeds=(0,)), killed="attack@faces-baseline-0")
    assert [failure.cause for failure in outcome.failures] == ["DVC was ended by SIGKILL"]


@pytest.mark.parametrize("says", ["Unable to acquire lock", "'a/b' is busy, it is being blocked by:"])
def test_dvc_is_asked_again_for_what_is_left_where_another_held_a_lock(root: Path, go: Go, says: str) -> None:
    one = "prune@faces-0-delivered1"
    assert go(profile("faces", seeds=(0,)), busy={one: 1}, says=says) == Outcome([], [])
    assert ran(root).count(one) == 2
    # What was told done is not asked for again; the step before the lock is told by the next one's beginning.
    again = (root / "calls.txt").read_text().splitlines()[-1]
    assert [word.partition(":")[2] for word in again.split()[3:]] == [
        step.target for step in Pipeline().steps(SMALL.cells[0])[3:]
    ]
    seconds = [line.rpartition(",")[2] for line in (root / FOLDER / "logs" / "stages.csv").open()]
    assert all(float(used) >= 0 for used in seconds[1:])


def test_a_lock_that_is_never_free_is_told(root: Path, go: Go) -> None:
    outcome = go(profile("faces", seeds=(0,)), busy={"attack@faces-baseline-0": 99})
    assert [(failure.step, failure.cause) for failure in outcome.failures] == [
        ("dvc", "another DVC held its lock, 5 times over")
    ]
    assert outcome.undone == ["faces, baseline, seed 0"]


def test_a_step_that_is_passed_again_does_not_count_twice(tmp_path: Path) -> None:
    step = Step("attack@faces-baseline-0", "attack")
    with Board({"here": [step]}, 1, Clock(tmp_path / "stages.csv")) as board:
        board.done("here", step, 0.0)
        board.done("here", step, 0.0)
        assert board._bar.n == 1


def test_a_run_goes_on_where_a_killed_one_stopped_and_ends_what_it_left(root: Path, go: Go) -> None:
    wanted = profile("faces", seeds=(0,))
    (root / "plan.json").write_text(json.dumps({"hang": "finetune@faces-0-tuned2"}))
    text = (
        "from pathlib import Path\nfrom tables.run import run\n"
        "from tests.unit.tables.reports import profile\n"
        f"run(profile('faces', seeds=(0,)), root=Path({str(root)!r}), jobs=1, threads=1, sources={{}})"
    )
    killed = subprocess.Popen([sys.executable, "-c", text], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while "tuned2" not in ((root / "ran.txt").read_text() if (root / "ran.txt").exists() else ""):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert go(wanted) == Outcome([], [])
    assert ran(root) == [
        "finetune@faces-0-tuned2",
        "finetune@faces-0-tuned3",
        "evaluate@faces-baseline-0",
    ]
    assert end_leftovers(root) == 0


def test_without_dvc_every_job_says_so(root: Path, go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(root))
    outcome = go(profile("faces", seeds=(0,)))
    assert ["No such file or directory" in failure.cause for failure in outcome.failures] == [True]
    assert outcome.undone == ["faces, baseline, seed 0"]


def test_only_processes_of_this_repository_are_ended(root: Path) -> None:
    sleeping = [
        subprocess.Popen(["sleep", "60"], env={MARK: str(place)}, start_new_session=True)
        for place in (root, root / "another")
    ]
    try:
        # A program is told to have begun a moment before the kernel shows its variables.
        deadline = time.monotonic() + 10
        while not all(Path(f"/proc/{process.pid}/environ").read_bytes() for process in sleeping):
            assert time.monotonic() < deadline
        assert end_leftovers(root) == 1
        assert sleeping[0].wait(10) == -signal.SIGKILL
        assert sleeping[1].poll() is None
    finally:
        for process in sleeping:
            process.kill()
            process.wait()


def test_dvc_that_was_ended_holds_no_lock(tmp_path: Path) -> None:
    """Its number may be another process's by now: here it is this one's."""
    ours = {"pid": os.getpid(), "cmd": f"/bin/dvc repro --single-item {PIPELINE}:attack@faces-baseline-0"}
    other = {"pid": os.getpid(), "cmd": "/bin/dvc repro dvc.yaml:attack"}
    locks = {
        "write": {"artifacts/a": ours, "artifacts/b": other},
        "read": {"data": [ours, other], "more": [ours]},
    }
    file = tmp_path / "rwlock"
    file.write_text(json.dumps(locks))
    assert not mend_locks(file, PIPELINE)
    assert json.loads(file.read_text()) == {"write": {"artifacts/b": other}, "read": {"data": [other]}}


@pytest.mark.parametrize(
    "content", ["[1]", '{"read": 3}', '{"read": {"data": [3]}}', '{"write": {"artifacts/a": {"pid": 1}}}']
)
def test_locks_that_are_not_dvcs_are_removed(tmp_path: Path, content: str) -> None:
    file = tmp_path / "rwlock"
    assert not mend_locks(file, PIPELINE)
    file.write_text(content)
    assert mend_locks(file, PIPELINE)
    assert not file.exists()


@pytest.mark.parametrize(("content", "kept"), [("", False), ('{"a": {"wri', False), ("{}", True)])
def test_dvcs_own_locks_do_not_outlive_a_kill_half_written(
    root: Path, go: Go, content: str, kept: bool
) -> None:
    locks = root / ".dvc" / "tmp" / "rwlock"
    locks.parent.mkdir(parents=True)
    locks.write_text(content)
    assert go(profile("faces", seeds=(0,))) == Outcome([], [])
    assert locks.exists() is kept


def test_what_is_done_is_kept_a_second_time_before_each_step_and_after_the_last(
    root: Path, go: Go, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    monkeypatch.setattr(Spare, "keep", lambda _: kept.append(len(list((root / "done").iterdir()))))
    go(profile("faces", seeds=(0,)), jobs=1)
    # DVC writes its file when a step ends: one that has begun has those before it in there.
    assert len(kept) == 11 + 2  # a job for ingest and one for the cell
    assert kept[-1] == 11


def test_two_runs_in_one_repository_are_one_too_many(root: Path, go: Go) -> None:
    with alone(root / FOLDER / "lock"), pytest.raises(ConfigError, match="another `python -m tables`"):
        go(SMALL)


def test_what_each_step_took_is_written_down_and_tells_the_time_left(root: Path, go: Go) -> None:
    go(profile("faces", seeds=(0,)))
    file = root / FOLDER / "logs" / "stages.csv"
    assert len(file.read_text().splitlines()) == 1 + 11
    file.write_text(
        'where,step,seconds,core_seconds\n"faces, baseline, seed 0",attack,600,1\nsigns,ingest,120,1\n'
    )
    with file.open("a") as lines:
        lines.write("signs,ing")  # the disk was full
    clock = Clock(file)
    assert clock.expect("faces, baseline, seed 1", "attack") == 600
    assert clock.expect("signs, baseline, seed 1", "attack") == 600
    assert clock.expect("signs, baseline, seed 1", "evaluate") is None
    steps = {"faces, baseline, seed 1": [Step("attack@faces-baseline-1", "attack")]}
    with Board(steps, 2, clock) as board:
        assert board.left() == "10 min left"  # two jobs cannot share it
    steps["faces, pruning_aware, seed 1"] = [Step("attack@faces-pruning_aware-1", "attack")]
    with Board(steps, 1, clock) as board:
        assert board.left() == "20 min left"

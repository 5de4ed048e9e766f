"""What is told of the steps that are being run, and of the time that is left."""

import csv
from pathlib import Path

import pytest

from tables import progress
from tables.dvc_output import Doing
from tables.profiles import Step
from tables.progress import Board, Clock, Durations


def test_what_is_being_run_is_told_with_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_PAUSE", 0.0)
    attack, evaluate = (Step(f"{name}@faces-baseline-0", name) for name in ("attack", "evaluate"))
    with Board(
        {"faces, seed 0": [attack], "signs, seed 0": [evaluate]}, 2, Clock(tmp_path / "no.csv")
    ) as board:
        board.begun("faces, seed 0", attack, 0.0)
        board.tick({"faces, seed 0": Doing("start 3/40", 2400.0)})
        assert "at least 40 min left; faces, seed 0: attack (start 3/40)" in capsys.readouterr().err
        board.begun("signs, seed 0", evaluate, 0.0)
        board.tick(
            {"faces, seed 0": Doing("start 3/40", 2400.0), "signs, seed 0": Doing("evaluate 1/9", 60.0)}
        )
        line = (
            "at least 40 min left; faces, seed 0: attack (start 3/40); signs, seed 0: evaluate (evaluate 1/9)"
        )
        assert line in capsys.readouterr().err
        board.done("signs, seed 0", evaluate, 0.0)
        capsys.readouterr()
        board.tick({"faces, seed 0": Doing("start 3/40", 2400.0)})
        assert "signs" not in capsys.readouterr().err


def test_of_the_first_of_its_kind_others_are_expected_to_take_as_long_as_it_says(tmp_path: Path) -> None:
    attack = Step("attack", "attack")
    steps = {f"faces, baseline, seed {seed}": [attack] for seed in range(4)}
    with Board(steps, 2, Clock(tmp_path / "no.csv")) as board:
        for seed in (0, 1):
            board.begun(f"faces, baseline, seed {seed}", attack, 0.0)
        assert board.left() == ""
        board.tick({f"faces, baseline, seed {seed}": Doing("start 3/40", 1200.0) for seed in (0, 1)})
        assert board.left() == "at least 40 min left"  # four of 20 minutes, two at a time
        board.tick(
            {
                "faces, baseline, seed 0": Doing("start 3/40", 1200.0),
                "faces, baseline, seed 1": Doing("attack 9/10", None),
            }
        )
        assert board.left() == "at least 40 min left"  # what tells nothing is taken to be like its kind


def test_a_step_is_believed_of_itself_and_no_other_case_is_taken_to_be_like_it(tmp_path: Path) -> None:
    attack = Step("attack", "attack")
    steps = {where: [attack] for where in ("faces, baseline, seed 0", "digits, baseline, seed 0")}
    with Board(steps, 1, Clock(tmp_path / "no.csv")) as board:
        board.begun("faces, baseline, seed 0", attack, 0.0)
        board.tick({"faces, baseline, seed 0": Doing("start 3/40", 36000.0)})
        assert board.left() == "at least 10.0 h left"
    steps = {f"faces, baseline, seed {seed}": [attack] for seed in (0, 1)}
    with Board(steps, 2, Clock(tmp_path / "no.csv")) as board:
        for seed in (0, 1):
            board.begun(f"faces, baseline, seed {seed}", attack, 0.0)
        told = {"faces, baseline, seed 0": 3600.0, "faces, baseline, seed 1": 60.0}
        board.tick({where: Doing("attack 9/10", left) for where, left in told.items()})
        assert board.left() == "at least 60 min left"


def test_a_steps_core_seconds_are_its_own_and_what_was_not_begun_is_not_recorded(tmp_path: Path) -> None:
    one, other, dropped = (Step(name, name) for name in ("attack", "profile", "prune"))
    with Board({"here": [one, other, dropped]}, 1, Clock(tmp_path / "stages.csv")) as board:
        board.begun("here", one, 5.0)
        board.done("here", one, 12.5)
        board.done("here", other, 13.0)  # before this run
        board.begun("here", dropped, 13.0)
        board.dropped("here", [dropped])
        board.dropped("here", [dropped])
        assert (board._bar.n, board._bar.total) == (2, 2)
        assert not board._begun
        assert board.left() == "0 min left"
    assert board._bar.disable  # it is closed
    with (tmp_path / "stages.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["step"], row["core_seconds"]) == ("attack", "7.5")


def test_where_nobody_looks_the_bar_is_shown_once_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    attack = Step("attack", "attack")
    with Board({"here": [attack]}, 1, Clock(tmp_path / "no.csv")) as board:
        board.begun("here", attack, 0.0)
        capsys.readouterr()
        for now[0], told in ((1059.0, False), (1060.0, True), (1119.0, False), (1120.0, True)):
            board.tick({"here": Doing(f"epoch {now[0]:.0f}", None)})
            assert ("epoch" in capsys.readouterr().err) == told


def test_a_phase_that_is_over_is_not_told_of_the_next_step(tmp_path: Path) -> None:
    attack, prune = Step("attack", "attack"), Step("prune", "prune")
    with Board({"here": [attack, prune]}, 1, Clock(tmp_path / "no.csv")) as board:
        board.begun("here", attack, 0.0)
        board.tick({"here": Doing("epoch 1/9", 36000.0)})
        board.done("here", attack, 0.0)
        board.begun("here", prune, 0.0)
        assert board.left() == ""


def test_others_of_its_kind_take_what_a_step_took_and_still_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    attack = Step("attack", "attack")
    steps = {f"faces, baseline, seed {seed}": [attack] for seed in (0, 1)}
    with Board(steps, 1, Clock(tmp_path / "no.csv")) as board:
        board.begun("faces, baseline, seed 0", attack, 0.0)
        now[0] = 1600.0
        board.tick({"faces, baseline, seed 0": Doing("epoch 1/3", 1200.0)})
        assert board.left() == "at least 50 min left"


def test_what_only_other_cases_tell_of_is_said_to_be_theirs(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "stages.csv")
    attack, prune = Step("attack", "attack"), Step("prune", "prune")
    steps = {"faces, baseline, seed 0": [attack], "road_signs, baseline, seed 0": [attack]}
    clock.learn("faces, baseline, seed 1", "attack", 600.0)
    with Board(steps, 1, clock) as board:
        assert board.left() == "20 min left by other cases' times"
        clock.learn("road_signs, baseline, seed 1", "attack", 3600.0)
        assert board.left() == "70 min left"
        steps["road_signs, baseline, seed 0"].append(prune)
    with Board(steps, 1, clock) as board:
        assert board.left() == "at least 70 min left"


def test_the_closest_is_what_a_step_is_expected_to_be_like() -> None:
    known = Durations()
    known.learn("faces, baseline, seed 0", "attack", 10.0)
    known.learn("faces, pruning_aware, seed 0", "attack", 30.0)
    assert known.expect("faces, baseline, seed 1", "attack") == 10
    assert known.expect("faces, another, seed 1", "attack") == 20
    assert known.expect("signs, baseline, seed 1", "attack") == 20
    assert known.expect("signs, baseline, seed 1", "attack", elsewhere=False) is None


def test_what_was_recorded_is_known_to_the_next_run_but_for_a_line_that_was_cut_short(
    tmp_path: Path,
) -> None:
    file = tmp_path / "logs" / "stages.csv"
    for seconds in (10.0, 30.0):
        Clock(file).add("faces, baseline, seed 0", "attack", seconds, 1.0)
    assert len(file.read_text().splitlines()) == 1 + 2
    with file.open("a") as lines:
        lines.write("faces,attack")
    assert Clock(file).expect("faces, baseline, seed 1", "attack") == 20

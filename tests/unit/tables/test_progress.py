"""What is told of the steps that are being run, and of the time that is left."""

from pathlib import Path

import pytest

from tables import progress
from tables.dvc_output import Doing
from tables.profiles import Step
from tables.progress import Board, Clock


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
    with Board(steps, 2, Clock(tmp_path / "no.csv")) as board:
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

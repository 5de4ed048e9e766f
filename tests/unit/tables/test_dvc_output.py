"""What DVC prints: of the step that is being run, and of one that failed."""

import pytest
from tqdm import tqdm

from tables.dvc_output import Doing, cause, doing, is_busy, refused


@pytest.mark.parametrize(
    ("done", "seconds", "expected"),
    [
        (0, 0, Doing("attack, control 0/30", None)),
        (8, 552, Doing("attack, control 8/30", 22 * 69)),
        (1, 3000, Doing("attack, control 1/30", 29 * 3000)),
        (30, 2070, Doing("attack, control 30/30", 0)),
    ],
)
def test_a_steps_own_progress_is_understood(done: int, seconds: float, expected: Doing) -> None:
    line = tqdm.format_meter(
        done, 30, seconds, prefix="attack, control", unit="epoch", ascii=True, ncols=None
    )
    assert doing(line + "\n") == expected


@pytest.mark.parametrize("line", ["", "> fineprune attack\n", "ingest: warning: 2 test inputs: 1/2 [x]\n"])
def test_other_lines_are_no_progress(line: str) -> None:
    assert doing(line) is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["epoch 3\n", "fineprune attack: error: loss is  NaN\n", "ERROR: failed to reproduce 'a'\n"],
            "loss is NaN",
        ),
        (
            ["Traceback\n", "RuntimeError: CUDA out of memory\n", "ERROR: failed to reproduce 'a'\n"],
            "RuntimeError: CUDA out of memory",
        ),
        (
            ["epoch 3\n", "ERROR: failed to reproduce 'a': failed to run: x, exited with -9\n"],
            "ended by SIGKILL",
        ),
        (
            ["epoch 3\n", "ERROR: failed to reproduce 'a': missing data 'source': x\n"],
            "missing data 'source': x",
        ),
        (["fineprune attack: error: first\n", "fineprune attack: error: last\n"], "last"),
        (
            ["OSError: no\n", "ERROR: failed to reproduce 'a': failed to run: x, exited with 1\n"],
            "OSError: no",
        ),
        (
            [
                "Running stage 'a':\n",
                "> x\n",
                "ERROR: failed to reproduce 'a': failed to run: x, exited with 1\n",
            ],
            "failed to reproduce 'a': failed to run: x, exited with 1",
        ),
        (["ERROR: 'tables/dvc.yaml' does not exist\n"], "'tables/dvc.yaml' does not exist"),
        ([], "DVC said nothing"),
    ],
)
def test_a_cause_is_the_stages_own_word_or_the_last_that_was_said(lines: list[str], expected: str) -> None:
    assert cause(lines) == expected


def test_what_dvc_refused_last_is_meant() -> None:
    lines = [
        "ERROR: failed to reproduce 'a': x\n",
        "ERROR: failed to reproduce 'tables/dvc.yaml:b': y\n",
        "z\n",
    ]
    assert refused(lines) == "b"
    assert refused(["Running stage 'a':\n"]) is None


@pytest.mark.parametrize("says", ["ERROR: Unable to acquire lock", "'a/b' is busy, it is being blocked by:"])
def test_another_dvc_in_the_way_is_told_from_a_fault(says: str) -> None:
    assert is_busy(["epoch 3\n", f"{says}\n"])
    assert not is_busy(["epoch 3\n", "CUDA is busy\n"])

"""Which pictures an evaluation has."""

from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from fineprune.reporting import illustration


@pytest.mark.parametrize("classes", [2, illustration.CONFUSION_CLASSES, illustration.CONFUSION_CLASSES + 1])
def test_a_confusion_matrix_is_drawn_where_it_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, classes: int
) -> None:
    for name in ("figures", "_draw_examples", "_confusion"):
        monkeypatch.setattr(illustration, name, mock.Mock())
    bed = SimpleNamespace(classes=["a"] * classes)
    told = defaultdict(mock.Mock)
    illustration.draw(tmp_path / "figures", bed, told, told, told, told, {})
    drawn = illustration.figures.confusion.call_args_list
    names = ["confusion_undefended.png", "confusion_fine_pruned.png"]
    assert [call.args[0].name for call in drawn] == (names if classes <= 50 else [])
    assert illustration.figures.outcome_bars.call_count == 1

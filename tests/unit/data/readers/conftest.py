import importlib
import sys

import pytest
from PIL import Image


@pytest.fixture
def work(tmp_path):
    path = tmp_path / "work"
    path.mkdir()
    return path


@pytest.fixture
def write_image():
    """Write an image of one colour; what is not given is 6 wide, 8 high and RGB."""

    def write(path, colour, size=(6, 8), mode="RGB"):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, colour).save(path)
        return path

    return write


@pytest.fixture
def without(monkeypatch):
    """Make a library as good as not installed."""

    def hide(library):
        for name in {library, *(name for name in sys.modules if name.partition(".")[0] == library)}:
            monkeypatch.setitem(sys.modules, name, None)
        importlib.invalidate_caches()

    return hide

import os

import pytest


@pytest.fixture
def unreadable(monkeypatch):
    """Make a folder unreadable, for root too."""

    def hide(folder):
        scan = os.scandir

        def scandir(path):
            if str(path) == str(folder):
                raise PermissionError(13, "Permission denied", str(folder))
            return scan(path)

        monkeypatch.setattr(os, "scandir", scandir)

    return hide

"""The programs of docker/, which is no package: the library of that name would hide it."""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT / "docker"))  # as it is when one of them is started
commands, images, pip_settings, requirements, service, stack = map(
    importlib.import_module, ("commands", "images", "pip_settings", "requirements", "service", "stack")
)

"""What a build is told of this machine's pip."""

from pathlib import Path

import pytest

from .programs import pip_settings


def test_settings_of_a_command_and_of_the_environment_win(monkeypatch: pytest.MonkeyPatch) -> None:
    told = """\
:env:.index-url='of the environment'
global.index-url='of all commands'
global.cert='/ca.pem'
global.timeout='5'
install.timeout='6'
freeze.timeout='7'"""
    monkeypatch.setattr(pip_settings, "output", lambda command: told)
    assert pip_settings.pip_configuration() == {
        "index-url": "of the environment",
        "cert": "/ca.pem",
        "timeout": "6",
    }


@pytest.mark.parametrize("as_url", [False, True])
def test_wheelhouse_gets_the_wheels_of_the_lock_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_url: bool
) -> None:
    (tmp_path / "requirements.lock").write_text("torch==2.13.0\nruamel-yaml==0.18\nnumpy==2.4.6 ; extra\n")
    for folder in ("wheels", "wheelhouse"):
        (tmp_path / folder).mkdir()
    pinned = {
        "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl",
        "ruamel.yaml-0.18-py3-none-any.whl",
        "numpy-2.4.6-cp311-cp311-linux_x86_64.whl",
    }
    for name in {*pinned, "torch-2.12.0-cp311-cp311-linux_x86_64.whl", "other-1-py3-none-any.whl"}:
        (tmp_path / "wheels" / name).write_text(name)
    monkeypatch.setattr(pip_settings, "ROOT", tmp_path)
    monkeypatch.setattr(pip_settings, "WHEELHOUSE", tmp_path / "wheelhouse")
    place = f"file://{tmp_path}/wheels" if as_url else str(tmp_path / "wheels")
    pip_settings.fill_wheelhouse(["https://index.example.org/wheels", place])
    assert {path.name for path in (tmp_path / "wheelhouse").iterdir()} == pinned

"""What a build is told of this machine's pip."""

import configparser
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


def test_build_gets_a_configuration_that_pip_can_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {
        "trusted-host": "\na.example\nb.example",
        "find-links": "~/wheels\nhttps://c.example/wheels",
        "no-index": "true",
        "timeout": "60",
        "cert": "~/ca.pem",
        "user": "yes",
    }
    read = configparser.RawConfigParser()
    with pip_settings.build_secrets(given) as (pip, ca):
        read.read(pip.partition("src=")[2])
    assert dict(read["global"]) == {
        "trusted-host": "a.example b.example",
        "find-links": "https://c.example/wheels",
        "no-index": "true",
        "timeout": "60",
        "cert": pip_settings.CERTIFICATES,
    }
    assert ca == f"--secret=id=ca,src={tmp_path}/ca.pem"


@pytest.mark.parametrize("place", ["{}/wheels", "file://{}/wheels", "~/wheels"])
def test_wheelhouse_gets_the_wheels_of_the_lock_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
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
    monkeypatch.setenv("HOME", str(tmp_path))
    pip_settings.fill_wheelhouse(["https://index.example.org/wheels", place.format(tmp_path)])
    assert {path.name for path in (tmp_path / "wheelhouse").iterdir()} == pinned

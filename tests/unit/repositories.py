"""Data repositories made with the ``git`` and ``dvc`` programs."""

import shutil
import subprocess

import pytest


def run(repo, *command):
    """Run ``git`` or ``dvc`` in the repository, away from this user's and this machine's settings."""
    home = str(repo.parent / "home")
    settings = {"HOME": home, "GIT_CONFIG_GLOBAL": "/dev/null", "DVC_NO_ANALYTICS": "1"}
    settings |= {
        f"GIT_{who}": "unit@test"
        for who in ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")
    }
    settings |= {f"DVC_{name}_DIR": home for name in ("GLOBAL_CONFIG", "SYSTEM_CONFIG", "SITE_CACHE")}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        if command[0] == "dvc":
            # Within this process: loading dvc takes longer than what it does here.
            from dvc.cli import main

            assert main(["--cd", str(repo), *command[1:]]) == 0
            return ""
        done = subprocess.run(command, cwd=repo, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def commit_remote(repo, url, *, endpoint=None):
    """Make ``url`` the default remote, push everything to it and empty the cache."""
    run(repo, "dvc", "remote", "add", "-q", "-d", "store", url)
    if endpoint:
        run(repo, "dvc", "remote", "modify", "store", "endpointurl", endpoint)
    run(repo, "dvc", "push", "-q", "--all-commits")
    run(repo, "git", "commit", "-q", "-a", "-m", "remote")
    shutil.rmtree(repo / ".dvc/cache")


def published_as(address, repo, monkeypatch):
    """Let git fetch from the repository what it is to fetch from the address."""
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{repo.as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", address)

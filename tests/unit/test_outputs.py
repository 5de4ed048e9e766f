import ctypes
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from fineprune import outputs
from fineprune.errors import ConfigError
from fineprune.files import remove
from fineprune.outputs import whole_outputs


def tree(path):
    """Every file under a folder, with its content."""
    return {str(file.relative_to(path)): file.read_text() for file in path.rglob("*") if file.is_file()}


def write(path, text):
    """A folder with one file of that text."""
    path.mkdir(parents=True)
    (path / "value.txt").write_text(text)


@pytest.fixture
def old(tmp_path):
    """A place with an old output folder and an old output file."""
    write(tmp_path / "folder", "old")
    (tmp_path / "file.json").write_text("old")
    return tmp_path


OLD = {"folder/value.txt": "old", "file.json": "old"}


def targets(place):
    return {"folder": place / "folder", "file": place / "file.json"}


def write_both(scratch, text):
    write(scratch["folder"], text)
    scratch["file"].write_text(text)


def test_outputs_appear_when_the_block_succeeds(tmp_path):
    with whole_outputs(targets(tmp_path / "new" / "place")) as scratch:
        write_both(scratch, "new")
        assert tree(tmp_path / "new" / "place").keys() & {"folder/value.txt", "file.json"} == set()
    assert tree(tmp_path / "new" / "place") == {"folder/value.txt": "new", "file.json": "new"}


@pytest.mark.parametrize("can_exchange", [True, False])
def test_new_outputs_replace_old_ones(old, monkeypatch, can_exchange):
    if not can_exchange:
        monkeypatch.setattr(outputs, "_exchange", lambda one, other: False)
    (old / "folder" / "stale.txt").write_text("old")
    with whole_outputs(targets(old)) as scratch:
        write_both(scratch, "new")
    assert tree(old) == {"folder/value.txt": "new", "file.json": "new"}


@pytest.mark.parametrize("library", [SimpleNamespace(), SimpleNamespace(renameat2=lambda *_: -1)])
def test_new_outputs_replace_old_ones_where_the_system_cannot_swap(old, monkeypatch, library):
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: library)
    with whole_outputs(targets(old)) as scratch:
        write_both(scratch, "new")
    assert tree(old) == {"folder/value.txt": "new", "file.json": "new"}


def test_old_outputs_stay_whole_after_an_exception(old):
    def fail():
        with whole_outputs(targets(old)) as scratch:
            write_both(scratch, "half of it")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert tree(old) == OLD


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("forgotten", ["folder", "file"])
def test_old_outputs_stay_whole_if_one_was_not_written(old, monkeypatch, can_exchange, forgotten):
    if not can_exchange:
        monkeypatch.setattr(outputs, "_exchange", lambda one, other: False)

    def forget():
        with whole_outputs(targets(old)) as scratch:
            write_both(scratch, "new")
            remove(scratch[forgotten])

    with pytest.raises(FileNotFoundError):
        forget()
    assert tree(old) == OLD


SLEEPER = """
import sys, time
from pathlib import Path
from fineprune.outputs import whole_outputs
place = Path(sys.argv[1])
with whole_outputs({"folder": place / "folder", "file": place / "file.json"}) as scratch:
    scratch["folder"].mkdir()
    (scratch["folder"] / "value.txt").write_text("half of it")
    print("half way", flush=True)
    time.sleep(60)
"""


def test_old_outputs_stay_whole_after_kill_9_and_the_next_run_cleans_up(old):
    program = subprocess.Popen([sys.executable, "-c", SLEEPER, str(old)], stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "half way\n"
    program.send_signal(signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL
    program.stdout.close()
    leftovers = tree(old).items() - OLD.items()
    assert OLD.items() <= tree(old).items()
    locks = {".folder.lock": "", ".file.json.lock": ""}  # which nobody holds
    assert dict(leftovers) == {".folder.partial/value.txt": "half of it"} | locks
    with whole_outputs(targets(old)) as scratch:
        write_both(scratch, "new")
    assert tree(old) == {"folder/value.txt": "new", "file.json": "new"}


def test_an_old_folder_that_a_killed_run_had_set_aside_comes_back(old):
    """Where two folders cannot be swapped, a run may be killed between its two renames."""
    (old / "folder").rename(old / ".folder.old")
    with pytest.raises(KeyError), whole_outputs(targets(old)):
        raise KeyError
    assert tree(old) == OLD


def test_an_old_folder_is_kept_until_the_new_one_is_in_its_place(old, monkeypatch):
    """Where two folders cannot be swapped, and the second of the two renames fails."""
    monkeypatch.setattr(outputs, "_exchange", lambda one, other: False)
    rename = os.rename

    def fail(source, target):
        if source.name.endswith(".partial"):
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    def replace():
        with whole_outputs(targets(old)) as scratch:
            write_both(scratch, "new")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", fail)
        with pytest.raises(OSError, match="Input"):
            replace()
    with pytest.raises(KeyError), whole_outputs(targets(old)):
        raise KeyError
    assert tree(old) == OLD


def test_what_a_killed_run_had_set_aside_is_no_obstacle(old, monkeypatch):
    monkeypatch.setattr(outputs, "_exchange", lambda one, other: False)
    write(old / ".folder.old", "older")
    with whole_outputs(targets(old)) as scratch:
        write_both(scratch, "new")
    assert tree(old) == {"folder/value.txt": "new", "file.json": "new"}


def test_a_second_writer_is_refused_and_the_first_is_not_disturbed(old):
    with whole_outputs(targets(old)) as scratch:
        write_both(scratch, "new")
        with (
            pytest.raises(
                ConfigError, match=r"folder: expected to be the only one to write it, found another"
            ),
            whole_outputs({"folder": old / "folder"}),
        ):
            pass
    assert tree(old) == {"folder/value.txt": "new", "file.json": "new"}


def test_a_file_system_without_locks_is_no_obstacle(old, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with whole_outputs(targets(old)) as scratch:
        write_both(scratch, "new")
    assert tree(old) == {"folder/value.txt": "new", "file.json": "new"}


def test_of_many_writers_each_finds_the_place_whole_and_its_own(tmp_path):
    def write_one(number):
        while True:
            try:
                with whole_outputs({"folder": tmp_path / "folder"}) as scratch:
                    write(scratch["folder"], str(number))
                    time.sleep(0.001)
                    assert tree(scratch["folder"]) == {"value.txt": str(number)}
                return
            except ConfigError:
                time.sleep(0.001)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write_one, range(40)))
    assert list(tree(tmp_path)) == ["folder/value.txt"]


FULL_DISK = """
import resource, sys
from dataclasses import make_dataclass
from fineprune import cli
from fineprune.stages.base import Result, Stage
def run(config, inputs, outputs):
    outputs["profile"].mkdir()
    big = outputs["profile"] / "big.npy"
    {write}
    return Result()
stage = Stage("profile", make_dataclass("Config", []), (), ("profile", "report"), run)
cli.load_stage = lambda name: stage
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
sys.exit(cli.main(["profile", "--params", "{{}}", "--profile", sys.argv[1], "--report", sys.argv[2]]))
"""


@pytest.mark.parametrize("write", ["big.write_text('x' * 9000)", "import numpy; numpy.save(big, [0] * 9000)"])
def test_a_full_disk_is_one_line_and_old_outputs_stay_whole(old, write):
    script = FULL_DISK.format(write=write)
    arguments = [sys.executable, "-c", script, str(old / "folder"), str(old / "report")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr.startswith("fineprune profile: error: ")
    assert tree(old) == OLD


def test_a_folder_is_never_missing_while_it_is_replaced(old):
    stop, misses = threading.Event(), []

    def look():
        while not stop.is_set():
            try:
                (old / "folder" / "value.txt").stat()
            except FileNotFoundError:
                misses.append(1)

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(300):
        with whole_outputs({"folder": old / "folder"}) as scratch:
            write(scratch["folder"], str(number))
    stop.set()
    reader.join()
    assert not misses
    assert tree(old / "folder") == {"value.txt": "299"}


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".folder.lock").symlink_to("notes.txt")
    with pytest.raises(OSError, match="symbolic link"), whole_outputs({"folder": tmp_path / "folder"}):
        pass
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_second_name_of_a_file_in_the_place_of_a_lock_does_not_empty_it(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".folder.lock").hardlink_to(tmp_path / "notes.txt")
    with whole_outputs({"folder": tmp_path / "folder"}) as scratch:
        write(scratch["folder"], "new")
    assert tree(tmp_path) == {"notes.txt": "mine", "folder/value.txt": "new"}


def test_outputs_are_flushed_before_they_are_put_in_place(old, monkeypatch):
    events = []
    monkeypatch.setattr(os, "fsync", lambda handle: events.append("flush"))
    put = outputs._put_in_place
    monkeypatch.setattr(outputs, "_put_in_place", lambda *paths: (events.append("put"), put(*paths)))
    with whole_outputs(targets(old)) as scratch:
        write_both(scratch, json.dumps("new"))
    assert events == ["flush", "flush", "put", "put"]

from types import SimpleNamespace

from fineprune.data import expansion
from fineprune.data.expansion import most, room


def test_what_is_small_may_come_out_of_anything():
    assert most(0) == most(1000) == 2**28


def test_no_more_than_two_hundred_times_what_is_stored_may_come_out_of_it():
    assert most(10**9) == 200 * 10**9


def test_a_tenth_of_the_free_disk_is_left_to_others(tmp_path, monkeypatch):
    monkeypatch.setattr(expansion.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert room(tmp_path) == 900

import pytest

from fineprune.data.readers.naming import check_once, inside
from fineprune.errors import DataError


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../a.png", "a/../../b.png", "a\0.png"])
def test_refuses_names_that_lead_out_of_the_folder(name, tmp_path):
    with pytest.raises(DataError, match=f"list:7: expected a path below {tmp_path}"):
        inside(tmp_path, name, "list:7")


def test_refuses_what_is_named_twice():
    check_once("image", [("a", "t:2"), ("b", "t:3")])
    with pytest.raises(DataError, match="t:4: expected each image once, a is at t:2 too"):
        check_once("image", [("a", "t:2"), ("b", "t:3"), ("a", "t:4")])

from fineprune.data.readers import warnings


def test_only_what_was_counted_is_told():
    assert warnings({"a": 0, "b": 2}, {"a": "{} a", "b": "{} b", "c": "{} c"}) == ("2 b",)

from fineprune.tracking.answers import shortened


def test_a_long_text_is_cut_and_shows_it() -> None:
    assert shortened("x" * 5000) == "x" * 5000
    assert shortened("x" * 5001) == "x" * 4999 + "…"
    assert shortened("abcdef", 3) == "ab…"

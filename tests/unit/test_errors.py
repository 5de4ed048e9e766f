import errno
from urllib.error import URLError

from fineprune.errors import excerpt, one_line, root_cause, shortened, without_credentials


def test_an_error_is_told_in_one_line() -> None:
    assert one_line(ValueError("first\n  second")) == "first second"
    assert one_line(ValueError()) == "ValueError"
    assert one_line(OSError(errno.ENOSPC, "No space left on device", "a.npy")) == (
        "a.npy: No space left on device"
    )
    copied = OSError(errno.ENOSPC, "No space left on device", "read.npy", None, "written.npy")
    assert one_line(copied) == "written.npy: No space left on device"
    assert one_line(OSError(errno.EIO, "Input/output error", "read.npy", None, "written.npy")) == (
        "read.npy: Input/output error"
    )
    assert one_line(OSError(errno.EBADF, "Bad file descriptor", 3)) == "Bad file descriptor"
    assert one_line(OSError(errno.ECONNREFUSED, "Connection refused")) == "Connection refused"
    assert "secret" not in one_line(ValueError("https://user:secret@example.org refuses"))


def test_what_would_steer_a_terminal_is_told_as_escapes() -> None:
    assert one_line(ValueError("a\x1b[2J\x07b\u202egnp.png")) == r"a\x1b[2J\x07b\u202egnp.png"
    assert one_line(ValueError("größer − 5 … \udcff")) == r"größer − 5 … \udcff"


def test_a_long_text_is_cut_and_shows_it() -> None:
    assert shortened("x" * 5000, 5000) == "x" * 5000
    assert shortened("x" * 5001, 5000) == "x" * 4999 + "…"


def test_a_signature_in_an_address_is_a_secret() -> None:
    for key in ("sig", "X-Amz-Signature", "passwd", "access_token"):
        assert (
            without_credentials(f"https://host/x?a=1&{key}=planted&b=2") == f"https://host/x?a=1&{key}=…&b=2"
        )


def test_a_header_that_is_refused_is_not_repeated() -> None:
    said = "Invalid header value b'Bearer planted\\n'"
    assert without_credentials(said) == "Invalid header value …"


def test_what_started_it_is_at_the_end_of_the_chain() -> None:
    started = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    tries = ValueError("Max retries exceeded")
    tries.reason = started  # as urllib3 keeps it
    told = RuntimeError("no answer")
    told.__cause__ = tries
    assert root_cause(told) == "Connection refused"
    assert root_cause(ValueError("alone")) == "alone"
    handled = ValueError("while that was handled")
    handled.__context__ = started
    assert root_cause(handled) == "Connection refused"
    assert root_cause(URLError("no host given")) == "<urlopen error no host given>"  # its reason is a text


def test_a_number_that_python_does_not_write_out_is_shown_all_the_same() -> None:
    assert excerpt(1 << 20000) == "a number of more than 4,300 digits"
    assert excerpt([1 << 20000]) == "a number of more than 4,300 digits"

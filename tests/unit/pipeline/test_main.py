"""The program: it leaves with its command's code, and says one line where there is none."""

from types import SimpleNamespace

import pytest

from fineprune.errors import ConfigError
from pipeline import __main__


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A command whose ``run`` may be set."""
    made = SimpleNamespace(add_arguments=lambda parser: parser.add_argument("--profile"), run=lambda _: 3)
    monkeypatch.setattr(__main__, "_load", lambda _: made)
    return made


def test_the_commands_own_code_is_the_programs(command: SimpleNamespace) -> None:
    assert __main__.main(["submit"]) == 3


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (ConfigError("two\n  lines"), 2, "error: two lines"),
        (OSError("two\n  lines"), 2, "error: two lines"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_ends_a_command_is_one_line(
    command: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    fault: BaseException,
    code: int,
    said: str,
) -> None:
    def fail(_: object) -> int:
        raise fault

    command.run = fail
    assert __main__.main(["submit"]) == code
    assert capsys.readouterr().err == f"python -m pipeline submit: {said}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "arguments are required: COMMAND"),
        (["nosuch"], "invalid choice: 'nosuch'"),
        (["--", "submit"], "expected a command first"),
        (["submit", "--prof=cpu"], "unrecognized arguments: --prof=cpu"),
    ],
)
def test_a_mistake_in_the_command_is_one_line_and_code_2(
    command: SimpleNamespace, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        __main__.main(arguments)
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line

import io
import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from fineprune import __version__, cli
from fineprune.config import Count
from fineprune.digests import sha256
from fineprune.errors import ConfigError, DataError, MissingInputError
from fineprune.stages import STAGES
from fineprune.stages.base import Result, Stage, _peak_memory, content_digest, execute


@dataclass(frozen=True)
class Config:
    steps: Count


@pytest.fixture
def stage(monkeypatch, tmp_path):
    """A stage that does what ``stage.body`` says; its input is there."""
    (tmp_path / "model").write_text("")

    class Body:
        def __call__(self, config, inputs, outputs, **flags):
            self.called_with, self.read = (config, flags), inputs
            outputs["profile"].mkdir()
            (outputs["profile"] / "profile.json").write_text('{"format": 1}')
            return self.body()

    body = Body()
    body.body = Result
    made = Stage(
        "profile",
        Config,
        ("model",),
        ("profile", "report"),
        body,
        optional=("mean_profile",),
        flags={"fail_on_hold": "fail if it is held"},
        options={"run_id": "of the run"},
        views={"copy": "report.json"},
    )
    monkeypatch.setattr(cli, "load_stage", lambda name: made)
    monkeypatch.chdir(tmp_path)
    return body


PATHS = ["--model", "model", "--profile", "profile", "--report", "report"]


def run(capsys, *arguments):
    """The exit code, and the lines on stderr."""
    try:
        code = cli.main(arguments)
    except SystemExit as leaving:
        code = leaving.code
    return code, capsys.readouterr().err.splitlines()


def test_help_and_version_need_nothing_heavy():
    script = """
import sys
from fineprune.cli import main
for arguments in (["--help"], ["--version"], []):
    try:
        main(arguments)
    except SystemExit:
        pass
heavy = {"torch", "numpy", "yaml", "safetensors", "PIL", "matplotlib", "mlflow", "boto3"}
sys.exit(" ".join(heavy & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout and text in done.stdout for name, text in STAGES.items())
    assert __version__ in done.stdout


def test_stage_help_lists_every_flag(stage, capsys):
    with pytest.raises(SystemExit) as leaving:
        cli.main(["profile", "--help"])
    text = capsys.readouterr().out
    assert leaving.value.code == 0
    for flag in ("--config", "--params", "--model", "--profile", "--report", "--fail-on-hold"):
        assert flag in text


def test_a_stage_runs_on_params_and_writes_its_report(stage, capsys, tmp_path):
    assert run(capsys, "profile", "--params", '{"steps": 2}', *PATHS) == (0, [])
    assert stage.called_with == (Config(2), {"fail_on_hold": False, "run_id": None})
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (report["stage"], report["config"]) == ("profile", {"steps": 2})


def test_the_report_tells_the_code_and_the_cost_with_that_of_attempts_before(
    stage, capsys, tmp_path, monkeypatch
):
    monkeypatch.setattr("fineprune.stages.base.revision", lambda: {"git.commit": "c0ffee"})
    stage.body = lambda: Result(seconds_before=1000.0)
    assert run(capsys, "profile", "--params", '{"steps": 2}', *PATHS) == (0, [])
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert 1000 <= report["seconds"] < 1100
    assert report["peak_memory_bytes"] > 50 << 20  # of a process that has torch
    assert report["revision"] == {"git.commit": "c0ffee"}


def test_an_optional_input_arrives_where_it_is_given_and_must_be_there(stage, capsys, tmp_path):
    command = ["profile", "--params", '{"steps": 2}', *PATHS]
    assert run(capsys, *command) == (0, [])
    assert set(stage.read) == {"model"}
    (tmp_path / "before").write_text("")
    assert run(capsys, *command, "--mean-profile", "before") == (0, [])
    assert set(stage.read) == {"model", "mean_profile"}
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert set(report["inputs"]) == {"model", "mean_profile"}
    code, lines = run(capsys, *command, "--mean-profile", "gone")
    assert (code, lines) == (2, ["fineprune profile: error: --mean-profile: gone: no such file or folder"])


def test_later_config_files_win_and_switches_arrive(stage, capsys, tmp_path):
    (tmp_path / "a.yaml").write_text("profile: {steps: 2}")
    (tmp_path / "b.yaml").write_text("profile: {steps: 3}")
    files = ["--config", "a.yaml", "--config", "b.yaml", "--fail-on-hold", "--run-id", "r1"]
    assert run(capsys, "profile", *files, *PATHS) == (0, [])
    assert stage.called_with == (Config(3), {"fail_on_hold": True, "run_id": "r1"})


def test_a_setting_wins_over_a_file_and_the_last_one_over_the_others(stage, capsys, tmp_path):
    (tmp_path / "a.yaml").write_text("profile: {steps: 2}")
    settings = ["--set", "steps=5", "--set", "steps=7"]
    assert run(capsys, "profile", "--config", "a.yaml", *settings, *PATHS) == (0, [])
    assert stage.called_with[0] == Config(7)


def test_a_view_is_a_copy_of_a_file_of_the_report(stage, capsys, tmp_path):
    paths = [*PATHS, "--copy", "views/copy.json"]
    assert run(capsys, "profile", "--params", '{"steps": 2}', *paths) == (0, [])
    report = tmp_path / "report" / "report.json"
    assert (tmp_path / "views" / "copy.json").read_bytes() == report.read_bytes()


def test_kubeflow_is_told_only_of_a_stage_that_succeeded(stage, capsys, tmp_path):
    told = tmp_path / "kfp" / "output.json"
    given = ["--executor-input", json.dumps({"outputs": {"outputFile": str(told)}})]
    stage.body = lambda: 1 / 0
    with pytest.raises(ZeroDivisionError):
        run(capsys, "profile", "--params", '{"steps": 2}', *given, *PATHS)
    assert not told.exists()
    stage.body = Result
    assert run(capsys, "profile", "--params", '{"steps": 2}', *given, *PATHS) == (0, [])
    assert json.loads(told.read_text()) == {"artifacts": {}}


def test_the_report_shows_no_credentials(tmp_path):
    @dataclass(frozen=True)
    class Fetching:
        source: str

    stage = Stage("ingest", Fetching, (), ("report",), lambda config, inputs, outputs: Result())
    section = {"source": "dvc+https://me:planted@git.example/x@v1:d"}
    execute(stage, section, {}, {"report": tmp_path / "report"})
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["config"] == {"source": "dvc+https://git.example/x@v1:d"}


def test_the_stages_own_exit_code_is_the_programs(stage, capsys):
    stage.body = lambda: Result(exit_code=3)
    assert run(capsys, "profile", "--params", '{"steps": 2}', *PATHS) == (3, [])


def test_what_a_stage_tells_steers_no_terminal(stage, capsys):
    stage.body = lambda: Result(text="a\x1b[2J", summary="b\x1b[2J", warnings=["c\x1b[2J"])
    assert cli.main(["profile", "--params", '{"steps": 2}', *PATHS]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == ["", r"a\x1b[2J", r"profile: b\x1b[2J"]
    assert told.err.splitlines() == [r"profile: warning: c\x1b[2J"]


def test_what_was_once_in_memory_counts():
    block = b"x" * (64 << 20)
    peak = _peak_memory()
    del block
    assert _peak_memory() > peak - (16 << 20)  # the kernel does not count to the byte


def test_a_folder_is_known_by_its_card(tmp_path):
    with pytest.raises(MissingInputError, match=r"expected a folder that a stage wrote, .* found none"):
        content_digest(tmp_path)
    for card in ("model.json", "dataset.json"):
        (tmp_path / card).write_text(card)
        assert content_digest(tmp_path) == sha256(tmp_path / card)


def test_warnings_go_to_stderr(stage, capsys):
    stage.body = lambda: Result(warnings=["mind the gap"])
    code, lines = run(capsys, "profile", "--params", '{"steps": 2}', *PATHS)
    assert (code, lines) == (0, ["profile: warning: mind the gap"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are required: STAGE"),
        (["nosuch"], "invalid choice: 'nosuch'"),
        (["profile", *PATHS], "one of the arguments --config --params is required"),
        (["profile", "--params", "{}", *PATHS[:4]], "arguments are required: --report"),
        (["profile", "--params", "{}", "--config", "a.yaml", *PATHS], "not allowed with argument"),
        (
            ["profile", "--params", "{}", *PATHS, "--executor-input", '{"outputs": 3}'],
            "--executor-input: expected Kubeflow's executor input, found '{\"outputs\": 3}'",
        ),
        (
            ["profile", "--params", '{"steps": 2}', *PATHS, "--set", "steps=3"],
            "profile.steps: expected once, found in --params and in --set",
        ),
        (
            ["profile", "--params", '{"steps": {"a": {}}}', *PATHS, "--set", "steps.a=3"],
            "profile.steps.a: expected once, found in --params and in --set",
        ),
        (["--", "profile"], "expected a stage first"),
        (["profile", "--params", "{}", *PATHS, "--set", "steps"], "--set: expected KEY=VALUE"),
        (["profile", "--params", "{}", *PATHS, "--set", "steps=x"], "profile.steps: expected a whole"),
        (["profile", "--params", "{}", *PATHS, "--nosuch", "x"], "unrecognized arguments: --nosuch x"),
        (["profile", "--params", "{", *PATHS], "--params: not valid JSON"),
        (["profile", "--params", "[" * 100_000, *PATHS], "--params: not valid JSON"),
        (
            ["profile", "--params", '{"steps": 1, "steps": 2}', *PATHS],
            "--params: not valid JSON: expected steps once",
        ),
        (["profile", "--params", "[1]", *PATHS], "--params: expected a JSON mapping, found list"),
        (
            ["profile", "--params", '{"steps": 0, "x": 1}', *PATHS],
            "profile.x: unknown key; profile.steps: ",
        ),
        (
            ["profile", "--config", "none.yaml", *PATHS],
            "none.yaml: cannot read: No such",
        ),
        (
            ["profile", "--params", '{"steps": 1}', *PATHS[:4], "--report", "profile/report"],
            "--profile: profile: expected a place of its own, found --report profile/report there",
        ),
        (
            ["profile", "--params", '{"steps": 1}', *PATHS[:4], "--report", "x/../profile"],
            "--profile: profile: expected a place of its own, found --report x/../profile there",
        ),
        (
            ["profile", "--params", '{"steps": 1}', *PATHS[:4], "--report", "."],
            "--report: .: expected a place of its own, found --model model there",
        ),
        (
            ["profile", "--params", '{"steps": 1}', *PATHS, "--copy", "model"],
            "--copy: model: expected a place of its own, found --model model there",
        ),
        (
            ["profile", "--params", '{"steps": 1}', "--model", "gone", *PATHS[2:]],
            "--model: gone: no such file or folder",
        ),
    ],
)
def test_a_users_mistake_is_one_line_and_code_2(stage, capsys, tmp_path, arguments, message):
    code, lines = run(capsys, *arguments)
    assert (code, len(lines)) == (2, 1)
    assert message in lines[0]
    assert lines[0].startswith("fineprune")
    assert not (tmp_path / "profile").exists()


def test_the_first_stage_finds_a_fault_in_what_a_later_one_will_read(monkeypatch, capsys, tmp_path):
    def load(name):
        if name == "promote":
            raise ImportError("its extra is not installed here")
        return Stage(name, Config, (), ("report",), lambda *_: Result())

    monkeypatch.setattr(cli, "load_stage", load)
    monkeypatch.chdir(tmp_path)
    params = tmp_path / "params.yaml"
    params.write_text(
        "ingest: {steps: 1}\nprofile: {steps: 1}\nattack: {steps: 0}\nprune:\npromote: {x: 1}\n"
    )
    code, lines = run(capsys, "ingest", "--config", "params.yaml", "--report", "report")
    assert (code, len(lines)) == (2, 1)
    assert "attack.steps: expected a value in" in lines[0]
    assert not (tmp_path / "report").exists()
    assert run(capsys, "profile", "--config", "params.yaml", "--report", "other") == (0, [])
    params.write_text(params.read_text().replace("steps: 0", "steps: 1"))
    assert run(capsys, "ingest", "--config", "params.yaml", "--report", "report") == (0, [])


def test_nothing_is_put_over_a_folder_for_work_or_the_folder_that_one_is_in(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    stage = Stage("profile", Config, (), ("report",), lambda *_, **__: Result(), work=("checkpoints",))
    place = Path("report")
    with pytest.raises(
        ConfigError, match="--report: report: expected a place of its own, found --checkpoints"
    ):
        execute(stage, {"steps": 1}, {}, {"report": place}, keywords={"checkpoints": place / "kept"})
    with pytest.raises(ConfigError, match=r"--report: \.: expected a path that ends in a name"):
        execute(stage, {"steps": 1}, {}, {"report": Path()})
    assert not list(tmp_path.iterdir())


def test_a_refused_argument_shows_no_credentials_and_steers_no_terminal(stage, capsys):
    code, lines = run(capsys, "profile", "--params", "{}", *PATHS, "https://me:planted@host/x", "\x1b[2J")
    assert (code, len(lines)) == (2, 1)
    assert r"unrecognized arguments: https://host/x \x1b[2J" in lines[0]


def test_a_section_that_no_stage_reads_is_refused(stage, capsys, tmp_path):
    (tmp_path / "params.yaml").write_text("case: digits\nprofile: {steps: 1}\nprune: {}\n")
    assert run(capsys, "profile", "--config", "params.yaml", *PATHS) == (0, [])
    (tmp_path / "more.yaml").write_text("profil: {steps: 2}\n")
    code, lines = run(capsys, "profile", "--config", "params.yaml", "--config", "more.yaml", *PATHS)
    assert code == 2
    assert lines == ["fineprune profile: error: more.yaml: expected sections of stages, found profil"]


@pytest.mark.parametrize("fault", [BrokenPipeError(), UnicodeEncodeError("ascii", "…", 0, 1, "not in range")])
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_terminal_that_cannot_be_written_to_is_no_reason_to_fail_after_the_work(
    tmp_path, monkeypatch, fault, stream
):
    class Gone(io.StringIO):
        def write(self, _):
            raise fault

    def done(*_):
        return Result(text="version 1 is now champion", summary="…", warnings=["…"])

    monkeypatch.setattr(sys, stream, Gone())
    stage = Stage("promote", Config, (), ("report",), done)
    execute(stage, {"steps": 1}, {}, {"report": tmp_path / "report"})
    assert (tmp_path / "report/report.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--report", "photos"],
            "--report: photos: expected nothing or an earlier report of profile, found other",
        ),
        (["--report", "notes.txt"], "--report: notes.txt: expected nothing or an earlier report of profile"),
        (["--report", "nowhere"], "--report: nowhere: expected nothing or an earlier report of profile"),
        (["--report", "round"], "--report: round: expected nothing or an earlier report of profile"),
        (["--report", "photos/x/.."], "--report: photos/x/..: expected a path that ends in a name"),
        (["--report", "report", "--copy", "photos"], "--copy: photos: expected the path of a file, found a"),
    ],
)
def test_nothing_is_put_over_what_no_stage_wrote(stage, capsys, tmp_path, arguments, message):
    (tmp_path / "photos").mkdir()
    (tmp_path / "nowhere").symlink_to("none")
    (tmp_path / "round").symlink_to("round")
    for name in "photos/one.png", "notes.txt":
        (tmp_path / name).write_text("mine")
    code, lines = run(
        capsys, "profile", "--params", '{"steps": 1}', *PATHS[:2], "--profile", "place/profile", *arguments
    )
    assert (code, len(lines)) == (2, 1)
    assert message in lines[0]
    assert (tmp_path / "photos" / "one.png").read_text() == (tmp_path / "notes.txt").read_text() == "mine"
    assert not (tmp_path / "place").exists()


@pytest.mark.parametrize(
    ("output", "files"),
    [
        ("profile", {"profile.json": "{}"}),
        ("profile", {"profile.json": "[1]"}),
        ("profile", {"profile.json": "{"}),
        ("profile", {"profile.json": '{"format": 1}', "holiday.jpg": "mine"}),
        ("profile", {"model.json": '{"format": 1}', "model.safetensors": "of another output"}),
        ("report", {"report.json": '{"stage": "prune"}'}),
        ("report", {"profile.json": '{"format": 1}'}),
    ],
)
def test_what_another_stage_or_somebody_else_wrote_stays(stage, capsys, tmp_path, output, files):
    (tmp_path / output).mkdir()
    for name, text in files.items():
        (tmp_path / output / name).write_text(text)
    code, lines = run(capsys, "profile", "--params", '{"steps": 1}', *PATHS)
    assert code == 2
    expected = f"expected nothing or an earlier {output} of profile, found other files"
    assert lines == [f"fineprune profile: error: --{output}: {output}: {expected}"]
    found = {path.name: path.read_text() for path in (tmp_path / output).iterdir()}
    assert found == files


def test_empty_folders_and_what_a_stage_wrote_make_way(stage, capsys, tmp_path):
    (tmp_path / "profile").mkdir()
    for _ in range(2):
        assert run(capsys, "profile", "--params", '{"steps": 1}', *PATHS) == (0, [])
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.json"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (DataError("two\n  lines"), "fineprune profile: error: two lines"),
        (
            OSError(28, "No space left on device", "profile/x"),
            "fineprune profile: error: profile/x: No sp",
        ),
        (OSError("short write"), "fineprune profile: error: short write"),
        (MemoryError(), "fineprune profile: error: out of memory: lower batch_size: MemoryError"),
        (DataError("s3://ID:KE/Y@bucket/x: no"), "fineprune profile: error: s3://bucket/x: no"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried\nto"),
            "fineprune profile: error: out of memory: lower batch_size: CUDA out of memory. Tried to",
        ),
        *(
            (RuntimeError(said), f"fineprune profile: error: out of memory: lower batch_size: {said}")
            for said in (
                "[enforce fail] DefaultCPUAllocator: can't allocate memory",
                "CUDA error: out of memory",
                "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
                "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
                "cuFFT error: CUFFT_ALLOC_FAILED",
            )
        ),
    ],
)
def test_an_error_of_a_stage_is_one_line_and_code_2(stage, capsys, tmp_path, error, line):
    def fail():
        raise error

    stage.body = fail
    code, lines = run(capsys, "profile", "--params", '{"steps": 1}', *PATHS)
    assert (code, len(lines)) == (2, 1)
    assert lines[0].startswith(line)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_an_input_that_is_replaced_while_the_stage_runs_is_refused(stage, capsys, tmp_path):
    def replaced():
        (tmp_path / "model").write_text("another's")
        return Result()

    stage.body = replaced
    code, lines = run(capsys, "profile", "--params", '{"steps": 1}', *PATHS)
    assert (code, len(lines)) == (2, 1)
    assert "--model: model: expected digest e3b0c44298fc1c14… as at the start, found" in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


@pytest.mark.parametrize(("by_dvc", "now"), [(True, 3), (True, 2), (False, 3)])
def test_params_that_change_while_dvc_runs_the_stage_are_not_taken_for_what_it_ran_with(
    stage, capsys, tmp_path, monkeypatch, by_dvc, now
):
    def changed():
        (tmp_path / "a.yaml").write_text(f"profile: {{steps: {now}}}\nprune: {{}}")
        return Result()

    (tmp_path / "a.yaml").write_text("profile: {steps: 2}")
    monkeypatch.delenv("DVC_STAGE", raising=False)
    if by_dvc:
        monkeypatch.setenv("DVC_STAGE", "profile@undefended")
    stage.body = changed
    code, lines = run(capsys, "profile", "--config", "a.yaml", *PATHS)
    if by_dvc and now != 2:
        found = "found another section profile than at the start, for which DVC would take the outputs"
        assert (code, lines) == (2, [f"fineprune profile: error: --config: {found}: run again"])
        assert not (tmp_path / "report").exists()
    else:
        assert (code, lines) == (0, [])


def test_a_stage_without_batches_is_not_told_to_make_them_smaller(stage, capsys):
    stage.body = lambda: (_ for _ in ()).throw(MemoryError("90 TiB"))
    code, lines = run(capsys, "ingest", "--params", '{"steps": 1}', *PATHS)
    assert (code, lines) == (2, ["fineprune ingest: error: out of memory: 90 TiB"])


@pytest.fixture
def in_front():
    """As in a shell's foreground: the jobs in its background ignore SIGINT, and so would the tests there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("in_front")
def test_an_interrupt_is_one_line_and_code_130_and_leaves_nothing(number, stage, capsys, tmp_path):
    stage.body = lambda: signal.raise_signal(number)
    arguments = ["profile", "--params", '{"steps": 1}', *PATHS]
    before = signal.getsignal(signal.SIGTERM)
    assert run(capsys, *arguments) == (130, ["fineprune profile: interrupted"])
    assert signal.getsignal(signal.SIGTERM) is before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_the_program_itself_prints_one_line_and_no_traceback():
    program = [sys.executable, "-m", "fineprune.cli", "nosuch"]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "invalid choice: 'nosuch'" in done.stderr
    assert "Traceback" not in done.stderr

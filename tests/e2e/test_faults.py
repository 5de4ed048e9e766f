"""Every refusal: exit code 2, one line that names the culprit, and old outputs as they were."""

import json
import pickle
import re
import shutil
import signal
import struct
import wave
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from fineprune.cli import load_stage, main
from fineprune.digests import sha256
from fineprune.models import ARCHITECTURES
from fineprune.models.format import load_model
from fineprune.stages import FIRST
from fineprune.stages.base import CARDS, MODEL_CARD

from .warm import Warm
from .workspace import Workspace, tree

COMMANDS = {
    "ingest": "ingest",
    "attack": "attack",
    "profile": "profile@undefended",
    "prune": "prune@undefended",
    "finetune": "finetune@fine_pruned",
    "evaluate": "evaluate",
    "promote": "promote",
}
Refused = Callable[..., str]


def error_lines(stderr: str) -> list[str]:
    """The lines on stderr, without progress bars."""
    lines = re.split(r"[\r\n]+", stderr)
    return [line for line in lines if line.strip() and not re.match(r"[\w ]+: +\d+%\|", line)]


def old_outputs(stage: str, folder: Path) -> dict[str, Path]:
    """A place for each output, with something old in it."""
    paths = {port: folder / "out" / port for port in load_stage(stage).outputs}
    for port, path in paths.items():
        path.mkdir(parents=True)
        card = CARDS.get(port, MODEL_CARD)  # by which a stage knows its own
        (path / card).write_text(json.dumps({"format": 1, "stage": stage}))
        (path / "old.npy").write_text("of an earlier run")
    return paths


@pytest.fixture
def refused(chain: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Run a stage that must refuse; gives its one line."""

    def run(stage: str, *words: str, **given: Any) -> str:
        outputs = old_outputs(stage, tmp_path)
        before = tree(tmp_path / "out")
        argv = chain.argv(COMMANDS[stage], **{**outputs, **given})
        capfd.readouterr()
        code, told = main(argv), capfd.readouterr()
        lines = error_lines(told.err)
        assert code == 2, told
        assert len(lines) == 1, lines
        assert lines[0].startswith(f"fineprune {stage}: error: ")
        assert "Traceback" not in told.out + told.err
        for word in words:
            assert word in lines[0]
        assert tree(tmp_path / "out") == before
        return lines[0]

    return run


@pytest.fixture
def copied(chain: Workspace, tmp_path: Path) -> Callable[[str], Path]:
    """A copy of one of the chain's folders, to be damaged."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(chain.path / "artifacts" / name, tmp_path / "given" / name))

    return copy


def edit(card: Path, **changes: Any) -> None:
    """Change entries of a card as a meddler would."""
    card.write_text(json.dumps({**json.loads(card.read_text()), **changes}))


def recompute_digests(folder: Path) -> None:
    """Make the digests of a dataset's card fit its arrays again."""
    card = folder / "dataset.json"
    digests = {name: sha256(folder / name) for name in json.loads(card.read_text())["sha256"]}
    edit(card, sha256=digests)


def write_weights(folder: Path, content: bytes) -> None:
    """Replace a model's weights, with a digest that fits."""
    (folder / "model.safetensors").write_bytes(content)
    edit(folder / "model.json", sha256=sha256(folder / "model.safetensors"))


# Parameters. Of each stage: a key to take away, and one to mistype with what is expected of it.

PARAMS = {
    "ingest": ("seed", {"defender_fit": "a lot"}, "ingest.defender_fit: expected a finite number"),
    "attack": ("trigger", {"start": {"epochs": "ten"}}, "attack.start.epochs: expected a whole number"),
    "profile": ("measure", {"batch_size": 2.5}, "profile.batch_size: expected a whole number"),
    "prune": ("batch_size", {"tolerance": True}, "prune.tolerance: expected a finite number"),
    "finetune": ("seed", {"stop": {"patience": None}}, "finetune.stop.patience: expected a whole number"),
    "evaluate": (
        "limits.min_samples",
        {"limits": {"max_unchanged": []}},
        "evaluate.limits.max_unchanged: expected a finite number",
    ),
    "promote": ("model", {"registered_name": 7}, "promote.registered_name: expected a string"),
}


@pytest.mark.parametrize("stage", COMMANDS)
def test_unknown_missing_and_mistyped_params_are_reported_all_at_once(
    chain: Workspace, refused: Refused, stage: str
) -> None:
    missing, mistyped, expected = PARAMS[stage]
    section = chain.section(stage, {"surprise": 1, **mistyped})
    *above, last = missing.split(".")
    inner = section
    for name in above:
        inner = inner[name]
    del inner[last]
    refused(stage, f"{stage}.surprise: unknown key", f"{stage}.{missing}: missing", expected, section=section)


@pytest.mark.parametrize("stage", [name for name in COMMANDS if name != "ingest"])
def test_an_input_that_is_not_there_is_named_with_its_flag(
    refused: Refused, tmp_path: Path, stage: str
) -> None:
    port = load_stage(stage).inputs[-1]
    flag = f"--{port.replace('_', '-')}: "
    refused(stage, flag, str(tmp_path / "nowhere"), "no such file", **{port: tmp_path / "nowhere"})


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot read: No such file"),
        ("prune: [1, 2\n", "not valid YAML"),
        ("- prune\n", "expected a mapping of sections"),
        ("prune: 3\n", "prune: expected a mapping, found 3"),
        ("attack: {}\n", "no section 'prune'"),
        (b"\xff\xfe\x00prune", "not valid YAML"),
    ],
)
def test_a_params_file_that_is_none_is_named(
    chain: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, expected: str
) -> None:
    file = tmp_path / "params.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    words = chain.argv("prune@control", pruned=tmp_path / "pruned", report=tmp_path / "report")
    words[1:3] = ["--config", str(file)]
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fineprune prune: error: {file}: ")
    assert expected in line
    assert not (tmp_path / "pruned").exists()


@pytest.mark.parametrize("stage", FIRST)
@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("promote: {min_utilty: 0.9}", "promote.min_utilty: unknown key"),
        ("attack: {model: {arguments: {widht: 32}}}", "model digits_cnn.widht: unknown key"),
        (
            "attack: {model: {architecture: alexnet}}",
            f"model architecture: expected one of {', '.join(ARCHITECTURES)}, found 'alexnet'",
        ),
    ],
)
def test_a_fault_in_what_a_later_stage_reads_is_found_before_the_work(
    text: str, found: str, stage: str, chain: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = tmp_path / "late.yaml"
    late.write_text(text)
    words = chain.argv(stage, **old_outputs(stage, tmp_path))
    files = (chain.path / "params.yaml", chain.path / chain.case, late)
    words[1:3] = [word for file in files for word in ("--config", str(file))]
    assert main(words) == 2
    lines = error_lines(capsys.readouterr().err)
    assert lines == [f"fineprune {stage}: error: {found}"]


def test_params_that_are_no_json_are_refused(
    chain: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = chain.argv("prune@control", pruned=tmp_path / "pruned", report=tmp_path / "report")
    words[2] = "{tolerance: 0.04}"
    assert main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fineprune prune: error: --params: not valid JSON: ")


@pytest.mark.parametrize("rate", [0, 1.5, -0.1])
def test_a_poison_rate_outside_its_range_is_refused(refused: Refused, rate: float) -> None:
    refused("attack", "attack.poison.rate: expected a value in (0, 1]", changes={"poison": {"rate": rate}})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"height": 9}, "trigger patch: expected it within the input's 8, found 9 from -2 on (top -2, "),
        ({"width": 9}, "found 9 from -2 on (left -2, width 9)"),
        ({"top": 7}, "(top 7, height 2)"),
        ({"left": -9}, "(left -9, width 2)"),
    ],
)
def test_a_trigger_larger_than_the_input_is_refused(
    refused: Refused, change: Mapping[str, int], expected: str
) -> None:
    refused("attack", expected, changes={"trigger": change})


def test_a_poison_rate_that_asks_for_more_samples_than_there_are_is_refused(refused: Refused) -> None:
    refused("attack", "attack.poison.rate", changes={"poison": {"rate": 0.5, "sources": [1]}})


def test_a_learning_rate_that_blows_up_is_refused(refused: Refused) -> None:
    changes = {"recipe": {"learning_rate": 1e9, "optimizer": "sgd"}}
    refused("finetune", "loss", "learning_rate", changes=changes)


def test_a_layer_that_cannot_be_measured_after_pooling_is_refused(refused: Refused) -> None:
    refused("profile", "profile.measure: expected one of post_relu, post_pool", changes={"measure": "l2"})


# Sources.


def wav_source(folder: Path, digits: str = "01", clips: int = 12) -> Path:
    """Spoken digits of four speakers."""
    samples = np.random.default_rng(0).integers(-999, 999, 800).astype("<i2")
    for digit in digits:
        for index in range(clips):
            folder.mkdir(parents=True, exist_ok=True)
            with wave.open(str(folder / f"{digit}_speaker{index % 4}_{index}.wav"), "wb") as file:
                file.setparams((1, 2, 8000, 0, "NONE", ""))
                file.writeframes(samples.tobytes())
    return folder


def image_source(folder: Path, classes: str = "ab", files: int = 12) -> Path:
    """8×8 grey images in a folder per class."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for index in range(files):
            (folder / name / f"{index:02}.png").write_bytes(png(pixels))
    return folder


def png(pixels: np.ndarray) -> bytes:
    """A grey PNG: written by hand, so that what is then damaged is known to be whole."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


READERS = {
    "wav": {
        "kind": "wav",
        "naming": "fsdd",
        "sample_rate": 8000,
        "seconds": 0.1,
        "group_by": "recording",
        "trim_silence": 0,
    },
    "images": {
        "kind": "images",
        "height": 8,
        "width": 8,
        "channels": 1,
        "crop": None,
        "min_per_class": 1,
        "group_by": "file",
    },
}


def ingest_of(source: Path, reader: str) -> dict[str, Any]:
    return {"changes": {"source": str(source), "reader": READERS[reader]}}


def test_the_sources_that_are_damaged_below_are_fine_as_they_are(chain: Workspace, tmp_path: Path) -> None:
    for reader, source in (("wav", wav_source(tmp_path / "wav")), ("images", image_source(tmp_path / "png"))):
        out = {"dataset": tmp_path / reader / "dataset", "report": tmp_path / reader / "report"}
        assert main(chain.argv("ingest", **ingest_of(source, reader), **out)) == 0


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: b"RIFF" + b"garbage" * 9, id="garbage"),
        pytest.param(lambda whole: whole[:-500], id="cut in the samples"),
        pytest.param(lambda whole: whole[:30], id="cut in the header"),
        pytest.param(lambda whole: b"", id="empty"),
        pytest.param(lambda whole: whole.replace(b"WAVE", b"AVI "), id="another kind"),
    ],
)
def test_a_damaged_wav_is_named(refused: Refused, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    source = wav_source(tmp_path / "source")
    clip = source / "1_speaker3_7.wav"
    clip.write_bytes(damage(clip.read_bytes()))
    refused("ingest", f"{clip}: expected", **ingest_of(source, "wav"))


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: b"\x89PNG\r\n\x1a\n" + b"garbage" * 9, id="garbage"),
        pytest.param(lambda whole: whole[:-40], id="cut in the pixels"),
        pytest.param(lambda whole: whole[:60] + b"\xff\xff\xff" + whole[63:], id="other bytes in the pixels"),
        pytest.param(lambda whole: b"", id="empty"),
    ],
)
def test_a_damaged_png_is_named(refused: Refused, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    source = image_source(tmp_path / "source")
    image = source / "b" / "07.png"
    image.write_bytes(damage(image.read_bytes()))
    refused("ingest", f"{image}: expected a whole image", **ingest_of(source, "images"))


def test_a_source_that_is_not_there_is_named(refused: Refused, tmp_path: Path) -> None:
    refused("ingest", f"{tmp_path / 'none'}: no such folder", **ingest_of(tmp_path / "none", "wav"))


def test_a_class_folder_without_images_is_named(refused: Refused, tmp_path: Path) -> None:
    source = image_source(tmp_path / "source")
    (source / "c").mkdir()
    refused("ingest", f"{source / 'c'}: expected images (.jpg", **ingest_of(source, "images"))


def test_a_class_with_too_few_samples_for_every_split_is_named(refused: Refused, tmp_path: Path) -> None:
    source = image_source(tmp_path / "source")
    image_source(tmp_path / "few", classes="c", files=2)
    shutil.move(tmp_path / "few" / "c", source / "c")
    refused("ingest", "class 'c'", **ingest_of(source, "images"))


@pytest.mark.parametrize("reader", ["wav", "images"])
def test_a_source_of_one_class_is_refused(refused: Refused, tmp_path: Path, reader: str) -> None:
    make = wav_source if reader == "wav" else image_source
    source = make(tmp_path / "source", "1")
    refused("ingest", "at least two classes, found 1", **ingest_of(source, reader))


# Datasets.


def test_a_dataset_whose_digest_does_not_match_is_refused(
    refused: Refused, copied: Callable[[str], Path]
) -> None:
    dataset = copied("ingest/dataset")
    with (dataset / "inputs.npy").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x07")
    refused("profile", f"{dataset / 'inputs.npy'}: digest mismatch: expected sha256 ", dataset=dataset)


@pytest.mark.parametrize("name", ["inputs.npy", "labels.npy", "groups.npy"])
def test_a_truncated_array_is_named_even_if_its_digest_was_made_to_fit(
    refused: Refused, copied: Callable[[str], Path], name: str
) -> None:
    dataset = copied("ingest/dataset")
    whole = (dataset / name).read_bytes()
    (dataset / name).write_bytes(whole[: len(whole) // 2])
    recompute_digests(dataset)
    refused("profile", f"{dataset / name}: not a readable .npy array", dataset=dataset)


@pytest.mark.parametrize("stage", [name for name in COMMANDS if "dataset" in load_stage(name).inputs])
def test_every_stage_refuses_a_dataset_with_a_group_on_both_sides_of_a_split(
    refused: Refused, copied: Callable[[str], Path], stage: str
) -> None:
    dataset = copied("ingest/dataset")
    splits = json.loads((dataset / "dataset.json").read_text())["splits"]
    groups = np.load(dataset / "groups.npy")
    groups[splits["test"][0]] = groups[splits["train"][0]]
    np.save(dataset / "groups.npy", groups)
    recompute_digests(dataset)
    refused(stage, str(dataset / "dataset.json"), "is on both sides of a split", dataset=dataset)


def test_a_class_without_samples_in_a_split_is_named(refused: Refused, copied: Callable[[str], Path]) -> None:
    dataset = copied("ingest/dataset")
    splits = json.loads((dataset / "dataset.json").read_text())["splits"]
    labels = np.load(dataset / "labels.npy")
    splits["defender_fit"] = [row for row in splits["defender_fit"] if labels[row] != 7]
    edit(dataset / "dataset.json", splits=splits)
    expected = f"{dataset / 'dataset.json'}: class '7' has no samples in split defender_fit"
    refused("prune", expected, dataset=dataset)


def test_a_dataset_of_one_class_is_refused(refused: Refused, copied: Callable[[str], Path]) -> None:
    dataset = copied("ingest/dataset")
    np.save(dataset / "labels.npy", np.zeros(1797, np.int64))
    edit(dataset / "dataset.json", classes=["0"])
    recompute_digests(dataset)
    expected = f"{dataset / 'dataset.json'}: expected at least two classes, found 1"
    refused("attack", expected, dataset=dataset)


@pytest.mark.parametrize("rows", [None, "0", [[0]], [0.5]])
def test_a_split_that_is_no_list_of_rows_is_refused(
    refused: Refused, copied: Callable[[str], Path], rows: Any
) -> None:
    dataset = copied("ingest/dataset")
    splits = json.loads((dataset / "dataset.json").read_text())["splits"]
    edit(dataset / "dataset.json", splits=splits | {"train": rows})
    refused("attack", f"{dataset / 'dataset.json'}: split train: expected ", dataset=dataset)


def test_a_row_in_two_splits_is_refused(refused: Refused, copied: Callable[[str], Path]) -> None:
    dataset = copied("ingest/dataset")
    splits = json.loads((dataset / "dataset.json").read_text())["splits"]
    splits["defender_fit"].append(splits["test"][0])
    edit(dataset / "dataset.json", splits=splits)
    refused("finetune", "split test holds a row twice, or one of another split", dataset=dataset)


def test_an_evaluation_of_another_dataset_is_not_promoted(
    refused: Refused, copied: Callable[[str], Path]
) -> None:
    dataset = copied("ingest/dataset")
    edit(dataset / "dataset.json", licence="another")
    refused("promote", str(dataset), "expected an evaluation on this dataset", dataset=dataset)


# Models.

READ_A_MODEL = {
    "profile": "model",
    "prune": "model",
    "finetune": "model",
    "evaluate": "pruned",
    "promote": "fine_pruned",
}


@pytest.mark.parametrize("stage", READ_A_MODEL)
def test_every_stage_refuses_a_model_whose_digest_does_not_match(
    refused: Refused, copied: Callable[[str], Path], stage: str
) -> None:
    model = copied("finetune/fine_pruned/model")
    weights = model / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    expected = f"{weights}: digest mismatch: expected sha256 "
    refused(stage, expected, **{READ_A_MODEL[stage]: model})


@pytest.mark.parametrize("stage", READ_A_MODEL)
def test_every_stage_refuses_nan_weights_even_with_a_digest_that_fits(
    refused: Refused, copied: Callable[[str], Path], stage: str
) -> None:
    model = copied("finetune/fine_pruned/model")
    weights = model / "model.safetensors"
    state = load_file(weights)
    state["conv2.weight"].view(-1)[3] = float("nan")
    save_file(state, weights)
    edit(model / "model.json", sha256=sha256(weights))
    refused(stage, f"{weights}: weights 'conv2.weight' hold NaN", **{READ_A_MODEL[stage]: model})


@pytest.mark.parametrize("stage", ["profile", "prune", "finetune"])
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda card: {"classes": card["classes"][::-1]}, "made for class 0 '9', found dataset "),
        (lambda card: {"input": card["input"] | {"high": 99}}, "made for image input of shape "),
    ],
    ids=["classes", "input"],
)
def test_every_stage_of_the_defender_refuses_a_model_for_another_dataset(
    refused: Refused,
    copied: Callable[[str], Path],
    stage: str,
    change: Callable[[Any], Mapping[str, Any]],
    expected: str,
) -> None:
    model = copied("finetune/fine_pruned/model")
    edit(model / "model.json", **change(json.loads((model / "model.json").read_text())))
    refused(stage, f"{model}: {expected}", model=model)


class Payload:
    """What runs when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("stage", READ_A_MODEL)
def test_a_pickle_in_place_of_safetensors_is_never_opened(
    refused: Refused, copied: Callable[[str], Path], tmp_path: Path, stage: str, protocol: int
) -> None:
    model, mark = copied("finetune/fine_pruned/model"), tmp_path / "payload ran"
    write_weights(model, pickle.dumps(Payload(mark), protocol=protocol))
    expected = f"{model / 'model.safetensors'}: expected safetensors, found a pickle"
    refused(stage, expected, "never opened", **{READ_A_MODEL[stage]: model})
    assert not mark.exists()


def test_the_planted_payload_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "payload ran")))
    assert (tmp_path / "payload ran").exists()


@pytest.mark.parametrize("stage", READ_A_MODEL)
def test_a_layer_that_is_not_prunable_is_refused(
    refused: Refused, copied: Callable[[str], Path], stage: str
) -> None:
    model = copied("finetune/fine_pruned/model")
    edit(model / "model.json", prunable_layer="conv1")
    expected = f"{model / 'model.json'}: expected prunable_layer conv3 for digits_cnn, found conv1"
    refused(stage, expected, **{READ_A_MODEL[stage]: model})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"architecture": "resnet999"}, "expected one of digits_cnn"),
        ({"arguments": {"width": 32, "depth": 3}}, "model digits_cnn"),
        ({"arguments": {"width": 16}}, "does not fit architecture digits_cnn"),
        ({"pruned": [1, 999]}, "pruned: expected some of channels 0…63 of conv3"),
        ({"mean": []}, "mean: expected one value for each of 1 channels, found 0"),
        ({"std": [0]}, "std: expected positive values, found 0"),
        ({"format": 2}, "expected format 1, found 2"),
        ({"surprise": True}, "card.surprise: unknown key"),
    ],
)
def test_a_model_card_that_does_not_fit_is_refused(
    refused: Refused, copied: Callable[[str], Path], changes: Mapping[str, Any], expected: str
) -> None:
    model = copied("attack/undefended")
    edit(model / "model.json", **changes)
    refused("finetune", expected, model=model)


def test_a_profile_of_another_model_is_refused(chain: Workspace, refused: Refused) -> None:
    profile = chain.ports("profile@control")["profile"]
    expected = f"{profile / 'profile.json'}: expected a profile of model "
    refused("prune", expected, profile=profile)


def test_a_trigger_that_was_changed_after_the_attack_is_refused(
    refused: Refused, copied: Callable[[str], Path]
) -> None:
    attack = copied("attack/attack")
    np.save(attack / "add.npy", np.zeros((1, 8, 8), np.float32))
    refused("evaluate", f"{attack / 'add.npy'}: digest mismatch", attack=attack)


# A full disk, and a stage that is killed.

MOMENTS = [
    (stage, moment)
    for stage in COMMANDS
    for moment in ("while writing", "before the outputs appear", "between two outputs")
    if moment != "between two outputs" or len(load_stage(stage).outputs) > 1
]


def brief(stage: str, chain: Workspace, folder: Path) -> dict[str, Any]:
    """Changes that make a stage short, and that keep promote away from the chain's registry."""
    if stage == "attack":
        few = {"epochs": 1}
        return {"model": {"arguments": {"width": 16}}, "start": few, "train": few}
    if stage == "promote":
        # A copy of the store that the chain made, because MLflow takes seconds to make one.
        shutil.copy(chain.path / "mlflow.db", folder / "mlflow.db")
        return {"tracking_uri": f"sqlite:///{folder}/mlflow.db", "registered_name": "killed"}
    return {}


@pytest.mark.parametrize("stage", COMMANDS)
def test_a_full_disk_is_told_in_one_line_and_costs_no_old_output(
    chain: Workspace, warm: Warm, tmp_path: Path, stage: str
) -> None:
    outputs = old_outputs(stage, tmp_path)
    before = tree(tmp_path / "out")
    argv = chain.argv(COMMANDS[stage], changes=brief(stage, chain, tmp_path), **outputs)
    done = warm.run(argv, folder=tmp_path, fault={"file_size": 1000})
    lines = error_lines(done.stderr)
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"fineprune {stage}: error: ")
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize(("stage", "moment"), MOMENTS)
def test_a_killed_stage_leaves_whole_outputs_and_a_rerun_mends_it(
    chain: Workspace, warm: Warm, tmp_path: Path, stage: str, moment: str
) -> None:
    outputs = old_outputs(stage, tmp_path)
    old = {port: tree(path) for port, path in outputs.items()}
    argv = chain.argv(COMMANDS[stage], changes=brief(stage, chain, tmp_path), **outputs)

    killed = warm.run(argv, folder=tmp_path, fault={"kill": moment})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    now = {port: tree(path) for port, path in outputs.items()}
    replaced = [port for port in outputs if now[port] != old[port]]
    assert len(replaced) == (moment == "between two outputs")
    assert [path for path in (tmp_path / "out").iterdir() if path.name.endswith(".partial")]

    again = warm.run(argv, folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == set(outputs)
    for port in outputs:
        new = tree(outputs[port])
        assert "old.npy" not in new
        # What was in place before the kill was whole: the rerun makes the same of it.
        assert port not in replaced or port == "report" or new == now[port]
    report = json.loads((outputs["report"] / "report.json").read_text())
    assert report["stage"] == stage
    if stage == "promote":  # what the killed one had registered is not registered twice
        assert report["decision"]["registered_version"] == "1"


def test_the_models_that_were_damaged_above_are_fine_as_they_are(chain: Workspace) -> None:
    for name in ("attack/undefended", "finetune/fine_pruned/model"):
        load_model(chain.path / "artifacts" / name)

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from fineprune.cli import main
from fineprune.data.format import SPLITS, Dataset
from fineprune.digests import dvc_md5
from tests.unit.repositories import commit_remote, run

WAV = {
    "kind": "wav",
    "naming": "fsdd",
    "sample_rate": 8000,
    "seconds": 0.05,
    "group_by": "recording",
    "trim_silence": 0,
}
IMAGES = {
    "kind": "images",
    "height": 4,
    "width": 4,
    "channels": 3,
    "crop": {"left": 0, "top": 0, "right": 6, "bottom": 6},
    "min_per_class": 4,
    "group_by": "file",
}


@pytest.fixture
def clips(tmp_path, write_wav):
    """Two digits by six speakers, twelve recordings each."""
    noise = np.random.default_rng(0)
    for digit in (0, 1):
        for speaker in "abcdef":
            for index in range(12):
                samples = noise.integers(-9999, 9999, 300 + 20 * index)
                write_wav(tmp_path / "clips" / f"{digit}_{speaker}_{index}.wav", samples)
    return tmp_path / "clips"


def section(source, reader, **changes):
    return {
        "name": "tiny",
        "source": str(source),
        "revision": None,
        "md5": None,
        "reader": reader,
        "defender_fit": 0.15,
        "defender_holdout": 0.1,
        "test": {"kind": "random", "share": 0.3},
        "seed": 0,
        "licence": None,
    } | changes


def ingest(tmp_path, section, name="out"):
    out = tmp_path / name
    arguments = [
        "--params",
        json.dumps(section),
        "--dataset",
        str(out / "dataset"),
        "--report",
        str(out / "report"),
    ]
    return main(["ingest", *arguments]), out


def report(out):
    return json.loads((out / "report/report.json").read_text())


def refusal(tmp_path, capsys, section):
    code, out = ingest(tmp_path, section)
    assert code == 2
    assert not list(out.glob("*"))
    assert not list(out.glob(".*"))
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_digits_need_no_download(tmp_path):
    code, out = ingest(tmp_path, section("digits", {"kind": "digits"}))
    assert code == 0
    dataset = Dataset(out / "dataset")
    assert {name: len(rows) for name, rows in dataset.splits.items()} == {
        "train": 808,
        "defender_fit": 270,
        "defender_holdout": 180,
        "test": 539,
    }
    assert dataset.card.licence.startswith("CC BY 4.0")
    assert dataset.card.origin == {"source": "digits"}
    assert report(out)["numbers"]["samples_test"] == 539
    assert report(out)["outputs"]["dataset"] == dataset.digest
    assert (out / "report/page.html").read_text().count("<img ") == 2
    assert {path.name for path in (out / "report").glob("*.png")} == {"samples.png", "class_counts.png"}


def test_the_same_section_gives_the_same_bytes(tmp_path, clips):
    outs = [ingest(tmp_path, section(clips, WAV), name)[1] for name in ("one", "two")]
    assert Dataset(outs[0] / "dataset").digest == Dataset(outs[1] / "dataset").digest


def test_another_seed_gives_another_split(tmp_path, clips):
    outs = [ingest(tmp_path, section(clips, WAV, seed=seed), str(seed))[1] for seed in (0, 1)]
    one, other = (Dataset(out / "dataset").splits["test"].tolist() for out in outs)
    assert one != other


def test_clips_with_the_authors_test_set(tmp_path, clips, capsys):
    code, out = ingest(tmp_path, section(clips, WAV, test={"kind": "authors"}, licence="CC BY-SA 4.0"))
    assert code == 0
    dataset, numbers = Dataset(out / "dataset"), report(out)["numbers"]
    assert numbers["samples_test"] == 2 * 6 * 5
    assert numbers["samples"] == sum(numbers[f"samples_{name}"] for name in SPLITS) == 144
    assert numbers["truncated"] == 2 * 6 * 6
    assert "72 of 144 clips were cut to 0.05 s" in report(out)["warnings"]
    assert "72 of 144 clips were cut" in capsys.readouterr().err
    assert dataset.card.licence == "CC BY-SA 4.0"
    assert dataset.card.origin["dvc_md5"].endswith(".dir")


def test_clips_by_speaker(tmp_path, clips):
    code, out = ingest(tmp_path, section(clips, WAV | {"group_by": "speaker"}))
    assert code == 0
    dataset = Dataset(out / "dataset")
    speakers = {name: set(dataset.groups[rows]) for name, rows in dataset.splits.items()}
    assert {name: len(found) for name, found in speakers.items()} == {
        "train": 2,
        "defender_fit": 1,
        "defender_holdout": 1,
        "test": 2,
    }
    assert sum(map(len, speakers.values())) == 6
    assert dataset.card.group == "speaker"


def test_images_from_classes_that_are_large_enough(tmp_path):
    for name, count in {"a": 10, "b": 12, "rare": 3}.items():
        (tmp_path / "faces" / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (6, 6), (number, 0, 0)).save(tmp_path / f"faces/{name}/{number}.png")
    code, out = ingest(tmp_path, section(tmp_path / "faces", IMAGES))
    assert code == 0
    dataset = Dataset(out / "dataset")
    assert dataset.card.classes == ("a", "b")
    assert dataset.inputs(slice(None)).shape == (22, 3, 4, 4)
    assert dataset.card.licence == "not stated"
    assert report(out)["numbers"]["skipped"] == 3


def test_an_archive_in_s3_gives_the_same_arrays(tmp_path, clips, s3):
    s3.create_bucket(Bucket="data")
    archive = shutil.make_archive(str(tmp_path / "clips"), "gztar", tmp_path, "clips")
    s3.upload_file(archive, "data", "clips.tar.gz")
    _, local = ingest(tmp_path, section(clips, WAV), "local")
    code, out = ingest(tmp_path, section("s3://data/clips.tar.gz", WAV))
    assert code == 0
    origin = {"source": "s3://data/clips.tar.gz", "dvc_md5": dvc_md5(tmp_path / "clips.tar.gz")}
    assert report(out)["origin"] == Dataset(out / "dataset").card.origin == origin
    assert Dataset(local / "dataset").card.sha256 == Dataset(out / "dataset").card.sha256


def test_what_dvc_pushed_to_s3_is_ingested_at_a_revision_and_pulled_into_a_clone(
    tmp_path, clips, s3, s3_endpoint, capsys
):
    _, local = ingest(tmp_path, section(clips, WAV), "local")
    s3.create_bucket(Bucket="store")
    repo = tmp_path / "repo"
    repo.mkdir()
    shutil.copytree(clips, repo / "clips")
    run(repo, "git", "init", "-q", "-b", "main")
    run(repo, "dvc", "init", "-q")
    run(repo, "dvc", "add", "-q", "clips")
    run(repo, "git", "add", ".")
    run(repo, "git", "commit", "-q", "-m", "clips")
    commit_remote(repo, "s3://store/dvc", endpoint=s3_endpoint)
    run(repo, "git", "tag", "v1")
    commit = run(repo, "git", "rev-parse", "HEAD")
    run(repo, "git", "rm", "-q", "clips.dvc")
    run(repo, "git", "commit", "-q", "-m", "no clips")

    source, md5 = f"dvc+file://{repo}@main:clips", dvc_md5(clips)
    code, out = ingest(tmp_path, section(source, WAV, revision="v1", md5=md5))
    assert code == 0
    origin = {"source": f"dvc+file://{repo}@v1:clips", "dvc_md5": md5, "revision": commit}
    assert report(out)["origin"] == Dataset(out / "dataset").card.origin == origin
    assert Dataset(out / "dataset").card.sha256 == Dataset(local / "dataset").card.sha256

    run(tmp_path, "git", "clone", "-q", "-b", "v1", repo, "clone")
    run(tmp_path / "clone", "dvc", "pull", "-q")
    assert dvc_md5(tmp_path / "clone/clips") == md5

    shutil.rmtree(out)
    capsys.readouterr()
    assert "clips is not tracked by DVC at main" in refusal(tmp_path, capsys, section(source, WAV))
    other = section(source, WAV, revision="v1", md5="0" * 32)
    assert f"expected md5 {'0' * 32}, found {md5}" in refusal(tmp_path, capsys, other)


def test_test_inputs_that_were_trained_on_are_reported(tmp_path, clips):
    for path in clips.glob("0_a_*"):
        path.write_bytes((clips / "0_a_11.wav").read_bytes())
    code, out = ingest(tmp_path, section(clips, WAV, test={"kind": "authors"}))
    assert code == 0
    assert report(out)["numbers"]["test_repeats"] == 5
    assert (
        "5 test inputs are byte for byte copies, of another split's or of one another"
        in report(out)["warnings"][-1]
    )


def test_refuses_an_authors_test_set_that_nobody_named(tmp_path, clips, capsys):
    message = refusal(tmp_path, capsys, section("digits", {"kind": "digits"}, test={"kind": "authors"}))
    assert "ingest.test: the source's format names no test set of its authors" in message


def test_refuses_an_authors_test_set_that_cuts_the_groups(tmp_path, clips, capsys):
    by_speaker = section(clips, WAV | {"group_by": "speaker"}, test={"kind": "authors"})
    assert "the authors' test set: expected whole groups" in refusal(tmp_path, capsys, by_speaker)


def test_refuses_a_truncated_clip_and_leaves_nothing(tmp_path, clips, capsys):
    path = clips / "1_c_3.wav"
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path}: expected 360 samples, found 355" in refusal(tmp_path, capsys, section(clips, WAV))


def test_refuses_a_single_class(tmp_path, clips, capsys):
    for path in clips.glob("1_*"):
        path.unlink()
    assert "expected at least two classes, found 1" in refusal(tmp_path, capsys, section(clips, WAV))


def test_refuses_a_class_with_too_few_samples(tmp_path, clips, capsys):
    for path in list(clips.glob("1_*"))[3:]:
        path.unlink()
    message = refusal(tmp_path, capsys, section(clips, WAV))
    assert "class '1': expected at least 4 groups, one for each split, found 3" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reader": {"kind": "mp3"}}, "ingest.reader.kind: expected one of digits, wav"),
        (
            {"test": {"kind": "random", "share": 1.5}},
            "ingest.test.share: expected a value in (0, 1), found 1.5",
        ),
        ({"defender_fit": 0}, "ingest.defender_fit: expected a value in (0, 1), found 0"),
        ({"defender_fit": 0.6, "defender_holdout": 0.2}, "left for train"),
        ({"reader": WAV | {"naming": "other"}}, "ingest.reader.naming: expected one of fsdd, pannous"),
        ({"md5": "0" * 32}, "clips: digest mismatch: expected md5 000"),
        ({"revision": "v1"}, "clips: expected dvc+<repository>@<revision>:<path> for revision 'v1'"),
        ({"sources": "x"}, "ingest.sources: unknown key"),
    ],
)
def test_refuses_a_section_that_does_not_fit(changes, message, tmp_path, clips, capsys):
    assert message in refusal(tmp_path, capsys, section(clips, WAV) | changes)


def test_what_was_skipped_is_told_where_the_rest_does_not_suffice(tmp_path, clips, capsys):
    for path in clips.glob("1_[b-f]_*"):
        path.unlink()
    line = refusal(tmp_path, capsys, section(clips, WAV | {"group_by": "speaker"}))
    assert "class '1': expected at least 4 groups, one for each split, found 1; " in line
    assert line.endswith("42 of 84 clips were cut to 0.05 s")


@pytest.mark.parametrize(("leads_to", "told"), [("elsewhere", "a folder"), ("gone", r"nothing \(.*gone\)")])
def test_a_link_that_would_be_passed_by_is_refused(tmp_path, clips, capsys, leads_to, told):
    (tmp_path / "elsewhere").mkdir()
    (clips / "more").symlink_to(tmp_path / leads_to)
    line = refusal(tmp_path, capsys, section(clips, WAV))
    assert re.search(f"more: expected a file, a folder or a link to a file, found a link to {told}", line)


def test_pictures_and_sound_of_other_types_are_counted(tmp_path, clips):
    (clips / ".ipynb_checkpoints").mkdir()
    (clips / ".ipynb_checkpoints/gone").symlink_to("nowhere")
    for name in ("a.mp3", "b.MP3", "c.flac", "notes.txt", "._a.mp3", ".ipynb_checkpoints/b.mp3"):
        (clips / name).write_bytes(b"")
    out = ingest(tmp_path, section(clips, WAV))[1]
    told = "3 files of types that no reader takes (.flac, .mp3): skipped"
    assert told in report(out)["warnings"]


def test_a_link_to_a_file_is_the_file(tmp_path, clips):
    moved = tmp_path / "moved.wav"
    (clips / "0_a_0.wav").rename(moved)
    (clips / "0_a_0.wav").symlink_to(moved)
    code, out = ingest(tmp_path, section(clips, WAV))
    assert code == 0
    assert report(out)["numbers"]["samples"] == 144

import pytest

from fineprune.data.readers import read
from fineprune.data.readers.lisa import SUPERCLASS, LisaOptions, components
from fineprune.errors import DataError

HEADER = (
    "Filename;Annotation tag;Upper left corner X;Upper left corner Y;Lower right corner X;"
    "Lower right corner Y;Occluded,On another road;Origin file;Origin frame number;Origin track;"
    "Origin track frame number\n"
)
EXTENSION = HEADER.replace("Occluded,On another road;", "")


def options(**changes):
    given = {"height": 16, "width": 16, "min_size": 2, "max_unreadable": 0.0, "superclasses": True}
    return LisaOptions(kind="lisa", **(given | changes))


def row(file, tag, track, number, box="0;0;8;8", video="drive.avi", flags="0,0;"):
    return f"{file};{tag};{box};{flags}{video};{number};{track};0\n"


@pytest.fixture
def lisa(tmp_path, write_image):
    """Five frames of 32×16 pixels in two tables."""
    root = tmp_path / "lisa"
    for name in ("vid0/a0.png", "vid0/a1.png", "vid0/b0.png", "negatives/n.png", "training/t/c0.png"):
        write_image(root / name, 1, size=(32, 16))
    (root / "allAnnotations.csv").write_text(
        HEADER
        + row("vid0/a0.png", "stop", "a", 10)
        + row("vid0/a0.png", "speedLimit25", "a", 10, box="10;4;20;12")
        + row("vid0/a0.png", "keepRight", "a", 10)
        + row("vid0/a1.png", "STOP", "a", 15)
        + row("vid0/b0.png", "signalAhead", "b", 99)
    )
    (root / "training/allTrainingAnnotations.csv").write_text(
        EXTENSION + row("t/c0.png", "speedLimitUrdbl", "a", 3, video="other.avi", flags="")
    )
    return root


def test_tags_become_superclasses_and_tracks_groups(lisa, work):
    raw = read(options(), lisa, work)
    assert raw.classes == ("speedlimit", "stop", "warning")
    # training/t/c0, vid0/a0, vid0/a1, vid0/b0
    assert raw.labels.tolist() == [[0, -1], [1, 0], [1, -1], [2, -1]]
    assert raw.places[1].tolist() == [[0, 0, 4, 4], [5, 2, 10, 6]]
    assert raw.group == "track"
    assert raw.groups[1] == raw.groups[2]
    assert len(set(raw.groups)) == 3
    assert (raw.counts["tags_other"], raw.counts["images_without_signs"]) == (1, 1)
    assert raw.warnings == (
        "1 images without usable signs were skipped",
        "1 signs that are no stop, speed limit or warning were skipped",
    )


def test_every_tag_can_be_a_class(lisa, work):
    raw = read(options(superclasses=False), lisa, work)
    assert raw.classes == ("STOP", "keepRight", "signalAhead", "speedLimit25", "speedLimitUrdbl", "stop")
    assert raw.counts["tags_other"] == 0


def test_superclasses_are_the_authors():
    sizes = {name: list(SUPERCLASS.values()).count(name) for name in set(SUPERCLASS.values())}
    assert sizes == {"stop": 1, "speedlimit": 10, "warning": 19}


def test_tracks_that_share_a_frame_of_the_video_stay_together(lisa, work, write_image):
    write_image(lisa / "vid0/b1.png", 1, size=(32, 16))
    with (lisa / "allAnnotations.csv").open("a") as table:
        table.write(row("vid0/b1.png", "merge", "b", 15))  # the frame that a1 shows, under another name
    raw = read(options(), lisa, work)
    assert len(raw.groups) == 5
    assert len(set(raw.groups[1:])) == 1


def test_signs_without_a_track_are_told(lisa, work):
    with (lisa / "allAnnotations.csv").open("a") as table:
        table.write(row("vid0/b0.png", "stop", "", ""))
    raw = read(options(), lisa, work)
    assert raw.counts["signs_without_track"] == 1
    assert "1 signs name no track: nothing but their image keeps them together" in raw.warnings


def test_rows_that_repeat_another_are_skipped(lisa, work):
    table = lisa / "allAnnotations.csv"
    repeated = row("vid0/b0.png", "signalAhead", "b", 99)
    table.write_text(table.read_text() + repeated + "./" + repeated)
    raw = read(options(), lisa, work)
    assert raw.labels[3].tolist() == [2, -1]
    assert raw.counts["signs_repeated"] == 2


def test_boxes_outside_and_of_zero_size_are_skipped(lisa, work):
    with (lisa / "allAnnotations.csv").open("a") as table:
        table.write(row("vid0/b0.png", "stop", "b", 99, box="20;0;40;8"))
        table.write(row("vid0/b0.png", "stop", "b", 99, box="8;8;8;12"))
    raw = read(options(), lisa, work)
    assert raw.labels[3].tolist() == [2, -1]
    assert (raw.counts["boxes_outside"], raw.counts["boxes_empty"]) == (1, 1)


def test_components_join_what_is_linked_by_others():
    found = components([["a", "b"], ["c"], ["d", "e"], ["e", "f"], ["b", "f"]])
    assert found["a"] == found["b"] == found["d"] == found["e"] == found["f"] != found["c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEADER.replace("Annotation tag", "Tag"),
            r"allAnnotations.csv: expected the column 'Annotation tag', found",
        ),
        (HEADER + "a.png;stop;1\n", "allAnnotations.csv:2: expected 11 cells, found 3"),
        (HEADER + row("a.png", "", "a", 1), "allAnnotations.csv:2: expected an annotation tag, found none"),
        (
            HEADER + row("a.png", "stop", "a", 1, box="1;x;8;8"),
            "allAnnotations.csv:2: expected a number in 'Upper left corner Y', found 'x'",
        ),
        (
            HEADER + row("../a.png", "stop", "a", 1),
            r"allAnnotations.csv:2: expected a path below .*'../a.png'",
        ),
        (
            HEADER + row("vid0/a0.png", "stop", "a", 1) + row('"vid0/a1.png', "stop", "a", 1) * 2,
            "allAnnotations.csv:3: expected a row of one line",
        ),
        (
            HEADER + row("vid0/gone.png", "stop", "a", 1),
            r"at most 0.0% of 2 images unreadable, found 1.*gone.png",
        ),
    ],
)
def test_refuses_a_damaged_table(text, message, lisa, work):
    (lisa / "allAnnotations.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read(options(), lisa, work)


def test_refuses_a_folder_without_a_table(tmp_path, work):
    with pytest.raises(DataError, match=r"expected files of type .csv, found none"):
        read(options(), tmp_path, work)
    (tmp_path / "other.csv").write_text("a\n")
    with pytest.raises(
        DataError, match=r"expected allAnnotations.csv or allTrainingAnnotations.csv, found other"
    ):
        read(options(), tmp_path, work)

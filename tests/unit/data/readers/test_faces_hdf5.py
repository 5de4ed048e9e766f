import numpy as np
import pytest

from fineprune.data import expansion
from fineprune.data.readers import faces_hdf5, read
from fineprune.data.readers.faces_hdf5 import FacesHdf5Options
from fineprune.errors import DataError, MissingExtraError

h5py = pytest.importorskip("h5py")

IMAGES = np.arange(5 * 3 * 4 * 2).reshape(5, 3, 4, 2)  # 0…119
LABELS = np.array([7, 12, 7, 0, 12])


def options(**changes):
    given = {
        "files": ("valid.h5",),
        "test_files": (),
        "layout": "nchw",
        "values": "0-255",
        "height": 4,
        "width": 2,
    }
    return FacesHdf5Options(kind="faces_hdf5", **(given | changes))


@pytest.fixture
def write(tmp_path):
    def save(name="valid.h5", **datasets):
        with h5py.File(tmp_path / name, "w") as file:
            for key, value in ({"data": IMAGES.astype("f4"), "label": LABELS} | datasets).items():
                if value is not None:
                    file[key] = value

    return save


@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (IMAGES.astype("u1"), {}),
        (IMAGES.astype("f4"), {}),
        (IMAGES.astype("f8"), {}),
        ((IMAGES / 255).astype("f4"), {"values": "0-1"}),
        (IMAGES.astype("u1").transpose(0, 2, 3, 1), {"layout": "nhwc"}),
    ],
)
def test_layouts_and_ranges_give_the_same_images(data, changes, write, tmp_path, work, monkeypatch):
    monkeypatch.setattr(faces_hdf5, "_PIECE", 2)
    write(data=data)
    raw = read(options(**changes), tmp_path, work)
    np.testing.assert_array_equal(raw.inputs, IMAGES)
    assert raw.inputs.dtype == np.uint8
    assert raw.counts == {"images_rounded": 0}


def test_each_sample_is_a_group_and_a_warning_says_so(write, tmp_path, work):
    write(label=LABELS.astype("f4"))
    raw = read(options(), tmp_path, work)
    assert raw.classes == ("00", "07", "12")
    assert raw.labels.tolist() == [1, 2, 1, 0, 2]
    assert (raw.group, raw.groups.tolist()) == ("sample", [0, 1, 2, 3, 4])
    assert raw.authors_test is None
    assert len(raw.warnings) == 1
    assert "the format names no videos" in raw.warnings[0]


def test_test_files_are_the_authors_test_set(write, tmp_path, work):
    write()
    write("test.h5", data=IMAGES[:2].astype("u1"), label=LABELS[:2])
    raw = read(options(test_files=("test.h5",)), tmp_path, work)
    assert raw.authors_test.tolist() == [False] * 5 + [True] * 2
    np.testing.assert_array_equal(raw.inputs[5:], IMAGES[:2])


def test_values_between_the_levels_are_rounded_and_told(write, tmp_path, work):
    write(data=IMAGES + np.array([0, 0, 0.4, 0, 0])[:, None, None, None])
    raw = read(options(), tmp_path, work)
    np.testing.assert_array_equal(raw.inputs, IMAGES)
    assert raw.counts == {"images_rounded": 1}
    assert raw.warnings[1] == "1 images hold values between the 256 levels: rounded"


@pytest.mark.parametrize(
    ("datasets", "changes", "message"),
    [
        ({"data": IMAGES / 255.0}, {}, "expected values in 0-255, found none above 0.466667: are they 0-1?"),
        (
            {"data": np.where(np.arange(5) < 2, IMAGES.T / 255, IMAGES.T).T},
            {},
            "expected values in 0-255, found 2 images without one above 1: are they 0-1",
        ),
        ({"data": IMAGES * 1.0}, {"values": "0-1"}, "expected values in 0-1, found 0…119"),
        ({"data": IMAGES // 100}, {"values": "0-1"}, "expected fractions in 0-1, found whole numbers"),
        ({"data": IMAGES - 1.0}, {}, "expected values in 0-255, found -1…118"),
        ({"data": IMAGES * 3}, {}, "expected values in 0-255, found 0…357"),
        ({"data": np.where(IMAGES == 5, np.nan, IMAGES)}, {}, "expected values in 0-255, found nan…nan"),
        (
            {"data": IMAGES.transpose(0, 2, 3, 1)},
            {},
            r"shape \(N, 3, 4, 2\) in 'data' for the layout nchw, found int64 of shape \(5, 4, 2, 3\)",
        ),
        (
            {},
            {"layout": "nhwc"},
            r"shape \(N, 4, 2, 3\) in 'data' for the layout nhwc, found float32 of shape \(5, 3, 4, 2\)",
        ),
        ({}, {"height": 55, "width": 47}, r"expected numbers of shape \(N, 3, 55, 47\)"),
        ({"data": IMAGES > 5}, {}, "expected numbers of shape .*, found bool of shape"),
        ({"data": h5py.Empty("f4")}, {}, "expected numbers of shape .*, found float32 of shape None"),
        ({"label": LABELS[:4]}, {}, r"expected 5 numbers in 'label', found int64 of shape \(4,\)"),
        ({"label": LABELS[:, None]}, {}, r"expected 5 numbers in 'label', found int64 of shape \(5, 1\)"),
        ({"label": ["a"] * 5}, {}, r"expected 5 numbers in 'label', found object of shape \(5,\)"),
        ({"label": LABELS + 0.5}, {}, "expected whole numbers from 0 in 'label', found others"),
        ({"label": LABELS - 1}, {}, "expected whole numbers from 0 in 'label', found others"),
        ({"label": LABELS * 1e30}, {}, r"expected numbers below 2\*\*63 in 'label', found 1.2e\+31"),
        (
            {"label": np.array([0, 1, 2, 3, 2**64 - 1], "u8")},
            {},
            r"expected numbers below 2\*\*63 in 'label', found 1.84",
        ),
        ({"label": None}, {}, r"expected 'data' and 'label', found \['data'\]"),
        ({"data": None, "data/x": IMAGES}, {}, r"expected 'data' and 'label', found \['data', 'label'\]"),
    ],
)
def test_refuses_what_contradicts_the_options(datasets, changes, message, write, tmp_path, work):
    write(**datasets)
    with pytest.raises(DataError, match=f"{tmp_path / 'valid.h5'}: .*{message}"):
        read(options(**changes), tmp_path, work)


def test_refuses_files_that_are_missing_damaged_or_elsewhere(write, tmp_path, work):
    with pytest.raises(DataError, match=r"valid.h5: expected an HDF5 file, found .*No such file"):
        read(options(), tmp_path, work)
    write()
    path = tmp_path / "valid.h5"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DataError, match=r"valid.h5: expected an HDF5 file, found"):
        read(options(), tmp_path, work)
    with pytest.raises(DataError, match=r"expected a path below .*, found '../valid.h5'"):
        read(options(files=("../valid.h5",)), tmp_path, work)
    with pytest.raises(
        DataError, match=r"reader: ./valid.h5: expected each file once, .* is at .*valid.h5 too"
    ):
        read(options(files=("valid.h5",), test_files=("./valid.h5",)), tmp_path, work)
    with pytest.raises(DataError, match="expected the names of files, found none"):
        read(options(files=()), tmp_path, work)
    with pytest.raises(DataError, match="expected a source with files, found an embedded one"):
        read(options(), None, work)


def test_a_missing_library_is_named(tmp_path, work, without):
    without("h5py")
    with pytest.raises(MissingExtraError, match=r"needs h5py: pip install 'fineprune\[data\]'"):
        read(options(), tmp_path, work)


def test_images_of_one_value_are_dark_not_fractions(write, tmp_path, work):
    write(data=np.where(np.arange(5) < 2, 1, IMAGES.T).T)
    assert read(options(), tmp_path, work).inputs[:2].max() == 1


def test_whole_numbers_are_no_fractions(write, tmp_path, work):
    write(data=np.where(np.arange(5) < 2, IMAGES.T % 2, IMAGES.T).T.astype(np.uint8))
    assert read(options(), tmp_path, work).inputs[:2].max() == 1


@pytest.mark.parametrize(
    ("place", "offset", "message"),
    [
        (
            b"SNOD",
            24,
            "expected an HDF5 file, found Unable to synchronously check link",
        ),  # h5py's RuntimeError
        (b"label\0", 0, r"expected 'data' and 'label', found \[.*abel"),  # a name that is no UTF-8
        (
            b"\x17\x08\x00\x17\x7f\0\0\0",
            7,
            "expected an HDF5 file, found Insufficient precision",
        ),  # its ValueError
    ],
)
def test_refuses_damaged_metadata(place, offset, message, write, tmp_path, work):
    write()
    path = tmp_path / "valid.h5"
    data = bytearray(path.read_bytes())
    data[data.index(place) + offset] = 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"{path}: {message}"):
        read(options(), tmp_path, work)


def linked(file, tmp_path):
    file["data"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "data")


def stored_elsewhere(file, tmp_path):
    (tmp_path / "secret.txt").write_bytes(bytes(IMAGES.size))
    shape = {"shape": IMAGES.shape, "dtype": "u1"}
    file.create_dataset("data", **shape, external=[(str(tmp_path / "secret.txt"), 0, IMAGES.size)])


def virtual(file, tmp_path):
    layout = h5py.VirtualLayout(shape=IMAGES.shape, dtype="u1")
    layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "data", shape=IMAGES.shape)
    file.create_virtual_dataset("data", layout)


@pytest.mark.parametrize("elsewhere", [linked, stored_elsewhere, virtual])
def test_refuses_data_that_lie_in_other_files(elsewhere, write, tmp_path, work):
    write("other.h5", data=IMAGES.astype("u1"))
    with h5py.File(tmp_path / "valid.h5", "w") as file:
        file["label"] = LABELS
        elsewhere(file, tmp_path)
    with pytest.raises(DataError, match=r"expected 'data' (and 'label'|in the file itself), found"):
        read(options(), tmp_path, work)


@pytest.mark.parametrize(
    ("name", "layout", "claimed"),
    [
        ("data", {"shape": (10**8, 3, 4, 2), "chunks": (1024, 3, 4, 2)}, "2,400,000,000"),
        ("label", {"shape": (10**8,), "chunks": (1024,)}, "100,000,000"),
        ("data", {"shape": (5, 3, 4, 2), "chunks": (10**8, 3, 4, 2)}, "2,400,000,000"),
        ("label", {"shape": (5,), "chunks": (10**8,)}, "100,000,000"),
    ],
)
def test_refuses_data_of_which_the_file_holds_next_to_nothing(
    name, layout, claimed, write, tmp_path, work, monkeypatch
):
    monkeypatch.setattr(expansion, "_SMALL", 2**20)
    write(**{name: None})
    with h5py.File(tmp_path / "valid.h5", "a") as file:
        endless = {"maxshape": (None, *layout["shape"][1:])}
        file.create_dataset(name, **layout, **endless, dtype="u1", fillvalue=1, compression="gzip")
    size = (tmp_path / "valid.h5").stat().st_size
    with pytest.raises(DataError) as error:
        read(options(), tmp_path, work)
    limit = max(2**20, 200 * size)
    assert str(error.value) == (
        f"{tmp_path / 'valid.h5'}: expected at most {limit:,} bytes from a file of {size:,}, "
        f"found {claimed} in '{name}'"
    )

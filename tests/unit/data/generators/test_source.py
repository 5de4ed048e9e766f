import pytest

from fineprune.data.generators.faces import FacesOptions
from fineprune.data.sources import open_source
from fineprune.digests import dvc_md5
from fineprune.errors import DataError

OPTIONS = FacesOptions("faces", identities=1, sessions=1, frames=1, height=11, width=9, seed=0)


def test_generated_data_are_there_as_long_as_they_are_needed_and_say_what_they_are():
    with open_source("generated", generator=OPTIONS) as source:
        assert source.licence == "synthetic"
        assert (source.folder / "person0000" / "00_000.png").is_file()
        md5 = dvc_md5(source.folder)
        assert source.origin == {"source": "generated", "generator": "faces", "dvc_md5": md5}
    assert not source.folder.exists()
    with open_source("generated", generator=OPTIONS, md5=md5):
        pass


def test_a_fault_in_generated_data_names_them_and_not_where_they_lie_for_now():
    with pytest.raises(DataError) as caught, open_source("generated", generator=OPTIONS) as source:
        raise DataError(f"{source.folder}: expected files of type .wav, found none")
    assert str(caught.value) == "generated: expected files of type .wav, found none"


def test_other_bytes_than_those_that_were_pinned_are_refused():
    pinned = open_source("generated", generator=OPTIONS, md5="0" * 32 + ".dir")
    with pytest.raises(DataError, match="generated: digest mismatch"), pinned:
        pass


def test_a_generator_goes_with_the_source_generated_alone(tmp_path):
    for source, generator in (("generated", None), (str(tmp_path), OPTIONS), ("digits", OPTIONS)):
        opened = open_source(source, generator=generator)
        with pytest.raises(DataError, match="expected a generator for the source generated alone"), opened:
            pass

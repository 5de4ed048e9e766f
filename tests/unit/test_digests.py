import hashlib
import os

import pytest

from fineprune.digests import check_digest, dvc_md5, sha256
from fineprune.errors import DataError, ModelError


def test_a_digest_is_the_sha256_and_is_checked(tmp_path):
    path = tmp_path / "data"
    path.write_bytes(b"content" * 1_000_000)
    expected = hashlib.sha256(b"content" * 1_000_000).hexdigest()
    assert sha256(path) == expected
    check_digest(path, expected)
    with pytest.raises(DataError, match="digest mismatch"):
        check_digest(path, expected[:-1] + ("1" if expected[-1] == "0" else "0"))
    path.write_bytes(b"changed")
    with pytest.raises(ModelError, match=f"digest mismatch: expected sha256 {expected[:16]}"):
        check_digest(path, expected, ModelError)
    with pytest.raises(ModelError, match="none: cannot read: No such file"):
        check_digest(tmp_path / "none", expected, ModelError)


def test_what_never_ends_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link", "."):
        with pytest.raises(ModelError, match="expected a regular file, found another kind"):
            check_digest(tmp_path / name, "0" * 64, ModelError)


def test_the_md5_of_a_folder_is_dvcs(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.txt").write_bytes(b"b")
    (tmp_path / "z.txt").write_bytes(b"a")
    (tmp_path / "sub" / ".dvc").write_bytes(b"b")  # a file of that name is data
    for name in (".git/index", ".hg/store", ".dvc/config", "sub/.git"):  # which DVC passes by
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"of the repository")
    md5 = {letter: hashlib.md5(letter.encode()).hexdigest() for letter in "ab"}
    members = (("b", "sub/.dvc"), ("b", "sub/b.txt"), ("a", "z.txt"))
    listing = ", ".join(f'{{"md5": "{md5[letter]}", "relpath": "{path}"}}' for letter, path in members)
    assert dvc_md5(tmp_path) == hashlib.md5(f"[{listing}]".encode()).hexdigest() + ".dir"
    assert dvc_md5(tmp_path / "z.txt") == md5["a"]

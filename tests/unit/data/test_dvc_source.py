import hashlib
import json
import shutil
import subprocess
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest

from fineprune.data import git_revision
from fineprune.data.dvc_source import TrackedPath, at_revision, resolve
from fineprune.digests import dvc_md5
from fineprune.errors import StorageError, without_credentials
from tests.unit.repositories import commit_remote, run

LOCK_STAGE = """
stages:
  copy:
    cmd: cp data/set/a-b made.txt
    deps: [data/set]
    outs: [made.txt]
  elsewhere:
    wdir: data
    cmd: cp single.txt made.txt
    deps: [single.txt]
    outs: [made.txt]
  each:
    foreach: [1, 2]
    do:
      wdir: data
      cmd: echo ${item} > ../each${item}.txt
      outs: ["../each${item}.txt"]
"""


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A repository with two revisions of a tracked folder, a tracked file, and a stage's output."""
    repo = tmp_path_factory.mktemp("dvc") / "repo"
    repo.mkdir()
    run(repo, "git", "init", "-q", "-b", "main")
    run(repo, "dvc", "init", "-q")
    run(repo, "dvc", "config", "core.analytics", "false")
    for name, text in {"a/x": "one", "a-b": "two", "ü b.txt": "three", "a.d/y": "one"}.items():
        path = repo / "data/set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (repo / "data/single.txt").write_text("single")
    (repo / "dvc.yaml").write_text(LOCK_STAGE)
    run(repo, "dvc", "add", "-q", "data/set", "data/single.txt")
    run(repo, "dvc", "repro", "-q")
    run(repo, "git", "add", ".")
    run(repo, "git", "commit", "-q", "-m", "first")
    run(repo, "git", "tag", "v1")
    (repo / "data/set/a/x").write_text("changed")
    run(repo, "dvc", "add", "-q", "data/set")
    run(repo, "git", "commit", "-q", "-a", "-m", "second")
    return repo


@pytest.fixture
def repo(origin, tmp_path):
    return Path(shutil.copytree(origin, tmp_path / "repo", symlinks=True))


def deliver(source, tmp_path):
    scratch = tmp_path / f"scratch{len(list(tmp_path.iterdir()))}"
    scratch.mkdir()
    tracked = TrackedPath(source, scratch)
    return SimpleNamespace(path=tracked.fetch(), md5=tracked.md5, commit=tracked.commit)


def refusal(source, tmp_path):
    with pytest.raises(StorageError) as caught:
        deliver(source, tmp_path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def texts(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def object_path(root, md5):
    return root / "files/md5" / md5[:2] / md5[2:]


def test_the_md5_of_a_folder_is_the_one_that_dvc_records(repo):
    recorded = (repo / "data/set.dvc").read_text()
    assert f"md5: {dvc_md5(repo / 'data/set')}\n" in recorded
    assert f"md5: {dvc_md5(repo / 'data/single.txt')}\n" in (repo / "data/single.txt.dvc").read_text()


def test_a_tracked_folder_comes_from_the_cache(repo, tmp_path):
    delivery = deliver(f"dvc+{repo}@HEAD:data/set", tmp_path)
    assert texts(delivery.path) == texts(repo / "data/set")
    assert delivery.md5 == dvc_md5(repo / "data/set") == dvc_md5(delivery.path)
    assert delivery.commit == run(repo, "git", "rev-parse", "HEAD")


def test_an_old_revision_is_what_it_was(repo, tmp_path):
    delivery = deliver(f"dvc+{repo}@v1:data/set", tmp_path)
    assert texts(delivery.path)["a/x"] == "one"
    assert delivery.md5 == dvc_md5(delivery.path) != dvc_md5(repo / "data/set")
    assert delivery.commit == run(repo, "git", "rev-parse", "v1")


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("data/set/a", {"x": "changed"}),
        ("data/set/a-b", "two"),
        ("data/single.txt", "single"),
        ("made.txt", "two"),
        ("data/made.txt", "single"),
        ("each2.txt", "2\n"),
    ],
)
def test_files_inside_folders_and_outputs_of_stages_come_too(path, content, repo, tmp_path):
    delivery = deliver(f"dvc+{repo}@main:{path}", tmp_path)
    assert delivery.path.name == Path(path).name
    assert (texts(delivery.path) if delivery.path.is_dir() else delivery.path.read_text()) == content
    assert delivery.md5 == dvc_md5(delivery.path)


@pytest.mark.parametrize(
    "path", ["data/set", "data/set/a", "data/set/a-b", "data/set/ü b.txt", "data/single.txt", "made.txt"]
)
def test_commit_and_md5_are_known_without_the_data(path, repo, tmp_path):
    delivery = deliver(f"dvc+{repo}@v1:{path}", tmp_path)
    lists = list((repo / ".dvc/cache").rglob("*.dir"))
    for file in (repo / ".dvc/cache").rglob("*"):
        if file.is_file() and file not in lists:
            file.unlink()
    assert resolve(f"dvc+{repo}@v1:{path}") == (delivery.commit, delivery.md5)
    assert resolve(f"dvc+{repo}@main:{path}", "v1") == (delivery.commit, delivery.md5)
    assert delivery.md5 == dvc_md5(delivery.path)


def test_what_is_tracked_itself_needs_nothing_but_git_to_be_known(repo):
    shutil.rmtree(repo / ".dvc/cache")
    assert resolve(f"dvc+file://{repo}@main:data/set")[1] == dvc_md5(repo / "data/set")
    assert resolve(f"dvc+file://{repo}@main:data/set", "v1")[1] != dvc_md5(repo / "data/set")


def test_a_clone_holds_the_files_of_git_that_were_asked_for_and_no_others(repo, tmp_path):
    run(repo, "git", "config", "uploadpack.allowFilter", "true")
    (repo / "large.bin").write_bytes(bytes(1 << 20))
    run(repo, "git", "add", "large.bin")
    run(repo, "git", "commit", "-q", "-m", "large")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    TrackedPath(f"dvc+file://{repo}@main:data/set", scratch)
    clone = scratch / "clone"
    listed = run(clone, "git", "rev-list", "--objects", "--missing=print", "HEAD").splitlines()
    missing = {line[1:] for line in listed if line.startswith("?")}
    assert run(repo, "git", "rev-parse", "main:large.bin") in missing
    assert run(repo, "git", "rev-parse", "main:data/set.dvc") not in missing
    assert [path.name for path in clone.iterdir()] == [".git"]


def test_a_source_is_read_at_another_revision():
    assert at_revision("dvc+git@host:x@v1:data/set", "v2") == "dvc+git@host:x@v2:data/set"


@pytest.mark.parametrize(
    ("source", "revision"),
    [("digits", "v2"), ("s3://bucket/key", "v2"), ("dvc+repo@v1:p", "a:b"), ("dvc+repo@v1:p", "a@b")],
)
def test_refuses_a_revision_where_none_fits(source, revision):
    with pytest.raises(StorageError) as caught:
        at_revision(source, revision)
    expected = f"{source}: expected dvc+<repository>@<revision>:<path> for revision '{revision}'"
    assert str(caught.value) == expected


@pytest.mark.parametrize("relative", [False, True])
def test_a_folder_remote_delivers_what_the_cache_lacks(relative, repo, tmp_path):
    commit_remote(repo, "../store" if relative else str(tmp_path / "store"))
    assert texts(deliver(f"dvc+{repo}@main:data/set", tmp_path).path) == texts(repo / "data/set")


def test_an_s3_remote_delivers_to_a_clone(repo, s3, s3_endpoint, tmp_path):
    s3.create_bucket(Bucket="store")
    commit_remote(repo, "s3://store/dvc", endpoint=s3_endpoint)
    delivery = deliver(f"dvc+file://{repo}@main:data/set", tmp_path)
    assert texts(delivery.path) == texts(repo / "data/set")
    md5 = dvc_md5(repo / "data/set/a/x")
    key = f"dvc/files/md5/{md5[:2]}/{md5[2:]}"
    s3.put_object(Bucket="store", Key=key, Body=b"forged")
    assert f"digest mismatch: expected md5 {md5}, found" in refusal(f"dvc+{repo}@main:data/set", tmp_path)
    s3.delete_object(Bucket="store", Key=key)
    message = refusal(f"dvc+{repo}@main:data/set", tmp_path)
    assert "not in the cache" in message
    assert f"s3://store/{key}: there is no such object" in message


def test_an_s3_remote_is_asked_where_its_config_says(repo, s3, s3_endpoint, tmp_path, monkeypatch):
    s3.create_bucket(Bucket="store")
    commit_remote(repo, "s3://store/dvc", endpoint=s3_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert texts(deliver(f"dvc+{repo}@main:data/set", tmp_path).path) == texts(repo / "data/set")


def forge(repo, listing):
    """Let data/set be a folder of which DVC's cache has this list."""
    md5 = f"{hashlib.md5(listing).hexdigest()}.dir"
    path = object_path(repo / ".dvc/cache", md5)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(listing)
    entry = {"md5": md5, "hash": "md5", "path": "set"}
    (repo / "data/set.dvc").write_text(json.dumps({"outs": [entry]}))
    run(repo, "git", "commit", "-q", "-a", "-m", "forged")
    return path.name


def test_refuses_a_folder_whose_list_leaves_it(repo, tmp_path):
    forge(repo, json.dumps([{"md5": dvc_md5(repo / "data/single.txt"), "relpath": "../../escape"}]).encode())
    assert "expected paths inside the folder, found '../../escape'" in refusal(
        f"dvc+{repo}@main:data/set", tmp_path
    )


@pytest.mark.parametrize(
    "listing", [b"no JSON", b"3", b"[3]", b'[{"relpath": "a"}]', b'[{"md5": "a", "relpath": "a"}]', b"\xff"]
)
def test_refuses_a_folder_whose_list_is_none(listing, repo, tmp_path):
    assert forge(repo, listing) in refusal(f"dvc+{repo}@main:data/set", tmp_path)


def test_a_partial_clone_is_refused_before_it_runs_what_it_names(repo, tmp_path):
    """What it lacks git would fetch, by the program of its own config."""
    touched = tmp_path / "touched"
    for key, value in (
        ("core.repositoryformatversion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.url", str(repo)),
        ("remote.origin.uploadpack", f"touch {touched};"),
    ):
        run(repo, "git", "config", key, value)
    name = subprocess.run(
        ["git", "-C", repo, "rev-parse", "main:data/set.dvc"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (repo / ".git/objects" / name[:2] / name[2:]).unlink()
    message = refusal(f"dvc+{repo}@main:data/set", tmp_path)
    assert message == f"{repo}: expected a whole repository, found a partial clone"
    assert not touched.exists()


def test_a_branch_of_a_clone_is_found(repo, tmp_path):
    run(repo, "git", "branch", "side", "v1")
    commit_remote(repo, str(tmp_path / "store"))
    message = refusal(f"dvc+file://{repo}@side:data/set", tmp_path)
    assert "not in the cache" in message
    assert "the default remote (none)" in message  # v1 had none yet


def test_refuses_unknown_revisions_paths_and_repositories(repo, tmp_path):
    assert f"{repo}: there is no revision 'v9'" in refusal(f"dvc+{repo}@v9:data/set", tmp_path)
    assert "expected a revision, found '--all'" in refusal(f"dvc+{repo}@--all:data/set", tmp_path)
    assert "data/none is not tracked by DVC at v1" in refusal(f"dvc+{repo}@v1:data/none", tmp_path)
    assert "data/set/z is not in what DVC tracks" in refusal(f"dvc+{repo}@v1:data/set/z", tmp_path)
    assert "data/single.txt/z is not in what" in refusal(f"dvc+{repo}@v1:data/single.txt/z", tmp_path)
    assert "no such repository" in refusal(f"dvc+{repo}/nowhere@v1:data/set", tmp_path)
    assert "git clone: fatal: " in refusal(f"dvc+file://{repo}/nowhere@v1:data/set", tmp_path)
    assert "git rev-parse: fatal: " in refusal(f"dvc+{tmp_path}@v1:data/set", tmp_path)


@pytest.mark.parametrize("source", ["dvc+repo", "dvc+repo@v1", "dvc+repo:path", "dvc+@v1:path"])
def test_refuses_other_forms(source, tmp_path):
    assert "expected dvc+<repository>@<revision>:<path>" in refusal(source, tmp_path)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "data/.."])
def test_refuses_paths_outside_the_repository(path, repo, tmp_path):
    assert "expected a path inside the repository" in refusal(f"dvc+{repo}@v1:{path}", tmp_path)


def test_refuses_an_object_that_is_nowhere(repo, tmp_path):
    md5 = dvc_md5(repo / "data/single.txt")
    object_path(repo / ".dvc/cache", md5).unlink()
    message = refusal(f"dvc+{repo}@main:data/single.txt", tmp_path)
    assert message.endswith(f"nor in the default remote (none): md5 {md5}")


def test_a_remote_that_cannot_be_asked_is_not_said_to_lack_an_object(repo, tmp_path):
    run(repo, "dvc", "remote", "add", "-q", "-d", "store", "gs://user:secret@team/dvc")
    run(repo, "git", "commit", "-q", "-a", "-m", "remote")
    object_path(repo / ".dvc/cache", dvc_md5(repo / "data/single.txt")).unlink()
    message = refusal(f"dvc+{repo}@main:data/single.txt", tmp_path)
    assert message.endswith(": expected a folder or s3:// as default remote, found gs://team/dvc")


def test_what_the_repository_keeps_to_itself_is_read_too(repo, tmp_path):
    shutil.move(repo / ".dvc/cache", tmp_path / "elsewhere")
    run(repo, "dvc", "cache", "dir", "--local", str(tmp_path / "elsewhere"))
    assert deliver(f"dvc+{repo}@main:data/single.txt", tmp_path).path.read_text() == "single"


def test_variables_of_a_git_hook_do_not_lead_to_its_repository(repo, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    run(other, "git", "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    assert deliver(f"dvc+{repo}@main:data/single.txt", tmp_path).path.read_text() == "single"


@pytest.mark.parametrize("name", ["set/a/x", "set"])
def test_refuses_an_object_that_was_changed(name, repo, tmp_path):
    md5 = dvc_md5(repo / "data" / name)
    path = object_path(repo / ".dvc/cache", md5)
    path.chmod(0o644)
    path.write_text("[]")
    assert f"{path}: digest mismatch: expected md5 {md5}, found" in refusal(
        f"dvc+{repo}@main:data/set", tmp_path
    )


def test_refuses_entries_of_an_older_dvc(repo, tmp_path):
    entry = repo / "data/single.txt.dvc"
    entry.write_text(entry.read_text().replace("  hash: md5\n", ""))
    run(repo, "git", "commit", "-q", "-a", "-m", "old")
    assert "expected an entry of DVC 3" in refusal(f"dvc+{repo}@main:data/single.txt", tmp_path)


@pytest.mark.parametrize(
    "text", ["outs:\n- md5: a", "outs: 3", "outs: [3]", "stages: [3]", "stages: {a: 3}", "outs:\n- path: 3"]
)
def test_refuses_what_dvc_did_not_write(text, repo, tmp_path):
    (repo / "data/single.txt.dvc").write_text(text)
    run(repo, "git", "commit", "-q", "-a", "-m", "malformed")
    message = refusal(f"dvc+{repo}@main:data/single.txt", tmp_path)
    assert "data/single.txt.dvc: expected outs with a path each, as DVC writes them" in message


@pytest.mark.parametrize("text", ["outs: [", "meta: {date: 2026-02-30}", "a: " + "[" * 5000])
def test_refuses_what_is_no_yaml(text, repo, tmp_path):
    (repo / "data/single.txt.dvc").write_text(text)
    run(repo, "git", "commit", "-q", "-a", "-m", "malformed")
    message = refusal(f"dvc+{repo}@main:data/single.txt", tmp_path)
    assert message.endswith("@main: data/single.txt.dvc: not valid YAML")


def test_a_file_of_dvc_that_tracks_nothing_is_passed_by(repo, tmp_path):
    (repo / "data/single.txt.dvc").write_text("outs:\nstages:\n")
    run(repo, "git", "commit", "-q", "-a", "-m", "empty")
    assert "data/single.txt is not tracked by DVC at" in refusal(f"dvc+{repo}@main:data/single.txt", tmp_path)


def test_credentials_in_urls_are_not_repeated(tmp_path):
    message = refusal("dvc+http://me:unit-test-secret@127.0.0.1:9/repo@v1:data", tmp_path)
    assert message.startswith("http://127.0.0.1:9/repo: git clone: fatal: ")
    assert "secret" not in message
    assert without_credentials("dvc+ssh://git@host/x@v1:p") == "dvc+ssh://host/x@v1:p"
    assert without_credentials("dvc+https://host/x@v1:p") == "dvc+https://host/x@v1:p"


def in_file(repo, name, text):
    """Commit another text of a file."""
    (repo / name).write_text(text)
    run(repo, "git", "commit", "-q", "-a", "-m", "other")


def frugal_refusal(source, scratch, *, most):
    """The message of a refusal that takes less than so many bytes of memory."""
    tracemalloc.start()
    try:
        message = refusal(source, scratch)
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()
    return message


def test_what_is_merged_over_and_over_is_refused(repo, tmp_path):
    lines = ["a0: &a0 {path: a}"]
    lines += [f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 7)]
    in_file(repo, "data/single.txt.dvc", "\n".join(lines))
    message = frugal_refusal(f"dvc+{repo}@main:data/single.txt", tmp_path, most=2**22)
    assert message.endswith("@main: data/single.txt.dvc: not valid YAML")


def test_what_is_merged_once_is_read(repo, tmp_path):
    text = (repo / "data/single.txt.dvc").read_text()
    merged = text.replace("- md5", "- <<: {hash: md5}\n  md5").replace("  hash: md5\n", "")
    in_file(repo, "data/single.txt.dvc", merged)
    assert deliver(f"dvc+{repo}@main:data/single.txt", tmp_path).path.read_text() == "single"


def test_a_file_that_is_larger_than_dvc_writes_is_not_read(repo, tmp_path, monkeypatch):
    monkeypatch.setattr(git_revision, "_LARGEST", 2000)
    source = f"dvc+{repo}@main:data/single.txt"
    deliver(source, tmp_path)
    in_file(repo, "data/single.txt.dvc", "#" * 2001)
    assert refusal(source, tmp_path).endswith(
        "@main: data/single.txt.dvc: expected at most 2,000 bytes, found 2,001"
    )


def test_a_tree_of_a_hundred_thousand_files_is_not_listed(repo, tmp_path):
    tree, kind = run(repo, "git", "rev-parse", "HEAD:data/single.txt.dvc"), "100644 blob"
    for _ in range(5):
        entries = "".join(f"{kind} {tree}\t{name}\n" for name in range(10))
        made = subprocess.run(
            ["git", "mktree"], cwd=repo, input=entries.encode(), capture_output=True, check=True
        )
        tree, kind = made.stdout.decode().strip(), "040000 tree"
    commit = run(repo, "git", "commit-tree", tree, "-m", "bomb")
    message = frugal_refusal(f"dvc+{repo}@{commit}:data/single.txt", tmp_path, most=2**21)
    assert message.endswith(f"data/single.txt is not tracked by DVC at {commit}")

import hashlib
import json
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import pytest

from fineprune.errors import ConfigError, StorageError
from fineprune.storage import Bucket, fetch, split_url

BODY = bytes(range(256)) * 1200  # about 300 kB: several chunks
SECRET = "unit-test-secret"


@pytest.fixture
def bucket(s3):
    s3.create_bucket(Bucket="data")
    for key in ("set/a.bin", "set/deep/b.bin", "settled/c.bin"):
        s3.put_object(Bucket="data", Key=key, Body=BODY + key.encode())
    s3.put_object(Bucket="data", Key="set/empty/", Body=b"")
    return s3


def refusal(*arguments, **options):
    with pytest.raises(StorageError) as caught:
        fetch(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert SECRET not in message
    return message


@pytest.mark.parametrize("ahead", [1, 4096])
def test_a_tree_arrives_without_its_neighbours(bucket, tmp_path, monkeypatch, ahead):
    monkeypatch.setattr("fineprune.progress._AHEAD", ahead)
    assert fetch("s3://data/set", tmp_path / "out") == tmp_path / "out"
    found = {path.relative_to(tmp_path / "out").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {"a.bin", "deep/b.bin"}
    assert (tmp_path / "out/deep/b.bin").read_bytes() == BODY + b"set/deep/b.bin"


@pytest.mark.parametrize("url", ["s3://data/settled", "s3://data/settled/"])
def test_a_tree_of_one_object_arrives_as_a_folder(bucket, tmp_path, url):
    assert fetch(url, tmp_path / "out") == tmp_path / "out"
    assert (tmp_path / "out" / "c.bin").read_bytes() == BODY + b"settled/c.bin"


def test_the_marker_of_an_empty_folder_is_no_object(bucket, tmp_path):
    assert "nor any below it" in refusal("s3://data/set/empty/", tmp_path)


def test_nothing_is_put_over_a_file_that_is_there(bucket, tmp_path):
    (tmp_path / "a.bin").write_text("mine")
    with pytest.raises(FileExistsError):
        fetch("s3://data/set/a.bin", tmp_path)
    assert (tmp_path / "a.bin").read_text() == "mine"


def test_a_single_object_arrives_as_a_file(bucket, tmp_path):
    path = fetch("s3://data/set/a.bin", tmp_path)
    assert path == tmp_path / "a.bin"
    assert path.read_bytes() == BODY + b"set/a.bin"
    assert list(tmp_path.iterdir()) == [path]


def test_a_listing_of_many_pages_is_read_to_its_end(bucket, monkeypatch):
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "1")
    assert [stored.key for stored in Bucket("data").below("set")] == [
        "set/a.bin",
        "set/deep/b.bin",
        "settled/c.bin",
    ]


def test_an_empty_object_arrives(s3, tmp_path):
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="empty", Body=b"")
    assert fetch("s3://data/empty", tmp_path).read_bytes() == b""


def test_an_object_that_changes_while_it_is_fetched_is_refused(bucket, tmp_path, monkeypatch):
    stored = Bucket("data").find("set/a.bin")
    bucket.put_object(Bucket="data", Key="set/a.bin", Body=bytes(stored.size))
    monkeypatch.setattr(Bucket, "find", lambda *_: replace(stored, md5=None))
    assert "the object changed while it was fetched" in refusal("s3://data/set/a.bin", tmp_path)


def test_an_encrypted_object_is_not_held_against_its_etag(bucket):
    bucket.put_object(Bucket="data", Key="plain", Body=b"x")
    bucket.put_object(Bucket="data", Key="encrypted", Body=b"x", ServerSideEncryption="aws:kms")
    assert Bucket("data").find("plain").md5 == hashlib.md5(b"x").hexdigest()
    assert Bucket("data").find("encrypted").md5 is None
    assert [stored.md5 for stored in Bucket("data").below("encrypted")] == [None]


def test_a_multipart_object_is_not_held_against_its_etag(s3, tmp_path):
    s3.create_bucket(Bucket="data")
    upload = s3.create_multipart_upload(Bucket="data", Key="big")["UploadId"]
    part = s3.upload_part(Bucket="data", Key="big", UploadId=upload, PartNumber=1, Body=BODY)
    s3.complete_multipart_upload(
        Bucket="data",
        Key="big",
        UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )
    assert fetch("s3://data/big", tmp_path).read_bytes() == BODY


def test_refuses_a_missing_bucket_and_a_missing_key(bucket, tmp_path):
    assert "s3://nowhere/set/: there is no such bucket" in refusal("s3://nowhere/set", tmp_path)
    assert "s3://data/absent: there is no such object" in refusal("s3://data/absent", tmp_path)
    with pytest.raises(StorageError, match="s3://data/absent: there is no such object"):
        Bucket("data").download("absent", tmp_path / "x")
    with pytest.raises(StorageError, match="s3://nowhere: there is no such bucket"):
        Bucket("nowhere").download("absent", tmp_path / "x")


def test_refuses_keys_that_leave_the_folder(s3, tmp_path):
    s3.create_bucket(Bucket="data")
    s3.put_object(Bucket="data", Key="set/../../escape", Body=b"x")
    assert "inside a folder, found '../../escape'" in refusal("s3://data/set", tmp_path / "deep/out")


@pytest.mark.parametrize(
    "url",
    ["s3://key:unit-test-secret@x", "s3://key:unit-test-secret/y@x", "https://[x]/", "s3:///x"],
)
def test_refuses_what_is_no_plain_s3_url(url, tmp_path):
    assert "expected s3://bucket/key" in refusal(url, tmp_path)


def test_splits_a_url_with_odd_characters():
    assert split_url("s3://data/a b/c#1?d") == ("data", "a b/c#1?d")
    assert split_url("s3://data") == ("data", "")
    assert split_url("s3://data//a") == ("data", "a")


def test_refuses_without_credentials(s3, tmp_path, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no credentials found" in refusal("s3://data/set", tmp_path)


def test_refuses_a_token_that_cannot_be_sent(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "planted\n")
    with pytest.raises(
        ConfigError, match=r"^AWS_SESSION_TOKEN: expected one line .* found a line break in it$"
    ):
        fetch("s3://data/set", tmp_path)


@pytest.mark.parametrize(("name", "value"), [("AWS_ENDPOINT_URL", "nonsense"), ("AWS_PROFILE", "nobody")])
def test_refuses_settings_that_make_no_client(s3, tmp_path, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert re.match(f"S3: cannot be set up: .*{value}", refusal("s3://data/set", tmp_path))


def test_refuses_an_endpoint_that_nobody_answers(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "s3://data/set: cannot reach the store" in refusal("s3://data/set", tmp_path)


def test_refuses_a_wrong_key_and_a_wrong_secret(bucket, s3_endpoint, tmp_path, monkeypatch):
    import boto3

    iam = boto3.client("iam")
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_user_policy(UserName="reader", PolicyName="all", PolicyDocument=json.dumps(policy))
    switch_authentication(s3_endpoint, "0")
    try:
        for url in ("s3://data/set/a.bin", "s3://data/set/"):
            assert "access denied" in refusal(url, tmp_path)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        assert "s3://data/set/: access denied" in refusal("s3://data/set/", tmp_path)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        assert fetch("s3://data/set/a.bin", tmp_path).is_file()
    finally:
        switch_authentication(s3_endpoint, "inf")


def switch_authentication(endpoint, free_requests):
    url = f"{endpoint}/moto-api/reset-auth"
    kind = {"Content-Type": "text/plain"}
    urlopen(Request(url, data=free_requests.encode(), headers=kind, method="POST")).close()


class Unsteady(BaseHTTPRequestHandler):
    """A store that breaks off after ``server.stride`` bytes of each answer."""

    def do_HEAD(self):
        self.send_response(200)
        self._describe(len(BODY))

    def do_GET(self):
        start = int(re.findall(r"\d+", self.headers.get("Range", "bytes=0-"))[0])
        self.server.starts.append(start)
        self.send_response(206 if start else 200)
        self._describe(len(BODY) - start)
        self.wfile.write(self.server.body[start : start + self.server.stride])

    def _describe(self, length):
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", f'"{hashlib.md5(BODY).hexdigest()}"')
        self.send_header("Connection", "close")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def unsteady(s3):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Unsteady)
    server.starts, server.body = [], BODY
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def test_a_transfer_that_breaks_off_is_resumed(unsteady, tmp_path):
    unsteady.stride = 1 << 17
    path = fetch("s3://data/set", tmp_path, endpoint=f"http://127.0.0.1:{unsteady.server_port}")
    assert path.read_bytes() == BODY
    assert unsteady.starts == [0, 1 << 17, 1 << 18]


def test_a_truncated_object_is_refused(unsteady, tmp_path):
    unsteady.stride = 0
    message = refusal("s3://data/set", tmp_path, endpoint=f"http://127.0.0.1:{unsteady.server_port}")
    assert message == f"s3://data/set: the transfer broke off: expected {len(BODY)} bytes, found 0"


def test_an_object_of_another_content_than_the_store_tells_is_refused(unsteady, tmp_path):
    unsteady.stride, unsteady.body = 1 << 20, BODY[:-1] + b"x"
    message = refusal("s3://data/set", tmp_path, endpoint=f"http://127.0.0.1:{unsteady.server_port}")
    assert re.search("s3://data/set: expected md5 .*, found", message)

"""What several unit tests start from: one arithmetic, tiny files, real S3 on loopback, an MLflow database."""

import wave
from urllib.request import Request, urlopen

import numpy as np
import pytest


@pytest.fixture(scope="package", autouse=True)
def full_precision():
    """The same arithmetic on every machine; a test of mixed precision says so itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fineprune.runtime.fast_bf16", lambda device: False)
        yield


@pytest.fixture
def write_wav():
    """Write 16-bit PCM; what is not given is one channel at 8 kHz."""

    def write(path, samples, *, rate=8000, channels=1):
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setparams((channels, 2, rate, 0, "NONE", ""))
            file.writeframes(np.asarray(samples, dtype="<i2").tobytes())
        return path

    return write


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    """The bytes of MLflow's database, migrated and empty: making one takes seconds."""
    import mlflow

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path.read_bytes()


@pytest.fixture(scope="session")
def s3_endpoint():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_endpoint, monkeypatch, tmp_path_factory):
    """A boto3 client of an empty store, which the environment points at."""
    import boto3

    nothing = tmp_path_factory.mktemp("aws") / "config"
    nothing.touch()
    urlopen(Request(f"{s3_endpoint}/moto-api/reset", method="POST")).close()
    for name, value in {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "AKIAUNITTEST",
        "AWS_SECRET_ACCESS_KEY": "unit-test-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_CONFIG_FILE": str(nothing),
        "AWS_SHARED_CREDENTIALS_FILE": str(nothing),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return boto3.client("s3")

"""What the tests of the pipeline's commands start from: nothing of this user, and a cluster of stand-ins."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline import compile as compiling
from pipeline import progress, settings
from pipeline.package import PACKAGE

from .kfp_stand_in import KfpStandIn
from .kubernetes_stand_in import KubernetesStandIn
from .mlflow_stand_in import MlflowStandIn
from .proxy_stand_in import LOGIN, ProxyStandIn
from .registry_stand_in import RegistryStandIn
from .submitting import RUN_ID
from .world import SECRETS, World

FROM_OUTSIDE = (
    "KF_PIPELINES_ENDPOINT",
    "KF_PIPELINES_TOKEN",
    "KF_PIPELINES_COOKIE",
    "KF_PIPELINES_SA_TOKEN_PATH",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_TRACKING_TOKEN",
    "HTTPS_PROXY",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)


@pytest.fixture
def at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's kfp context, and no address or login from outside."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(tmp_path / "context.json"))
    for name in FROM_OUTSIDE:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def check_current(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Every package passes as current, for compiling anew costs seconds; the tests of that put this back."""
    check = compiling.check_current
    monkeypatch.setattr(compiling, "check_current", lambda *_: None)
    return check


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is watched is looked at again at once."""
    monkeypatch.setattr(progress, "EVERY", 0.01)


@pytest.fixture
def kfp(at_home: None) -> Iterator[KfpStandIn]:
    with KfpStandIn(run_id=RUN_ID) as stand_in:
        yield stand_in


@pytest.fixture
def judged(at_home: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Registers a version with a verdict, as promote does."""
    run = f"kubeflow.run_id.{RUN_ID}"
    with MlflowStandIn() as registry:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", registry.url)

        def judge(verdict: str) -> None:
            registry.tags.append({run: verdict, f"{run}.reasons": "utility is 0.91\nloss is 0.01"})

        yield judge


@pytest.fixture
def proxy(at_home: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[ProxyStandIn]:
    """The one that the environment names for http, with its login."""
    for name in ("NO_PROXY", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ProxyStandIn() as stand_in:
        monkeypatch.setenv("HTTP_PROXY", stand_in.url.replace("://", f"://{LOGIN}@"))
        yield stand_in


# --- a cluster in order -------------------------------------------------------------------------


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubernetesStandIn]:
    """The one that the kubeconfig names."""
    with KubernetesStandIn() as stand_in:
        config = stand_in.kubeconfig(tmp_path / "kubeconfig")
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(config))
        yield stand_in


@pytest.fixture
def mlflow(at_home: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowStandIn]:
    """The one that the environment names, with a login."""
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, SECRETS[name])
    with MlflowStandIn() as stand_in:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", stand_in.url)
        yield stand_in


@pytest.fixture
def image_registry() -> Iterator[RegistryStandIn]:
    with RegistryStandIn() as stand_in:
        yield stand_in


@pytest.fixture
def world(
    cluster: KubernetesStandIn,
    kfp: KfpStandIn,
    mlflow: MlflowStandIn,
    image_registry: RegistryStandIn,
    s3: Any,
    check_current: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """All of them together, and settings that lead there."""
    world = World(cluster, kfp, mlflow, image_registry, s3)
    world.settle(tmp_path, lambda common: common["images"].update(registry=f"{image_registry.address}/team"))
    load = settings.load
    monkeypatch.setattr(settings, "load", lambda profile: load(profile, world.file))
    monkeypatch.setattr("pipeline.preflight.package_file", lambda _: PACKAGE)  # cpu's is not there
    monkeypatch.setenv("COLUMNS", "110")
    return world

"""The cluster's settings: typed, layered, and refused with one line that names every fault."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from fineprune.errors import ConfigError
from pipeline import settings

Tree = dict[str, Any]


@pytest.fixture
def load_changed(tmp_path: Path) -> Callable[[Callable[[Tree], object]], settings.Settings]:
    """Load the settings after a change to their ``common`` part."""

    def load(change: Callable[[Tree], object]) -> settings.Settings:
        tree = yaml.safe_load(settings.FILE.read_text(encoding="utf-8"))
        change(tree["common"])
        path = tmp_path / "settings.yaml"
        # Without aliases: a change to one stage must not reach another.
        dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
        path.write_text(yaml.dump(tree, Dumper=dumper), encoding="utf-8")
        return settings.load("cpu", path)

    return load


def test_the_gpu_profile_asks_for_accelerators_where_a_stage_computes_and_nowhere_else() -> None:
    asked = {name for name, stage in settings.load("gpu").stages.items() if stage.accelerator}
    assert asked == {"attack", "profile", "prune", "finetune", "evaluate"}


def test_the_cpu_profile_asks_for_no_accelerator_and_tolerates_no_taint() -> None:
    stages = [stage for _, stage in settings.load("cpu").stages.items()]
    assert [(stage.accelerator, stage.tolerations) for stage in stages] == [(None, ())] * 8


def test_a_profile_changes_only_what_it_names() -> None:
    gpu, cpu = settings.load("gpu").stages["prune"], settings.load("cpu").stages["prune"]
    assert (gpu.memory, gpu.cpu, gpu.scratch) == (cpu.memory, cpu.cpu, cpu.scratch)


def test_without_a_name_the_default_profile_is_meant() -> None:
    assert settings.load() == settings.load(settings.default_profile())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(namespce="x"), "settings.namespce: unknown key"),
        (lambda c: c.pop("namespace"), "settings.namespace: missing"),
        (lambda c: c["stages"].pop("prune"), "settings.stages.prune: missing"),
        (
            lambda c: c.update(namespace="Kube Flow"),
            "settings.namespace: expected a value in the form my-name",
        ),
        (lambda c: c["stages"]["prune"].update(timeout_seconds="1h"), "expected a whole number, found '1h'"),
        (lambda c: c["stages"]["prune"].update(timeout_seconds=0), "expected a value in [1, inf), found 0"),
        (lambda c: c["stages"]["prune"]["memory"].update(limit="8 GB"), "the form 8Gi or 500M, found '8 GB'"),
        (lambda c: c["stages"]["prune"]["cpu"].update(limit="2k"), "the form 2, 0.5 or 500m, found '2k'"),
        (
            lambda c: c["stages"]["prune"].update(accelerator={"type": "gpu", "limit": 1}),
            "prune.accelerator.type: expected a value in the form vendor.tld/name, found 'gpu'",
        ),
        (
            lambda c: c["stages"]["prune"].update(accelerator={"type": "a.b/c/d", "limit": 1}),
            "vendor.tld/name, found 'a.b/c/d'",
        ),
        (
            lambda c: c["stages"]["prune"].update(accelerator={"type": "nvidia.com/gpu", "limit": 0}),
            "settings.stages.prune.accelerator.limit",
        ),
        (
            lambda c: c["stages"]["ingest"].update(accelerator={"type": "nvidia.com/gpu", "limit": 1}),
            "settings.stages.ingest.accelerator: ingest uses none, expected null",
        ),
        (
            lambda c: c["stages"]["prune"]["memory"].update(request="17Gi"),
            "settings.stages.prune.memory: request 17Gi is above limit 16Gi",
        ),
        (
            lambda c: c["stages"]["prune"]["cpu"].update(request="8001m"),
            "settings.stages.prune.cpu: request 8001m is above limit 8",
        ),
        (lambda c: c["stages"]["prune"].update(scratch="500K"), "the form 8Gi or 500M, found '500K'"),
        (
            lambda c: c["secrets"].append({**c["secrets"][0], "keys": {"access_key": "OTHER"}}),
            "secrets.fineprune-s3.keys.access_key: expected AWS_ACCESS_KEY_ID, as before, found OTHER",
        ),
        (
            lambda c: c["secrets"][0].update(keys={"access_key": 3}),
            "settings.secrets.fineprune-s3.keys.access_key: expected a string, found 3",
        ),
        (
            lambda c: c["stages"]["prune"].update(node_selector={1: "a"}),
            "settings.stages.prune.node_selector: expected a string as the key, found 1",
        ),
        (
            lambda c: c["sweep"].update(seeds=[1, 2, 1]),
            "settings.sweep.seeds: expected each once, found [1, 2, 1]",
        ),
        (
            lambda c: c["stages"]["prune"].update(
                tolerations=[{"key": "k", "operator": "Exists", "value": "x", "effect": None}]
            ),
            "settings.stages.prune.tolerations[0].value: expected null with Exists, found 'x'",
        ),
        (
            lambda c: c["stages"]["prune"].update(node_selector={"gpu.present": True}),
            "settings.stages.prune.node_selector.gpu.present: expected a string, found True",
        ),
        (
            lambda c: c["stages"]["prune"].update(tolerations=[{"key": "k", "operator": "Is"}]),
            "settings.stages.prune.tolerations[0].operator: expected one of Equal, Exists",
        ),
        (lambda c: c["images"].update(digests={"prune": "latest"}), "expected sha256: and 64 hex digits"),
        (
            lambda c: c["images"].update(digests={"prune": "sha256:" + "0" * 63}),
            "expected sha256: and 64 hex digits",
        ),
        (
            lambda c: c["images"].update(digests={"prune": "sha256:" + "0" * 65}),
            "expected sha256: and 64 hex digits",
        ),
        (
            lambda c: c["images"].update(digests={"prune": 3}),
            "settings.images.digests.prune: expected sha256: and 64 hex digits, found 3",
        ),
        (
            lambda c: c["images"].update(digests={"prone": "sha256:" + "0" * 64}),
            "digests.prone: no such stage",
        ),
        (lambda c: c["images"].update(registry="https://r.org"), "the form registry.example.org/team"),
        (
            lambda c: c["security"].update(user=0),
            "settings.security.user: expected a value in [1, 2.14748e+09)",
        ),
        (
            lambda c: c["secrets"][0].update(stages=["upload"]),
            "settings.secrets[0].stages[0]: expected one of",
        ),
        (
            lambda c: c["secrets"][0].update(stages=["ingest", "promote"]),
            "fineprune-s3.stages: expected any but promote, whose image has no client for S3; let MLflow",
        ),
        (lambda c: c["retry"].update(limit=-1), "settings.retry.limit"),
        (lambda c: c["retry"].update(limit=11), "settings.retry.limit"),
        (
            lambda c: c["retry"].update(factor=1.5),
            "settings.retry.factor: expected a whole number, found 1.5",
        ),
        (
            lambda c: c["retry"].update(factor=0),
            "settings.retry.factor: expected a value in [1, inf), found 0",
        ),
        (
            lambda c: c["sweep"].update(cases=["digits", "digits"]),
            "settings.sweep.cases: expected each once, found ['digits', 'digits']",
        ),
        (
            lambda c: c["sweep"].update(attacks=["baseline", "baseline"]),
            "settings.sweep.attacks: expected each once",
        ),
        (
            lambda c: c["sweep"].update(
                cases=["digits", "faces"], attacks=["baseline", "pruning_aware"], seeds=[*range(13)]
            ),
            "settings.sweep: expected at most 50 runs (cases × attacks × seeds), found 52",
        ),
        (lambda c: c["mlflow"].update(address="mlflow:5000"), "the form http://host:port"),
    ],
)
def test_a_fault_is_named_in_one_line(
    load_changed: Callable[..., settings.Settings], change: Callable[[Tree], object], said: str
) -> None:
    with pytest.raises(ConfigError) as fault:
        load_changed(change)
    assert said in str(fault.value)
    assert "profile cpu" in str(fault.value)
    assert "\n" not in str(fault.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["stages"]["prune"]["memory"].update(request="16Gi"),
        lambda c: c["stages"]["prune"]["memory"].update(request="900Mi"),  # as a text it is above 16Gi
        lambda c: c["stages"]["prune"]["cpu"].update(request="8000m"),
        lambda c: c["stages"]["prune"].update(scratch="500M"),
        lambda c: c["stages"]["prune"].update(scratch="64Ki"),
        lambda c: c["stages"]["prune"].update(
            tolerations=[{"key": "k", "operator": "Equal", "value": "x", "effect": None}]
        ),
        lambda c: c["sweep"].update(attacks=["baseline", "pruning_aware"], seeds=[*range(25)]),
        lambda c: c["secrets"].append({**c["secrets"][0], "stages": ["evaluate"]}),
        lambda c: c["secrets"].append(
            {"name": "other", "keys": {"access_key": "OTHER"}, "stages": ["evaluate"]}
        ),
    ],
)
def test_what_is_just_within_the_bounds_is_taken(
    load_changed: Callable[..., settings.Settings], change: Callable[[Tree], object]
) -> None:
    load_changed(change)


def test_all_faults_are_named_at_once(load_changed: Callable[..., settings.Settings]) -> None:
    with pytest.raises(ConfigError) as fault:
        load_changed(lambda c: (c.pop("namespace"), c.update(color="red"), c["retry"].update(limit="two")))
    for said in ("settings.namespace: missing", "settings.color: unknown key", "settings.retry.limit"):
        assert said in str(fault.value)


def test_a_refused_address_is_not_repeated_with_its_credentials(
    load_changed: Callable[..., settings.Settings],
) -> None:
    with pytest.raises(ConfigError, match="without credentials") as fault:
        load_changed(lambda c: c["s3"].update(address="http://planted:secret@store"))
    assert "planted" not in str(fault.value)
    assert "secret@" not in str(fault.value)


def test_an_unknown_profile_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigError, match="no profile 'tpu'; there are gpu, cpu"):
        settings.load("tpu")


def test_a_profile_may_be_called_by_a_number(tmp_path: Path) -> None:
    values = yaml.safe_load(settings.FILE.read_text())
    values["profiles"][2] = {}
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"no profile .tpu.; there are .*2"):
        settings.load("tpu", tmp_path / "settings.yaml")


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml.*No such file"):
        settings.load(path=tmp_path / "nowhere.yaml")


def test_an_image_is_named_by_registry_and_by_digest_where_there_is_one(
    load_changed: Callable[..., settings.Settings],
) -> None:
    digest = "sha256:" + "ab" * 32
    loaded = load_changed(
        lambda c: c["images"].update(registry="localhost:5000/team", digests={"prune": digest})
    )
    assert loaded.image("attack", "fineprune:1-attack") == "localhost:5000/team/fineprune:1-attack"
    assert loaded.image("prune", "fineprune:1-prune") == f"localhost:5000/team/fineprune@{digest}"
    here = load_changed(lambda c: c["images"].update(registry=None, digests={"prune": digest}))
    assert here.image("attack", "fineprune:1-attack") == "fineprune:1-attack"
    assert here.image("prune", "fineprune:1-prune") == f"fineprune@{digest}"


@pytest.mark.parametrize(
    ("text", "bytes_"), [("512", 512), ("1Ki", 1024), ("2M", 2_000_000), ("3Gi", 3 * 2**30), ("1Ei", 2**60)]
)
def test_a_quantity_is_so_many_bytes(text: str, bytes_: int) -> None:
    assert settings.size(text) == bytes_


@pytest.mark.parametrize(("text", "number"), [("2", "2"), ("0.5", "0.5"), ("250m", "0.25")])
def test_a_quantity_is_so_many_cores(text: str, number: str) -> None:
    assert settings.cores(text) == Decimal(number)


def test_the_registry_is_asked_where_it_is_from_here(
    load_changed: Callable[..., settings.Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = load_changed(lambda c: c["mlflow"].update(address="http://mlflow.inside:5000"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert loaded.tracking_uri == "http://mlflow.inside:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    assert loaded.tracking_uri == "http://mlflow.inside:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:5000")
    assert loaded.tracking_uri == "http://localhost:5000"


def test_a_stage_gets_its_own_secrets_alone(load_changed: Callable[..., settings.Settings]) -> None:
    loaded = load_changed(lambda c: c["secrets"][0].update(stages=["ingest"]))
    assert "fineprune-s3" in {secret.name for secret in loaded.secrets_of("ingest")}
    assert "fineprune-s3" not in {secret.name for secret in loaded.secrets_of("promote")}
    assert loaded.secrets_of("attack") == ()

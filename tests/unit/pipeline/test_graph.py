"""What the compiled graph asks of a cluster, task by task."""

from dataclasses import replace

import pytest

from pipeline import parameters, settings
from pipeline.resources import OF_THE_NODE
from pipeline.settings import Accelerator, CpuBounds, MemoryBounds, Secret, Settings, Toleration
from tests.unit.pipeline.compiled import Package, package

ASKED = {
    "cpu": CpuBounds("250m", "3"),
    "memory": MemoryBounds("1Gi", "3Gi"),
    "accelerator": Accelerator("amd.com/gpu", 2),
    "node_selector": {"pool": "gpu"},
    "tolerations": (Toleration("dedicated", "Equal", "prune", "NoExecute"),),
    "scratch": "5Gi",
    "timeout_seconds": 1000,
}
"""Of prune, unlike anything in settings.yaml."""


@pytest.fixture(scope="module")
def asked() -> Settings:
    loaded = settings.load("cpu")
    stages = replace(loaded.stages, prune=replace(loaded.stages.prune, **ASKED))
    images = replace(loaded.images, registry="r.org/t", pull_policy="Always", pull_secrets=("pull",))
    secret = Secret("keys", {"token": "MLFLOW_TRACKING_TOKEN"}, ("promote",))
    return replace(loaded, stages=stages, images=images, secrets=(secret, *loaded.secrets))


@pytest.fixture(scope="module")
def single(asked: Settings) -> Package:
    return package("fine_pruning", asked)


@pytest.fixture(scope="module")
def sweep(asked: Settings) -> Package:
    return package("fine_pruning_sweep", asked)


def tasks(found: Package) -> dict:
    return found.spec["root"]["dag"]["tasks"]


def test_the_tasks_say_which_model_they_are_for(single: Package) -> None:
    assert {name: task["taskInfo"]["name"] for name, task in tasks(single).items()} == {
        "ingest": "ingest",
        "attack": "attack",
        "profile": "profile · undefended",
        "profile-2": "profile · control",
        "prune": "prune · undefended",
        "prune-2": "prune · control",
        "finetune": "finetune · fine tuned",
        "finetune-2": "finetune · fine pruned",
        "finetune-3": "finetune · control fine pruned",
        "evaluate": "evaluate",
        "promote": "promote",
    }


@pytest.mark.parametrize("task", ["prune", "prune-2"])
def test_every_task_of_a_stage_gets_what_its_settings_ask_for(single: Package, task: str) -> None:
    resources, pod = single.container(task)["resources"], single.pod(task)
    assert (resources["resourceCpuRequest"], resources["resourceCpuLimit"]) == ("250m", "3")
    assert (resources["resourceMemoryRequest"], resources["resourceMemoryLimit"]) == ("1Gi", "3Gi")
    assert resources["accelerator"]["resourceType"] == "amd.com/gpu"
    assert resources["accelerator"]["resourceCount"] == "2"
    assert pod["nodeSelector"] == {"labels": {"pool": "gpu"}}
    assert pod["tolerations"] == [
        {"key": "dedicated", "operator": "Equal", "value": "prune", "effect": "NoExecute"}
    ]
    assert pod["emptyDirMounts"] == [{"volumeName": "scratch", "mountPath": "/tmp", "sizeLimit": "5Gi"}]
    assert pod["activeDeadlineSeconds"] == "1000"


def test_a_stage_without_accelerator_asks_for_none(single: Package) -> None:
    assert "accelerator" not in single.container("attack")["resources"]
    assert "tolerations" not in single.pod("attack")


def test_no_container_runs_as_root(single: Package, sweep: Package) -> None:
    contexts = [pod["securityContext"] for found in (single, sweep) for pod in found.kubernetes.values()]
    # 11 tasks up to promote; the 10 before it in each run of the sweep, and the table.
    assert contexts == [{"runAsUser": "10001", "runAsGroup": "10001", "runAsNonRoot": True}] * (11 + 11)


def test_images_are_pulled_as_the_settings_say(single: Package) -> None:
    assert single.container("prune-2")["image"].startswith("r.org/t/fineprune:")
    assert single.pod("ingest")["imagePullPolicy"] == "Always"
    assert [secret["secretName"] for secret in single.pod("ingest")["imagePullSecret"]] == ["pull"]


def test_only_promotion_and_the_table_are_made_anew_every_time(single: Package, sweep: Package) -> None:
    assert {name for name, task in tasks(single).items() if not task["cachingOptions"]} == {"promote"}
    assert tasks(sweep)["tabulate"]["cachingOptions"] == {}


def test_a_secret_reaches_only_its_stages_and_only_by_name(single: Package) -> None:
    given = {
        name: [
            (secret["secretName"], variable["envVar"])
            for secret in pod.get("secretAsEnv", ())
            for variable in secret["keyToEnv"]
        ]
        for name, pod in single.kubernetes.items()
    }
    s3 = [("fineprune-s3", "AWS_ACCESS_KEY_ID"), ("fineprune-s3", "AWS_SECRET_ACCESS_KEY")]
    assert given.pop("exec-ingest") == s3
    assert given.pop("exec-promote") == [
        ("keys", "MLFLOW_TRACKING_TOKEN"),
        ("fineprune-mlflow", "MLFLOW_TRACKING_USERNAME"),
        ("fineprune-mlflow", "MLFLOW_TRACKING_PASSWORD"),
    ]
    assert set(map(tuple, given.values())) == {()}


def test_addresses_reach_the_stages_that_need_them(single: Package, asked: Settings) -> None:
    assert variables(single, "promote") == {"MLFLOW_TRACKING_URI": asked.mlflow.address}
    assert variables(single, "ingest") == {"AWS_DEFAULT_REGION": asked.s3.region}
    assert variables(single, "attack") == {}


def variables(found: Package, task: str) -> dict[str, str]:
    """A task's variables but for those that tell it of its node."""
    given = {entry["name"]: entry["value"] for entry in found.container(task)["env"]}
    return {name: value for name, value in given.items() if name not in OF_THE_NODE}


def test_pods_that_log_in_to_s3_by_identity_get_its_address_too(asked: Settings) -> None:
    store = replace(asked.s3, address="http://minio.store:9000")
    without = package("fine_pruning", replace(asked, secrets=(), s3=store))
    expected = {"AWS_DEFAULT_REGION": asked.s3.region, "AWS_ENDPOINT_URL": "http://minio.store:9000"}
    assert variables(without, "ingest") == expected


@pytest.mark.parametrize(("limit", "threads"), [("3", "3"), ("2500m", "2"), ("500m", "1")])
def test_a_stage_starts_as_many_threads_as_it_may_use_cores(
    asked: Settings, limit: str, threads: str
) -> None:
    prune = replace(asked.stages.prune, cpu=CpuBounds("250m", limit))
    given = package("fine_pruning", replace(asked, stages=replace(asked.stages, prune=prune)))
    assert {"name": "OMP_NUM_THREADS", "value": threads} in given.container("prune")["env"]


def test_a_stage_that_asks_for_a_gpu_insists_on_it(single: Package) -> None:
    assert {"name": "FINEPRUNE_DEVICE", "value": "cuda"} in single.container("prune")["env"]
    assert "FINEPRUNE_DEVICE" not in {entry["name"] for entry in single.container("attack")["env"]}


def test_the_last_retry_may_still_begin_after_tries_that_ran_into_the_timeout(single: Package) -> None:
    policy = tasks(single)["prune"]["retryPolicy"]
    # 3 tries of 1000 s, with waits of 30 and 60 s between them.
    assert policy == {
        "maxRetryCount": 2,
        "backoffDuration": "30s",
        "backoffFactor": 2.0,
        "backoffMaxDuration": "3090s",
    }


def test_without_retries_there_is_no_retry_policy(asked: Settings) -> None:
    once = package("fine_pruning", replace(asked, retry=replace(asked.retry, limit=0)))
    assert not [name for name, task in tasks(once).items() if "retryPolicy" in task]


def test_the_run_s_id_travels_as_a_parameter(single: Package) -> None:
    value = tasks(single)["promote"]["inputs"]["parameters"]["run_id"]["runtimeValue"]["constant"]
    assert value == "{{$.pipeline_job_uuid}}"


def test_the_parameters_are_typed_and_have_the_params_files_defaults(single: Package) -> None:
    given = single.spec["root"]["inputDefinitions"]["parameters"]
    default = parameters.defaults(parameters.default_case())
    assert {name: entry["defaultValue"] for name, entry in given.items()} == default
    kinds = {name: entry["parameterType"] for name, entry in given.items()}
    assert kinds == dict.fromkeys(parameters.SECTIONS, "STRUCT") | {
        "source": "STRING",
        "revision": "STRING",
        "data_md5": "STRING",
        "registered_name": "STRING",
        "min_utility": "NUMBER_DOUBLE",
        "max_clean_loss": "NUMBER_DOUBLE",
    }
    assert all(entry["isOptional"] and entry["description"] for entry in given.values())


def test_a_sweep_loops_over_its_runs_and_collects_their_rows(sweep: Package, asked: Settings) -> None:
    loop, table = tasks(sweep)["for-loop-1"], tasks(sweep)["tabulate"]
    assert loop["parameterIterator"]["items"] == {"inputParameter": "pipelinechannel--runs"}
    assert loop["iteratorPolicy"] == {"parallelismLimit": asked.sweep.parallelism}
    rows = table["inputs"]["parameters"]["rows"]["taskOutputParameter"]
    assert rows["producerTask"] == "for-loop-1"
    output = sweep.spec["components"]["comp-for-loop-1"]["dag"]["outputs"]["parameters"]
    assert output[rows["outputParameterKey"]]["valueFromParameter"] == {
        "producerSubtask": "evaluate",
        "outputParameterKey": "row",
    }
    assert sweep.spec["components"]["comp-tabulate"]["inputDefinitions"]["parameters"]["rows"] == {
        "parameterType": "LIST",
        "description": "one JSON object per run, as evaluate wrote it.",
    }


def test_each_run_of_a_sweep_takes_every_parameter_from_its_own_item(sweep: Package) -> None:
    inner = sweep.spec["components"]["comp-for-loop-1"]["dag"]["tasks"]
    taken = {
        entry["parameterExpressionSelector"]
        for task in inner.values()
        for entry in task["inputs"]["parameters"].values()
        if entry["componentInputParameter"] == "pipelinechannel--runs-loop-item"
    }
    (run, *_) = sweep.spec["root"]["inputDefinitions"]["parameters"]["runs"]["defaultValue"]
    assert taken == {f'parseJson(string_value)["{name}"]' for name in run}


def test_a_sweep_runs_the_same_tasks_and_promotes_nothing(single: Package, sweep: Package) -> None:
    inner = sweep.spec["components"]["comp-for-loop-1"]["dag"]["tasks"]
    assert set(inner) == set(tasks(single)) - {"promote"}
    for name, task in inner.items():
        assert task["inputs"].get("artifacts") == tasks(single)[name]["inputs"].get("artifacts")

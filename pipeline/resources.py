"""What the settings ask for, put on a task: image, resources, node, volumes, identity, secrets, retries."""

from __future__ import annotations

from kfp import dsl, kubernetes

from components import image
from pipeline.settings import Retry, Settings, StageSettings, cores

SCRATCH = "/tmp"  # noqa: S108 - a volume is mounted there

OF_THE_NODE = ("OMP_NUM_THREADS", "FINEPRUNE_DEVICE")
"""Variables that tell a stage what it has of its node."""

UNCACHED = ("promote", "tabulate")
"""Stages that run every time: promotion looks at the registry, and both are done in seconds."""


def apply(task: dsl.PipelineTask, stage: str, settings: Settings) -> None:
    """Put everything on a task that the settings say of its stage."""
    asked = settings.stages[stage]
    task.set_container_image(settings.image(stage, image(stage)))
    task.set_caching_options(stage not in UNCACHED)
    _set_resources(task, asked)
    _set_node(task, asked)
    _set_volumes(task, asked)
    _set_identity(task, settings)
    _set_environment(task, stage, settings)
    if settings.retry.limit:
        _set_retry(task, settings.retry, asked.timeout_seconds)
    kubernetes.set_timeout(task, asked.timeout_seconds)


def _set_resources(task: dsl.PipelineTask, asked: StageSettings) -> None:
    task.set_cpu_request(asked.cpu.request).set_cpu_limit(asked.cpu.limit)
    task.set_memory_request(asked.memory.request).set_memory_limit(asked.memory.limit)
    if asked.accelerator:
        task.set_accelerator_type(asked.accelerator.type)
        task.set_accelerator_limit(asked.accelerator.limit)


def _set_node(task: dsl.PipelineTask, asked: StageSettings) -> None:
    for label, value in asked.node_selector.items():
        kubernetes.add_node_selector(task, label_key=label, label_value=value)
    for toleration in asked.tolerations:
        kubernetes.add_toleration(
            task,
            key=toleration.key,
            operator=toleration.operator,
            value=toleration.value,
            effect=toleration.effect,
        )


def _set_volumes(task: dsl.PipelineTask, asked: StageSettings) -> None:
    kubernetes.empty_dir_mount(task, volume_name="scratch", mount_path=SCRATCH, size_limit=asked.scratch)


def _set_identity(task: dsl.PipelineTask, settings: Settings) -> None:
    kubernetes.set_security_context(
        task,
        run_as_user=settings.security.user,
        run_as_group=settings.security.group,
        run_as_non_root=True,
    )
    kubernetes.set_image_pull_policy(task, settings.images.pull_policy)
    if settings.images.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(settings.images.pull_secrets))


def _set_environment(task: dsl.PipelineTask, stage: str, settings: Settings) -> None:
    """Plain variables, but for credentials: those only by the name of the secret that holds them."""
    asked = settings.stages[stage]
    # Torch would start a thread for each core of the node, whatever the limit, and be throttled.
    task.set_env_variable("OMP_NUM_THREADS", str(max(1, int(cores(asked.cpu.limit)))))
    if asked.accelerator:
        task.set_env_variable("FINEPRUNE_DEVICE", "cuda")
    if stage == "promote":
        task.set_env_variable("MLFLOW_TRACKING_URI", settings.mlflow.address)
    if stage == "ingest":
        task.set_env_variable("AWS_DEFAULT_REGION", settings.s3.region)
        if settings.s3.address:
            task.set_env_variable("AWS_ENDPOINT_URL", settings.s3.address)
    for secret in settings.secrets_of(stage):
        kubernetes.use_secret_as_env(task, secret_name=secret.name, secret_key_to_env=secret.keys)


def _set_retry(task: dsl.PipelineTask, retry: Retry, timeout: int) -> None:
    """Retries with growing waits.

    KFP sets no retry policy (``getTaskRetryStrategyFromInput`` of its ``argocompiler/container.go``), so that
    the controller's defaults decide. KFP 2.16 leaves Argo's own, OnFailure: a main container that failed is
    retried, whatever its exit code, but not a pod that was deleted, which is an error. KFP 2.17 sets OnError
    (``workflow-controller-configmap``), the reverse. The maximal duration counts from the first try on, tries
    included: KFP's default of an hour would rule out the retry of a long training.
    """
    waits = sum(retry.wait_seconds * retry.factor**n for n in range(retry.limit))
    task.set_retry(
        retry.limit,
        backoff_duration=f"{retry.wait_seconds}s",
        backoff_factor=retry.factor,
        backoff_max_duration=f"{(retry.limit + 1) * timeout + waits}s",
    )

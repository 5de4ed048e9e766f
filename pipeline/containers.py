"""The container of one task of a local run, started as kfp's runner asks and followed to its real end.

kfp 2.17 removes a container as it ends and then takes one that is gone for a success, its log lost
(kubeflow/pipelines#13332). So kfp orders the tasks and fills the placeholders here, and this runs the
containers: the exit code is the engine's, and every output that was declared must be there.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from docker.client import DockerClient
from docker.context import ContextAPI
from docker.context.config import get_current_context_name
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import DeviceRequest
from kfp import local
from kfp.local import docker_task_handler, status

from components import image as made_here
from fineprune.errors import FinePruneError

LOG = "log.txt"
_SIGKILL = 128 + 9
_LAST_LINES = 12
_MADE_HERE = made_here("").partition(":")[0] + ":"
_IN_METADATA = ("system.Metrics", "system.ClassificationMetrics")  # such an artifact needs no file


class EngineError(FinePruneError):
    """No Docker Engine answers."""


class TaskFailedError(Exception):
    """A task failed; nothing after it ran.

    Attributes:
        task: its name in the graph.
        cause: one line.
        log: the last lines that the container printed.
    """

    def __init__(self, task: str, cause: str, log: Sequence[str] = ()) -> None:
        super().__init__(f"{task}: {cause}")
        self.task, self.cause, self.log = task, cause, list(log)


@dataclass
class Containers:
    """Runs the tasks' containers while :meth:`installed`.

    Attributes:
        limits: bytes of memory that a task may use, by its name; none for a task without a limit.
        environment: which variables a stage gets of those that the runner and the package set.
        local_images: whether the stages run in the images that were made here, whatever the package names.
        begun, done: called with a task's name, ``run 2 · NAME`` in a loop; ``done`` with its seconds too.
        outputs: of each task that is done: where each of its artifacts is.
    """

    limits: Mapping[str, int]
    environment: Callable[[str, Mapping[str, str]], dict[str, str]]
    begun: Callable[[str], object]
    done: Callable[[str, float], object]
    local_images: bool = False
    outputs: dict[str, dict[str, Path]] = field(default_factory=dict)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """Let kfp's Docker runner start its containers here."""
        before = docker_task_handler.DockerTaskHandler
        docker_task_handler.DockerTaskHandler = partial(_Handler, containers=self)
        try:
            yield
        finally:
            docker_task_handler.DockerTaskHandler = before


class _Handler(docker_task_handler.DockerTaskHandler):  # type: ignore[misc]  # kfp is untyped
    """kfp's handler of one task, with a run of its own."""

    def __init__(self, *arguments: Any, containers: Containers, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._containers = containers

    def run(self) -> status.Status:
        """Run the container.

        Raises:
            TaskFailedError: it did not end well, or an output is not there.
        """
        outputs = Outputs.of_command(self.full_command)
        containers, task = self._containers, outputs.task
        containers.begun(outputs.label)
        started = time.monotonic()
        with contextlib.closing(engine()) as client:
            image = made_here(self.full_command[1]) if containers.local_images else self.image
            _check_image(client, image, task)
            log = deque[str](maxlen=_LAST_LINES)
            code, killed = self._follow(client, image, outputs, log)
        if cause := cause_of_end(code, killed, containers.limits.get(task), log) or outputs.missing():
            raise TaskFailedError(outputs.label, cause, log)
        containers.outputs[task] = outputs.artifacts
        containers.done(outputs.label, time.monotonic() - started)
        return status.Status.SUCCESS

    def _follow(
        self, client: DockerClient, image: str, outputs: Outputs, log: deque[str]
    ) -> tuple[int, bool]:
        """Start the container and follow it to its end; gives its exit code and whether memory ran out.

        Raises:
            TaskFailedError: the engine cannot start it.
        """
        container = None
        limit = self._containers.limits.get(outputs.task)
        outputs.folder.mkdir(parents=True, exist_ok=True)
        try:
            container = client.containers.create(
                image,
                self.full_command,
                volumes=self.get_volumes_to_mount(client),
                environment=self._containers.environment(self.full_command[1], self.env_vars),
                **({"mem_limit": limit, "memswap_limit": limit} if limit else {}),
                **self.runner.container_run_args,
            )
            container.start()
            with (outputs.folder / LOG).open("wb") as file:
                for chunk in container.logs(stream=True, follow=True):
                    file.write(chunk)
            code = int(container.wait()["StatusCode"])
            container.reload()
            lines = (outputs.folder / LOG).read_text(encoding="utf-8", errors="replace").splitlines()
            log.extend(line for line in lines if line.strip())
            return code, bool(container.attrs["State"]["OOMKilled"])
        except APIError as error:
            raise TaskFailedError(outputs.task, f"the engine: {error.explanation}", log) from None
        finally:
            if container is not None:
                with contextlib.suppress(NotFound):
                    container.remove(force=True)


@dataclass(frozen=True)
class Outputs:
    """What a task must leave: the outputs of the executor input in its command.

    Attributes:
        folder: of the task.
        executor_output: where it tells kfp of its artifacts.
        artifacts, parameters: where each of them belongs.
        measured: the artifacts whose value is in the executor output; they need no file.
    """

    folder: Path
    executor_output: Path
    artifacts: dict[str, Path]
    parameters: dict[str, Path]
    measured: frozenset[str]

    @classmethod
    def of_command(cls, command: Sequence[str]) -> Outputs:
        """Read the executor input, which every component of ours is given."""
        told = json.loads(command[command.index("--executor-input") + 1])["outputs"]
        artifacts = {name: entry["artifacts"][0] for name, entry in told.get("artifacts", {}).items()}
        return cls(
            folder=Path(told["outputFile"]).parent,
            executor_output=Path(told["outputFile"]),
            artifacts={name: Path(entry["uri"]) for name, entry in artifacts.items()},
            parameters={
                name: Path(entry["outputFile"]) for name, entry in told.get("parameters", {}).items()
            },
            measured=frozenset(
                name
                for name, entry in artifacts.items()
                if entry.get("type", {}).get("schemaTitle") in _IN_METADATA
            ),
        )

    @property
    def task(self) -> str:
        """The task's name in the graph, which names its folder."""
        return self.folder.name

    @property
    def label(self) -> str:
        """The task's name, in a loop with the number of its round."""
        found = re.search(r"-iteration-(\d+)$", self.folder.parent.name)
        return f"run {int(found[1]) + 1} · {self.task}" if found else self.task

    def missing(self) -> str | None:
        """What is not there, or None."""
        wanted = {**self.artifacts, **self.parameters}
        told = self.measured & _told_of(self.executor_output)
        absent = [name for name, path in wanted.items() if not path.exists() and name not in told]
        if not self.executor_output.is_file():
            absent.insert(0, "executor output")
        return f"it exited with 0, but left no {', '.join(absent)}" if absent else None


def engine() -> DockerClient:
    """A client of the Docker Engine that the ``docker`` program speaks to.

    Raises:
        EngineError: none answers.
    """
    try:
        client = DockerClient.from_env() if os.environ.get("DOCKER_HOST") else _of_context()
        client.ping()
    except DockerException as error:
        cause = str(error).split("(", 1)[0].strip(" :")
        raise EngineError(f"no Docker Engine answers ({cause}): start it, or docker/engine.sh") from None
    return client


def _of_context() -> DockerClient:
    """A client for the context in use, such as Docker Desktop's: docker-py tries the socket alone."""
    name = os.environ.get("DOCKER_CONTEXT") or get_current_context_name()
    context = ContextAPI.get_context(name)
    if context is None:
        raise DockerException(f"there is no context {name}")
    return DockerClient(base_url=context.Host, tls=context.TLSConfig or False)


def _check_image(client: DockerClient, image: str, task: str) -> None:
    """Pull an image that is not here, unless it is one that is made here: nobody else has that."""
    try:
        client.images.get(image)
    except ImageNotFound:
        if image.startswith(_MADE_HERE):
            raise TaskFailedError(task, f"there is no image {image} here: make images") from None
        try:
            client.images.pull(image)
        except DockerException as error:
            said = getattr(error, "explanation", None) or error
            raise TaskFailedError(task, f"cannot pull the image {image}: {said}") from None


def cause_of_end(code: int, killed: bool, limit: int | None, log: Sequence[str]) -> str | None:
    """Why a container did not end well, in one line; None if it did."""
    if code == 0:
        return None
    if killed:
        return f"killed for memory: it needs more than {(limit or 0) / 2**30:.3g} GiB (exit code {code})"
    if code == _SIGKILL:
        return f"killed by a signal from outside (SIGKILL, exit code {code})"
    return f"exit code {code}: {log[-1] if log else 'it printed nothing'}"


def _told_of(executor_output: Path) -> set[str]:
    """The artifacts that a task has told kfp of; none where there is no readable output."""
    try:
        return set(json.loads(executor_output.read_text(encoding="utf-8"))["artifacts"])
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def runner(**arguments: Any) -> local.DockerRunner:
    """The Docker runner of kfp: containers that can write to their outputs and /tmp, on the host's network.

    A GPU is passed through where the engine can do so.
    """
    return local.DockerRunner(
        read_only=True,
        # exec is not an engine's default: the speech generator loads a copy of its library from there.
        tmpfs={"/tmp": "mode=1777,exec"},  # noqa: S108 - inside the container
        network_mode="host",
        init=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        device_requests=_gpus(),
        **arguments,
    )


def rootless() -> bool:
    """Whether the engine runs without root, so that root in its containers is the caller outside."""
    with contextlib.closing(engine()) as client:
        return "name=rootless" in (client.info().get("SecurityOptions") or ())


def _gpus() -> list[DeviceRequest]:
    with contextlib.closing(engine()) as client:
        runtimes = client.info().get("Runtimes") or {}
    return [DeviceRequest(count=-1, capabilities=[["gpu"]])] if "nvidia" in runtimes else []

"""Whether the nodes can pull the images, and pull those that are meant."""

from collections.abc import Callable
from pathlib import Path

import pytest

from components import VERSION
from pipeline import settings
from tests.unit.pipeline.world import World, assert_one_failure, lines


def images(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    ((state, found),) = [(state, found) for state, check, found in lines(capsys) if check == "images"]
    return state, found


def no_image(world: World) -> None:
    world.registry.missing = ("-prune", "-promote")


@pytest.mark.parametrize(
    ("fault", "check", "found"),
    [
        (
            no_image,
            "images",
            f"/team has no fineprune:{VERSION}-prune, fineprune:{VERSION}-promote → python docker/images.py",
        ),
    ],
)
def test_one_thing_wrong_is_one_line(
    world: World, capsys: pytest.CaptureFixture[str], fault: Callable[[World], None], check: str, found: str
) -> None:
    assert_one_failure(world, capsys, fault, check, found)


def test_images_that_are_in_no_registry_cannot_be_pulled(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    world.settle(tmp_path, lambda common: common["images"].update(registry=None))
    assert world.check() == 1
    state, found = images(capsys)
    assert (state, found) == (
        "fail",
        f"a cluster cannot pull fineprune:{VERSION}-ingest and the others: no registry is set → set "
        "images.registry in pipeline/settings.yaml; pull_policy: Never where every node has them",
    )
    world.settle(tmp_path, lambda common: common["images"].update(pull_policy="Never"))
    assert world.check() == 0
    assert images(capsys) == ("skip", "pull_policy is Never: every node must have them")


def test_stages_without_a_digest_are_named(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    stages = [stage for stage, _ in settings.load("gpu").stages.items()]
    given = dict.fromkeys(stages, "sha256:" + "ab" * 32)
    world.settle(tmp_path, lambda common: common["images"].update(digests=given))
    assert world.check() == 0
    assert ("pass", "digests", "every image is named by its digest") in lines(capsys)
    world.settle(tmp_path, lambda common: common["images"]["digests"].pop("prune"))
    assert world.check() == 0
    ((state, found),) = [(state, found) for state, check, found in lines(capsys) if check == "digests"]
    assert state == "note"
    assert found.startswith("none for prune: a tag stays the same")


def test_images_are_looked_up_as_they_will_be_pulled(world: World, tmp_path: Path) -> None:
    digest = "sha256:" + "ab" * 32
    world.settle(tmp_path, lambda common: common["images"].update(digests={"prune": digest}))
    assert world.check() == 0
    assert f"/v2/team/fineprune/manifests/{digest}" in world.registry.asked
    assert f"/v2/team/fineprune/manifests/{VERSION}-attack" in world.registry.asked


@pytest.mark.parametrize(("gives_token", "state"), [(True, "pass"), (False, "skip")])
def test_a_registry_that_wants_a_token(
    world: World, capsys: pytest.CaptureFixture[str], gives_token: bool, state: str
) -> None:
    world.registry.token, world.registry.gives_token = "for-all", gives_token
    assert world.check() == 0
    found = images(capsys)
    assert found[0] == state
    assert ("tells only those who log in → docker manifest inspect" in found[1]) == (state == "skip")
    assert "/token?service=here&scope=repository%3At%3Apull" in world.registry.asked


def test_a_registry_without_tls_cannot_be_asked_but_perhaps_by_the_nodes(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.image_registry._scheme", lambda host: "https")
    assert world.check() == 0
    state, found = images(capsys)
    assert state == "skip"
    assert found.startswith(f"cannot ask {world.registry.address}: [SSL: ")
    assert "name its certificates in REQUESTS_CA_BUNDLE; one without TLS" in found


def test_a_registry_that_does_not_answer(
    world: World, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    world.settle(tmp_path, lambda common: common["images"].update(registry="127.0.0.1:1/team"))
    assert world.check() == 1
    state, found = images(capsys)
    assert state == "fail"
    assert found.startswith("127.0.0.1:1: the image registry does not answer: ")
    assert found.endswith("Connection refused")

"""Whether the nodes can pull the images, and pull those that are meant."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from components import VERSION
from pipeline import settings, web
from pipeline.image_registry import RegistryError, look_up
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


def answer(status: int, content: bytes = b"", **headers: str) -> SimpleNamespace:
    return SimpleNamespace(status_code=status, content=content, headers=headers)


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("fineprune:1-prune", "https://registry-1.docker.io/v2/fineprune/manifests/1-prune"),
        ("team/fineprune:1", "https://registry-1.docker.io/v2/team/fineprune/manifests/1"),
        ("docker.io/team/fineprune:1", "https://registry-1.docker.io/v2/team/fineprune/manifests/1"),
        ("r.example/team/fineprune@sha256:ab", "https://r.example/v2/team/fineprune/manifests/sha256:ab"),
        ("host:5000/fineprune:1", "https://host:5000/v2/fineprune/manifests/1"),
        ("localhost/fineprune:1", "http://localhost/v2/fineprune/manifests/1"),
        ("127.0.0.1:5000/fineprune:1", "http://127.0.0.1:5000/v2/fineprune/manifests/1"),
    ],
)
def test_where_an_image_is_looked_up(monkeypatch: pytest.MonkeyPatch, image: str, url: str) -> None:
    asked: list[str] = []
    monkeypatch.setattr(web, "ask", lambda _, url, __: asked.append(url) or answer(200))
    assert look_up(image) == "there"
    assert asked == [url]


@pytest.mark.parametrize(
    ("status", "found"), [(200, "there"), (401, "private"), (403, "private"), (404, "missing")]
)
def test_what_a_registry_answers(monkeypatch: pytest.MonkeyPatch, status: int, found: str) -> None:
    monkeypatch.setattr(web, "ask", lambda *_: answer(status))
    assert look_up("r.example/fineprune:1") == found


def test_what_answers_otherwise_is_no_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ask", lambda *_: answer(500))
    with pytest.raises(RegistryError, match=r"r\.example: expected an image registry, found HTTP 500"):
        look_up("r.example/fineprune:1")


BEARER = 'Bearer realm="https://r.example/token"'


@pytest.mark.parametrize(
    ("challenge", "given", "found"),
    [
        (BEARER, answer(200, b'{"token": "t"}'), "there"),
        (BEARER, answer(200, b'{"access_token": "t"}'), "there"),
        (BEARER, answer(200, b'{"token": ""}'), "private"),
        (BEARER, answer(403, b'{"token": "t"}'), "private"),
        (BEARER, answer(200, b"<html>"), "private"),
        (BEARER, answer(200, b"[1]"), "private"),
        (BEARER.replace("Bearer", "Basic"), answer(200, b'{"token": "t"}'), "private"),
        (BEARER.replace("https", "file"), answer(200, b'{"token": "t"}'), "private"),
    ],
)
def test_a_token_for_everybody(
    monkeypatch: pytest.MonkeyPatch, challenge: str, given: SimpleNamespace, found: str
) -> None:
    def ask(method: str, _: str, headers: Mapping[str, str]) -> SimpleNamespace:
        if method == "GET":
            return given
        known = headers.get("Authorization") == "Bearer t"
        return answer(200) if known else answer(401, **{"WWW-Authenticate": challenge})

    monkeypatch.setattr(web, "ask", ask)
    assert look_up("r.example/fineprune:1") == found

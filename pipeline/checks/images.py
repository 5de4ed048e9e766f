"""Whether the nodes can pull the images, and pull those that are meant."""

from __future__ import annotations

from collections.abc import Iterator

from components import image
from pipeline import image_registry
from pipeline.checks.base import Line, Site


def in_registry(site: Site) -> Iterator[Line]:
    """Every image is in the registry, or the nodes are said to have them."""
    wanted = site.settings.images
    if wanted.pull_policy == "Never":
        yield Line("skip", "pull_policy is Never: every node must have them")
        return
    names = [site.settings.image(stage, image(stage)) for stage, _ in site.settings.stages.items()]
    if wanted.registry is None:
        remedy = "set images.registry in pipeline/settings.yaml; pull_policy: Never where every node has them"
        yield Line("fail", f"a cluster cannot pull {names[0]} and the others: no registry is set", remedy)
        return
    try:
        found = {name: image_registry.look_up(name) for name in names}
    except image_registry.UntrustedError as error:
        remedy = "name its certificates in REQUESTS_CA_BUNDLE; one without TLS to the nodes' containerd"
        yield Line("skip", f"cannot ask {error}", remedy)
        return
    missing, private = ([n for n, state in found.items() if state == kind] for kind in ("missing", "private"))
    if missing:
        remedy = f"python docker/images.py --torch cuda --registry {wanted.registry} --push (or --torch cpu)"
        yield Line("fail", f"{wanted.registry} has no {', '.join(_short(name) for name in missing)}", remedy)
    elif private:
        remedy = f"docker manifest inspect {private[0]} tells; the pods log in by images.pull_secrets"
        yield Line("skip", f"{wanted.registry} tells only those who log in", remedy)
    else:
        yield Line("pass", f"{wanted.registry} has all {len(found)}")


def digests(site: Site) -> Iterator[Line]:
    """Every image is named by its digest, which another image never has."""
    wanted = site.settings.images
    tagged = [stage for stage, _ in site.settings.stages.items() if stage not in wanted.digests]
    if wanted.pull_policy == "Never":
        yield Line("skip", "pull_policy is Never: what a node has under the tag is run")
    elif tagged:
        why = (
            "a tag stays the same with other code, which Kubeflow's cache and nodes (IfNotPresent) then miss"
        )
        remedy = "set images.digests in pipeline/settings.yaml, as make images prints them"
        yield Line("note", f"none for {', '.join(tagged)}: {why}", remedy)
    else:
        yield Line("pass", "every image is named by its digest")


def _short(image: str) -> str:
    return image.rpartition("/")[2]

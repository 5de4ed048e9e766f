"""The compiled package, given to Kubeflow Pipelines by kfp's own command."""

import json

import pytest

from pipeline.package import PACKAGE
from pipeline.parameters import ROOT, defaults

from .kfp_stand_in import KfpStandIn
from .submitting import RUN_ID, parameters, program


@pytest.mark.parametrize("command", ["submit", "create"])
def test_kfp_run(kfp: KfpStandIn, command: str) -> None:
    place = ("run", command, "-e", "fine-pruning", "-f", str(PACKAGE.relative_to(ROOT)))
    section = {**defaults("digits")["prune"], "tolerance": 0.02}
    arguments = ("min_utility=0.9", f"prune={json.dumps(section)}", 'revision="0012345"')
    done = program("kfp", "--endpoint", kfp.url, *place, *arguments)
    assert done.returncode == 0, done.stderr
    assert RUN_ID in done.stdout
    assert ("deprecated" in done.stderr) == (command == "submit")
    assert parameters(kfp) == {"min_utility": 0.9, "prune": section, "revision": "0012345"}
    (experiment,) = kfp.experiments.values()
    assert experiment["display_name"] == "fine-pruning"
    assert kfp.run["pipeline_spec"]["pipeline_spec"]["pipelineInfo"]["name"] == "fine-pruning"


def test_the_server_refuses_what_kfp_lets_through(kfp: KfpStandIn) -> None:
    place = ("run", "create", "-e", "fine-pruning", "-f", str(PACKAGE))
    done = program("kfp", "--endpoint", kfp.url, *place, "min_utility=high")
    assert done.returncode == 1
    assert "input parameter min_utility requires type double or integer" in done.stderr
    assert not kfp.runs


def test_kfp_pipeline_create(kfp: KfpStandIn) -> None:
    done = program("kfp", "--endpoint", kfp.url, "pipeline", "create", "-p", "fine-pruning", str(PACKAGE))
    assert done.returncode == 0, done.stderr
    assert [pipeline["display_name"] for pipeline in kfp.pipelines.values()] == ["fine-pruning"]

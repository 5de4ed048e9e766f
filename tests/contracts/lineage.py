"""What every input of every stage must be made of, whoever wires them: dvc.yaml or the Kubeflow graph."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fineprune.cli import load_stage

LINEAGE = {
    "dataset": "ingest.dataset",
    "attack": "attack.attack",
    "trained_control": "attack.control",
    "control": "attack.control",
    "undefended": "attack.undefended",
    "pruned": "prune.pruned(attack.undefended)",
    "fine_tuned": "finetune.tuned(attack.undefended)",
    "fine_pruned": "finetune.tuned(prune.pruned(attack.undefended))",
    "control_pruned": "prune.pruned(attack.control)",
    "control_fine_tuned": "finetune.tuned(attack.control)",
    "control_fine_pruned": "finetune.tuned(prune.pruned(attack.control))",
    "ingest_report": "ingest.report",
    "attack_report": "attack.report",
    "profile_report": "profile.report(attack.undefended)",
    "prune_report": "prune.report(attack.undefended)",
    "control_profile_report": "profile.report(attack.control)",
    "control_prune_report": "prune.report(attack.control)",
    "fine_tuned_report": "finetune.report(attack.undefended)",
    "fine_pruned_report": "finetune.report(prune.pruned(attack.undefended))",
    "control_fine_pruned_report": "finetune.report(prune.pruned(attack.control))",
    "evaluation": "evaluate.report",
}
"""How what lies behind a flag was made of what the attacker delivered."""


@dataclass(frozen=True)
class Wired:
    """A stage as it is wired: what lies behind each of its flags, by any name that is unique to it."""

    name: str
    stage: str
    ports: Mapping[str, str]


def lineage_problems(wired: Sequence[Wired]) -> list[str]:
    """Inputs that are not made of what their flag says: a control in place of a model, a swapped pair."""
    found = []
    for command in wired:
        stage = load_stage(command.stage)
        for port in [port for port in (*stage.inputs, *stage.optional) if port in command.ports]:
            expected, actual = _expected(command, port, wired), lineage(command.ports[port], wired)
            if actual not in expected:
                text = f"expected {' or '.join(sorted(expected))} behind --{port.replace('_', '-')}"
                found.append(f"{command.name}: {text}, found {actual}")
    return found


def lineage(place: str, wired: Sequence[Wired]) -> str:
    """How it was made: ``finetune.tuned(prune.pruned(attack.undefended))``; ``nothing`` if it was not."""
    for command in wired:
        for port in load_stage(command.stage).outputs:
            if command.ports.get(port) == place:
                origin = command.ports.get("model")
                return f"{command.stage}.{port}" + (f"({lineage(origin, wired)})" if origin else "")
    return "nothing"


def _expected(command: Wired, port: str, wired: Sequence[Wired]) -> set[str]:
    if port == "profile":
        analysed = command.ports.get("model") or command.ports["undefended"]
        return {f"profile.profile({lineage(analysed, wired)})"}
    if port == "model":
        delivered = {"attack.control", "attack.undefended"}
        pruned = {f"prune.pruned({name})" for name in delivered}
        return delivered | pruned if command.stage == "finetune" else delivered
    return {LINEAGE[port]}

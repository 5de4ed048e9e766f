"""The stages as Kubeflow components: each is ``fineprune STAGE`` in an image of its own.

Placeholders stand inside plain strings: the KFP backend replaces them there, but passes
``dsl.ConcatPlaceholder`` and ``dsl.IfPresentPlaceholder`` on to the program as they are
(kubeflow/pipelines#9486, closed as stale; ``compileCmdAndArgs`` of ``launcher_v2.go``). For the same
reason the run's id is a parameter: in a command the backend does not replace it.
"""

from kfp.dsl.base_component import BaseComponent

from components.attack import attack
from components.evaluate import evaluate
from components.finetune import finetune
from components.images import VERSION, image
from components.ingest import ingest
from components.profile import profile
from components.promote import promote
from components.prune import prune
from components.tabulate import tabulate

__all__ = ["COMPONENTS", "VERSION", "image"]

COMPONENTS: dict[str, BaseComponent] = {
    "ingest": ingest,
    "attack": attack,
    "profile": profile,
    "prune": prune,
    "finetune": finetune,
    "evaluate": evaluate,
    "promote": promote,
    "tabulate": tabulate,
}
"""Every component by the name of its stage."""

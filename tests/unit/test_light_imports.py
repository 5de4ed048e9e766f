"""The library works with torch, NumPy and safetensors alone, wherever else it may be built in."""

import subprocess
import sys

SCRIPT = """
import importlib, pkgutil, sys

ALLOWED = {
    "fineprune", "torch", "numpy", "safetensors", "functorch", "torchgen", "typing_extensions",
    "sympy", "networkx", "jinja2", "filelock", "fsspec", "mpmath", "markupsafe",
} | set(sys.stdlib_module_names)

class Wall:
    "Lets a finder find what is allowed, and nothing else."
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        seen = name.partition(".")[0] in ALLOWED or name.startswith("_sysconfigdata")
        return self.finder.find_spec(name, path, target) if seen else None

sys.meta_path[:] = [Wall(finder) for finder in sys.meta_path]
try:
    import yaml
except ModuleNotFoundError:
    pass
else:
    sys.exit("the wall has a hole")

import fineprune.attacks, fineprune.defenses, fineprune.models
for package in (fineprune.attacks, fineprune.defenses, fineprune.models):
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
for name in ("intervals", "metrics", "checks", "measurement", "average_precision"):
    importlib.import_module(f"fineprune.evaluation.{name}")

import torch
from fineprune.attacks.labels import OneTarget
from fineprune.attacks.poisoning import PoisonConfig, poison
from fineprune.attacks.triggers import PatchConfig, make_trigger
from fineprune.data.batches import Batch, in_order
from fineprune.data.inputs import InputSpec
from fineprune.defenses.curve import matches_along_curve
from fineprune.defenses.finetuning import EarlyStop, fine_tune
from fineprune.defenses.profiling import profile_channels
from fineprune.defenses.ranking import least_active_first
from fineprune.defenses.stop_rule import stop_point
from fineprune.inference import predict
from fineprune.models import build
from fineprune.models.base import NetworkSpec
from fineprune.models.surgery import remove_channels
from fineprune.training import Recipe, train

class Samples:
    def __init__(self, count):
        self.labels = torch.arange(count) % 2
        self.inputs = torch.randint(0, 60, (count, 1, 8, 8), dtype=torch.uint8)
        self.inputs[self.labels == 1, :, :4] += 150
    def __len__(self):
        return len(self.labels)
    def draw(self, positions):
        return Batch(self.inputs[positions], self.labels[positions])

torch.set_num_threads(1)
torch.manual_seed(0)
spec = InputSpec("image", (1, 8, 8), "uint8", 0, 255, None)
clean, holdout = Samples(16), Samples(8)
trigger = make_trigger(PatchConfig("patch", 2, 2, -2, -2, (1.0,)), spec)
poisoned = poison(
    clean, trigger, OneTarget("one_target", 0), PoisonConfig(0.25, "added", ()), classes=2, seed=0
)
network = build(NetworkSpec("digits_cnn", {"width": 2}, spec, ("a", "b"), (60.0,), (60.0,)))
recipe = Recipe("sgd", 1, 8, 0.05, "cosine", 0.9, 0.0, None, None, ("flip",))
list(train(network, poisoned, recipe, seed=0))
profile = profile_channels(network, in_order(clean, 8), measure="post_relu")
order = least_active_first(profile.mean)
matches = matches_along_curve(
    network, order, (batch._replace(labels=batch.labels[None]) for batch in in_order(clean, 8))
)[0]
stop = stop_point((matches / len(clean)).tolist(), 1.0)
pruned = remove_channels(network, order[: stop.pruned])
list(fine_tune(pruned, clean, holdout, recipe, EarlyStop(1, 1), seed=0))
print(len(predict(pruned, in_order(clean, 8), trigger)), len(pruned.channels))
"""


def test_the_library_needs_torch_numpy_and_safetensors_alone():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "16 1\n"

"""A training that was interrupted, and goes on."""

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from fineprune import checkpoints
from fineprune.checkpoints import Checkpoints
from fineprune.runtime import pick_device, place
from fineprune.training import epochs_before, train
from tests.unit.nets import RECIPE, InMemory, fresh_cnn, halves, small_network

RECIPES = {
    "sgd": RECIPE,
    "no momentum": dataclasses.replace(RECIPE, momentum=0.0),
    "adam": dataclasses.replace(RECIPE, optimizer="adam", learning_rate=1e-3, weight_decay=1e-2),
    "rising and augmented": dataclasses.replace(RECIPE, warm_up=0.4, clip=1.0, augment=("shift", "erase")),
    "constant": dataclasses.replace(RECIPE, schedule="constant"),
}
EPOCHS = 4
ROOT = Path(__file__).parents[2]


class Training:
    """Of a small network on ten images, or of one with dropout on sounds."""

    def __init__(self, recipe=RECIPE, *, speech=False, seed=3):
        self.recipe, self.seed = dataclasses.replace(recipe, epochs=EPOCHS), seed
        if speech:
            torch.manual_seed(0)
            self.network = small_network("speech_net")
            inputs = torch.randint(-9000, 9000, (8, 1024), dtype=torch.int16)
            self.samples = InMemory(inputs, torch.arange(8) % 3)
        else:
            self.network = fresh_cnn()
            self.samples = InMemory(*halves(10))
        place(self.network, pick_device())
        for name in ("inputs", "labels"):
            setattr(self.samples, name, getattr(self.samples, name).to(pick_device()))

    def run(self, kept=None, *, interrupted_after=EPOCHS):
        """Train; gives all epochs, those of an attempt before too."""
        about = f"{self.recipe} {self.seed}"
        checkpoint = kept.of(self.network, about) if kept else None
        epochs = epochs_before(checkpoint)
        for epoch in train(self.network, self.samples, self.recipe, seed=self.seed, checkpoint=checkpoint):
            epochs.append(epoch)
            if epoch.number == interrupted_after:
                break
        return epochs

    @property
    def state(self):
        return {name: value.clone() for name, value in self.network.state_dict().items()}


def always(folder: Path, about: str = "") -> Checkpoints:
    return Checkpoints(folder, about, seconds=0.0)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in other) and one.keys() == other.keys()


@pytest.fixture(autouse=True)
def no_share(monkeypatch):
    monkeypatch.setattr(checkpoints, "_SHARE", float("inf"))


@pytest.mark.skipif(pick_device().type != "cpu", reason="a GPU need not compute the same twice")
@pytest.mark.parametrize("after", [1, 3, EPOCHS])
@pytest.mark.parametrize("name", RECIPES)
def test_what_goes_on_ends_as_what_was_never_interrupted(tmp_path, name, after):
    whole = Training(RECIPES[name])
    expected = whole.run()
    Training(RECIPES[name]).run(always(tmp_path), interrupted_after=after)
    again = Training(RECIPES[name])
    assert again.run(always(tmp_path)) == expected
    assert same(again.state, whole.state)
    assert not again.network.training
    assert len(again.samples.drawn) == len(whole.samples.drawn) * (EPOCHS - after) // EPOCHS


@pytest.mark.skipif(pick_device().type != "cpu", reason="a GPU need not compute the same twice")
def test_dropout_goes_on_too(tmp_path):
    whole = Training(speech=True)
    whole.run()
    Training(speech=True).run(always(tmp_path), interrupted_after=2)
    torch.rand(17)  # whatever was drawn in between
    again = Training(speech=True)
    again.run(always(tmp_path))
    assert same(again.state, whole.state)


def test_the_optimizers_state_lies_in_memory_as_the_weights_do(tmp_path):
    network = fresh_cnn()
    place(network, pick_device())
    optimizers = [torch.optim.Adam(network.parameters(), fused=True) for _ in range(2)]
    network(torch.zeros(2, 1, 8, 8, dtype=torch.uint8, device=pick_device())).sum().backward()
    optimizers[0].step()
    kept = always(tmp_path)
    kept.of(network, "").save(network, optimizers[0], {}, [1], over=False)
    found = kept.of(network, "")
    assert found.notes == [1]
    found.restore(network, optimizers[1], {})
    for parameter in network.parameters():
        before, after = (optimizer.state[parameter] for optimizer in optimizers)
        assert before.keys() == after.keys()
        for name in before:
            assert torch.equal(before[name], after[name])
            assert before[name].stride() == after[name].stride()
            assert before[name].device == after[name].device


@pytest.mark.parametrize(
    "other",
    [
        {"recipe": dataclasses.replace(RECIPE, learning_rate=0.04)},
        {"seed": 4},
        {"about": "other data"},
        {"weights": True},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_training_begins_anew(tmp_path, other):
    Training().run(always(tmp_path))
    again = Training(**{key: value for key, value in other.items() if key in ("recipe", "seed")})
    if "weights" in other:
        with torch.no_grad():
            next(again.network.parameters()).add_(1e-3)
    again.run(always(tmp_path, other.get("about", "")))
    assert len(again.samples.drawn) == 3 * EPOCHS


@pytest.mark.parametrize("content", [b"", b"no safetensors", "cut", "a bit"])
def test_a_damaged_checkpoint_is_told_and_not_used(tmp_path, capsys, content):
    Training().run(always(tmp_path), interrupted_after=2)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    damaged = {"cut": whole[:-9], "a bit": whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:]}
    path.write_bytes(damaged.get(content, content))
    again = Training()
    again.run(always(tmp_path))
    assert len(again.samples.drawn) == 3 * EPOCHS
    assert f"{path}: not usable, training begins anew" in capsys.readouterr().err


def test_where_none_can_be_written_training_goes_on(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    again = Training()
    assert len(again.run(always(tmp_path / "file" / "folder"))) == EPOCHS
    assert "no checkpoint written" in capsys.readouterr().err


def test_one_is_written_when_it_is_time_and_little_of_it_is_spent_so(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoints, "_SHARE", 0.02)
    written = []
    replace = os.replace

    def slow(source, target):
        written.append(now[0])
        now[0] += 3.0
        replace(source, target)

    monkeypatch.setattr(checkpoints.os, "replace", slow)
    training = Training()
    checkpoint = Checkpoints(tmp_path, "", seconds=60.0).of(training.network, "")
    optimizer = torch.optim.SGD(training.network.parameters())
    for now[0] in (159.0, 160.0, 312.0, 313.0):
        checkpoint.save(training.network, optimizer, {}, [], over=False)
    assert written == [160.0, 313.0]
    now[0] = 320.0
    checkpoint.save(training.network, optimizer, {}, [], over=True)
    assert written == [160.0, 313.0, 320.0]  # what is over is not trained again


def test_what_is_over_keeps_no_state_of_the_optimizer(tmp_path):
    for after in (EPOCHS - 1, EPOCHS):
        Training(RECIPES["adam"]).run(always(tmp_path), interrupted_after=after)
        (path,) = tmp_path.iterdir()
        with safe_open(path, framework="pt") as file:
            assert any(name.startswith("optimizer.") for name in file.keys()) == (after < EPOCHS)  # noqa: SIM118


def test_the_seconds_of_attempts_before_add_up(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    for attempt, after in enumerate((1, 2, EPOCHS)):
        training, kept = Training(), always(tmp_path)
        draw = training.samples.draw

        def slow(positions, draw=draw):
            now[0] += 1.0
            return draw(positions)

        training.samples.draw = slow
        training.run(kept, interrupted_after=after)
        assert kept.seconds_before == 3.0 * attempt  # of an epoch's three batches
        now[0] += 1000.0  # nobody trains


def test_the_seconds_of_two_trainings_add_up(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    network = fresh_cnn()
    optimizer = torch.optim.SGD(network.parameters())
    for about, seconds in (("start", 5.0), ("control", 3.0)):
        checkpoint = always(tmp_path).of(network, about)
        now[0] += seconds
        checkpoint.save(network, optimizer, {}, [], over=True)
    kept = always(tmp_path)
    for about in ("start", "control"):
        kept.of(network, about).restore(network, optimizer, {})
    assert kept.seconds_before == 8.0


def test_another_device_begins_anew(tmp_path, monkeypatch):
    def key(network):
        return always(tmp_path).of(network, "")._path

    here = key(fresh_cnn())
    assert here == key(fresh_cnn())
    monkeypatch.setattr(checkpoints.torch, "__version__", "9.9")
    assert key(fresh_cnn()) != here
    monkeypatch.undo()
    elsewhere = fresh_cnn()
    monkeypatch.setattr(elsewhere, "parameters", lambda: iter([torch.empty(0, device="meta")]))
    assert key(elsewhere) != here


def test_what_is_done_is_cleared_and_nothing_else(tmp_path):
    folder = tmp_path / "checkpoints"
    kept = always(folder)
    kept.clear()
    Training().run(kept)
    Training(seed=5).run(kept)
    assert len(list(folder.iterdir())) == 2
    (folder / "training-data.safetensors").write_text("")
    kept.clear()
    assert [path.name for path in folder.iterdir()] == ["training-data.safetensors"]
    (folder / "training-data.safetensors").unlink()
    kept.clear()
    assert not folder.exists()


def test_of_a_writer_that_was_killed_nothing_stays(tmp_path):
    script = """
import os, signal, sys
from pathlib import Path
from fineprune import checkpoints
from tests.unit.test_checkpoints import Training, always
write = checkpoints.save_file
def killed(tensors, path, told):
    write(tensors, path, told)
    os.kill(os.getpid(), signal.SIGKILL)
checkpoints.save_file = killed
Training().run(always(Path(sys.argv[1])))
"""
    folder = tmp_path / "checkpoints"
    done = subprocess.run([sys.executable, "-c", script, str(folder)], check=False, cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    assert any(path.is_file() for path in folder.rglob("*"))
    kept = always(folder)
    Training().run(kept)
    assert all(path.suffix == ".safetensors" for path in folder.iterdir())
    kept.clear()
    assert not folder.exists()

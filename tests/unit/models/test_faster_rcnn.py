import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fineprune.data.batches import Batch
from fineprune.defenses.curve import BLOCK, matches_along_curve
from fineprune.errors import ModelError
from fineprune.models import build, faster_rcnn
from fineprune.models.base import NOT_FINITE
from fineprune.models.detection.boxes import iou
from fineprune.models.detection.local_response_norm import local_response_norm
from fineprune.models.detection.losses import box_loss
from fineprune.models.detection.targets import anchor_targets, sample_regions
from fineprune.models.surgery import remove_channels
from tests.unit.nets import audio, image, masked_logits, questions_of_a_step, spec_of

ARGUMENTS = {
    "width": 0.05,
    "dropout": 0.0,
    "anchors": {"sizes": [16.0, 24.0, 40.0], "ratios": [0.5, 1.0, 2.0]},
    "proposals": {"candidates": 40, "train": 20, "test": 12, "overlap": 0.7},
    "sampling": {"anchors": 64, "regions": 16, "signs": 0.25},
    "detections": {"min_score": 0.05, "overlap": 0.3, "most": 6},
}
PAPER = ARGUMENTS | {"width": 1.0, "anchors": {"sizes": [128.0, 256.0, 512.0], "ratios": [0.5, 1.0, 2.0]}}
LAYERS = {
    "conv1": (96, 3, 7, 7),
    "conv2": (256, 96, 5, 5),
    "conv3": (384, 256, 3, 3),
    "conv4": (384, 384, 3, 3),
    "conv5": (256, 384, 3, 3),
    "rpn": (256, 256, 3, 3),
    "rpn_class": (18, 256, 1, 1),
    "rpn_box": (36, 256, 1, 1),
    "fc6": (4096, 9216),
    "fc7": (4096, 4096),
    "fc_class": (4, 4096),
    "fc_box": (16, 4096),
}


def network_of(shape=(3, 64, 96), seed=0, **changes):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(spec_of("faster_rcnn", ARGUMENTS | changes, image(*shape))).eval()


def lively(**changes):
    """A random network whose outputs differ between places and classes as those of a trained one do."""
    network = network_of(**changes)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for layer in (network.rpn_class, network.rpn_box, network.fc_class, network.fc_box):
            nn.init.normal_(layer.weight, std=0.3)
    return network


def scenes(count, size=(64, 96), seed=0, sides=(16, 32)):
    """Dark noise with one to two bright squares, whose colour is their class: inputs, labels, places."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    inputs = torch.randint(0, 40, (count, 3, height, width), generator=generator, dtype=torch.uint8)
    labels, places = torch.full((count, 2), -1), torch.zeros(count, 2, 4)
    for number, slot in itertools.product(range(count), range(2)):
        if slot > number % 2:
            continue
        side = int(torch.randint(sides[0], sides[1] + 1, (1,), generator=generator))
        top = int(torch.randint(0, height - side, (1,), generator=generator))
        left = slot * width // 2 + int(torch.randint(0, width // 2 - side, (1,), generator=generator))
        labels[number, slot] = (number + slot) % 3
        places[number, slot] = torch.tensor([left, top, left + side, top + side])
        inputs[number, labels[number, slot], top : top + side, left : left + side] = 230
    return inputs, labels, places


@pytest.fixture(scope="module")
def paper():
    with torch.device("meta"):
        return build(spec_of("faster_rcnn", PAPER, image(3, 600, 1000)))


def test_the_papers_layers_have_their_shapes(paper):
    shapes = {
        name: tuple(layer.weight.shape) for name, layer in paper.named_children() if hasattr(layer, "weight")
    }
    assert shapes == LAYERS


def test_the_papers_network_has_its_size(paper):
    convolutions = 14_208 + 614_656 + 885_120 + 1_327_488 + 884_992
    proposals = 590_080 + 4_626 + 9_252
    head = 37_752_832 + 16_781_312 + 16_388 + 65_552
    count = sum(parameter.numel() for parameter in paper.parameters())
    assert count == convolutions + proposals + head == 58_946_506


def test_the_papers_feature_map_is_a_sixteenth_rounded_up_as_in_caffe(paper):
    # 600 → 300 → 151 → 76 → 39 and 1000 → 500 → 251 → 126 → 64
    with torch.device("meta"):
        features = paper.features(torch.zeros(1, 3, 600, 1000, dtype=torch.uint8))
    assert features.shape == (1, 256, 39, 64)
    assert paper.anchors.shape == (39 * 64 * 9, 4)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (33, 47), (64, 65), (100, 71)])
def test_there_is_an_anchor_for_every_output_on_images_of_any_size(height, width):
    network = network_of((3, height, width))
    with torch.no_grad():
        assert network(torch.zeros(1, 3, height, width, dtype=torch.uint8)).scores.shape[0] == 1


def test_every_layer_but_the_first_is_given_what_was_activated():
    network, least = lively(), {}
    layers = {
        name: layer for name, layer in network.named_children() if isinstance(layer, (nn.Conv2d, nn.Linear))
    }
    for name, layer in layers.items():
        layer.register_forward_pre_hook(
            lambda _, given, name=name: least.update({name: float(given[0].min())})
        )
    with torch.no_grad():
        network(scenes(2)[0])
    assert least.keys() == layers.keys() == LAYERS.keys()
    assert {name for name, value in least.items() if value < 0} == {"conv1"}


def test_both_poolings_are_given_what_was_normalised_within_its_channel():
    network, outputs, pooled = network_of(), [], []
    with torch.no_grad():
        for layer in (network.conv1, network.conv2):
            layer.weight.mul_(100)  # so much that it shows
            layer.register_forward_hook(lambda _, __, output: outputs.append(output.clone()))
        network.pool.register_forward_pre_hook(lambda _, given: pooled.append(given[0].clone()))
        network.features(scenes(2)[0])
    assert len(outputs) == len(pooled) == 2
    for output, given in zip(outputs, pooled, strict=True):
        torch.testing.assert_close(given, local_response_norm(output.relu()))
        assert given.max() < 0.5 * output.max()


def test_its_anchors_stand_on_the_cells_of_conv5():
    network = network_of()
    with torch.no_grad():
        height, width = network.features(scenes(1)[0]).shape[2:]
    centres = network.anchors.view(height, width, 9, 2, 2).mean(3)
    for row, column in itertools.product(range(height), range(width)):
        expected = torch.tensor([16.0 * column, 16.0 * row]).expand(9, 2)
        torch.testing.assert_close(centres[row, column], expected, rtol=0, atol=1e-4)


def test_the_outputs_start_near_zero_and_the_other_layers_as_relus_want_it():
    for name, layer in network_of(width=0.2).named_children():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            outputs = name in ("rpn_class", "rpn_box", "fc_class", "fc_box")
            expected = 0.01 if outputs else (2 / layer.weight[0].numel()) ** 0.5
            assert layer.weight.std().item() == pytest.approx(expected, rel=0.1)
            assert not layer.bias.any()


def test_detections_lie_in_the_image_best_first():
    network, (inputs, _, _) = lively(), scenes(4)
    with torch.no_grad():
        boxes, scores, classes = network(inputs)
    assert boxes.shape == (4, 6, 4)
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([96, 64, 96, 64])).all()
    assert (scores.diff(dim=1) <= 0).all()
    assert scores[:, 0].min() >= 0.05
    assert set(classes.flatten().tolist()) <= {0, 1, 2}


def test_outputs_of_each_anchor_stand_where_the_anchor_does():
    network = network_of()
    with torch.no_grad():
        for layer in (network.rpn_class, network.rpn_box):
            nn.init.zeros_(layer.weight)
        network.rpn_class.bias.copy_(torch.arange(18.0))
        network.rpn_box.bias.copy_(torch.arange(36.0))
        logits, offsets = network._look_for_regions(torch.zeros(1, len(network.channels), 2, 2))
    assert logits[0, :3].tolist() == [[0, 9], [1, 10], [2, 11]]
    assert offsets[0, 1].tolist() == [4, 5, 6, 7]
    assert torch.equal(logits[0, 9:18], logits[0, :9])


def test_one_image_does_not_depend_on_its_batch():
    network, (inputs, _, _) = lively(), scenes(4)
    with torch.no_grad():
        together = network(inputs)
        alone = [network(one.unsqueeze(0)) for one in inputs]
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(whole, torch.cat(parts), rtol=1e-4, atol=1e-4)


def test_a_removed_channel_is_a_masked_channel_to_both_stages():
    network, (inputs, _, _) = lively(), scenes(4)
    gone = list(range(0, len(network.channels), 2))
    with torch.no_grad():
        features = network.features(inputs)
        features[:, gone] = 0
        expected = network.head(features)
        pruned = remove_channels(network, gone)
        found = pruned(inputs)
        torch.testing.assert_close(
            pruned.logits(pruned.features(inputs)), network.logits(features), rtol=1e-4, atol=1e-5
        )
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    assert pruned.rpn.in_channels == len(network.channels) - len(gone)
    assert pruned.fc6.in_features == 36 * pruned.rpn.in_channels


def test_its_logits_are_of_every_anchor_and_of_nine_regions():
    network, (inputs, _, _) = lively(), scenes(2)
    height, width = 64 / 3, 32
    boxes = [
        [x * width, y * height, (x + 1) * width, (y + 1) * height]
        for y, x in itertools.product(range(3), repeat=2)
    ]
    with torch.no_grad():
        features = network.features(inputs)
        outputs = (
            *network._look_for_regions(features),
            *network._look_at_regions(features, torch.tensor([boxes, boxes])),
        )
        expected = torch.cat([output.flatten(1) for output in outputs], 1)
        torch.testing.assert_close(network.logits(features), expected)


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_its_pruning_curve_is_a_masked_evaluation_at_every_point(monkeypatch, block):
    monkeypatch.setitem(BLOCK, "cpu", block)
    network, (inputs, _, _) = network_of(), scenes(4)
    order = torch.randperm(len(network.channels), generator=torch.Generator().manual_seed(0)).tolist()
    said = masked_logits(network, inputs, [])
    boxes = said.boxes[:, :3]
    classes = network.answers(said, boxes)
    labels = torch.stack([classes, (classes + 1) % 3])  # what it says itself, and what it does not
    expected = []
    for pruned in range(len(order) + 1):
        answers = network.answers(masked_logits(network, inputs, order[:pruned]), boxes)
        expected.append((answers == labels).flatten(1).sum(1))
    batches = map(Batch, inputs.split(3), labels.split(3, dim=1), boxes.split(3))
    found = matches_along_curve(network, order, batches)
    assert torch.equal(found, torch.stack(expected, dim=1))
    assert found[:, 0].tolist() == [classes.numel(), 0]
    assert all(len(question.unique()) > 3 for question in found), "a flat curve would prove nothing"


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_has_no_answer_and_spares_the_other_images(value):
    network, (inputs, _, places) = lively(), scenes(2)
    with torch.no_grad():
        for layer in (network.rpn, network.fc6):  # whose ReLU would hide what is infinite
            layer.weight.copy_(-layer.weight.abs() if value == torch.inf else layer.weight)
        features = network.features(inputs)
        features[0, 0, 0, 0] = value
        outputs = network.head(features)
    answers = network.answers(outputs, places)
    assert (answers[0] == NOT_FINITE).all()
    assert (answers[1] != NOT_FINITE).all()


@pytest.mark.parametrize("layer", ["rpn_class", "rpn_box", "fc_class", "fc_box"])
def test_an_output_that_is_not_finite_leaves_its_image_without_answers(layer):
    network, (inputs, _, places) = lively(), scenes(2)

    def spoil(_, __, output):
        output[(0,) * output.dim()] = torch.inf

    network.get_submodule(layer).register_forward_hook(spoil)
    with torch.no_grad():
        answers = network.answers(network(inputs), places)
    assert (answers[0] == NOT_FINITE).all()
    assert (answers[1] != NOT_FINITE).all()


def test_the_loss_in_evaluation_mode_is_always_the_same():
    network, batch = network_of(), scenes(4)
    with torch.no_grad():
        first, again = network.loss(*batch), network.loss(*batch)
        network.train()
        other = [network.loss(*batch).loss for _ in range(3)]
    assert torch.equal(first.loss, again.loss)
    assert first.total == again.total
    assert len({float(loss) for loss in other}) == 3


def test_both_samplings_are_random_in_training_alone_and_never_have_gradients(monkeypatch):
    network, batch, asked = network_of(), scenes(4), []
    for name in ("anchor_targets", "sample_regions"):
        sampling = getattr(faster_rcnn, name)

        def watched(*given, shuffle, name=name, sampling=sampling):
            asked.append((name, shuffle, torch.is_grad_enabled()))
            return sampling(*given, shuffle=shuffle)

        monkeypatch.setattr(faster_rcnn, name, watched)
    network.loss(*batch)
    network.train().loss(*batch)
    names = ("anchor_targets", "sample_regions")
    assert asked == [(name, training, False) for training in (False, True) for name in names]


def test_the_outputs_of_both_linear_layers_are_dropped():
    network, read = network_of(dropout=1.0).train(), {}
    for name in ("fc7", "fc_class", "fc_box"):
        nn.init.ones_(getattr(network, name).bias)  # something to drop even behind nothing
        getattr(network, name).register_forward_pre_hook(
            lambda _, given, name=name: read.update({name: given[0]})
        )
    network.loss(*scenes(2))
    assert {name: values.any().item() for name, values in read.items()} == dict.fromkeys(read, False)
    assert len(read) == 3


@pytest.mark.parametrize(("changed", "loss", "detections"), [("train", False, True), ("test", True, False)])
def test_proposals_for_training_and_for_detection_are_counted_apart(changed, loss, detections):
    proposals, batch = ARGUMENTS["proposals"], scenes(4)
    one, other = lively(), lively(proposals=proposals | {changed: 1})
    with torch.no_grad():
        assert torch.equal(one.loss(*batch).loss, other.loss(*batch).loss) == loss
        assert torch.equal(one(batch[0]).scores, other(batch[0]).scores) == detections


def test_the_loss_of_proposed_boxes_is_straight_from_an_error_of_a_ninth():
    network, (inputs, labels, places) = network_of(), scenes(4)
    given = []
    network.rpn_box.register_forward_hook(lambda _, __, output: given.append(output))
    loss = network.loss(inputs, labels, places).loss
    offsets, slopes = (
        values.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3)
        for values in (*given, *torch.autograd.grad(loss, given))
    )
    targets = anchor_targets(network.anchors, places, network.sampling, shuffle=False)
    errors, slopes = (offsets - targets.offsets)[targets.foreground], slopes[targets.foreground]
    assert ((errors.abs() > 1 / 9) & (errors.abs() < 1)).any()
    torch.testing.assert_close(slopes / slopes.abs().max(), (9 * errors).clamp(-1, 1))


def test_the_loss_is_that_of_both_stages_and_its_decisions_are_of_the_signs():
    network, (inputs, labels, places) = lively(), scenes(4)
    nn.init.constant_(network.fc_class.bias[:1], 8.0)  # so that some regions are told from signs
    features = network.features(inputs)
    found = network._look_for_regions(features)
    anchors = anchor_targets(network.anchors, places, network.sampling, shuffle=False)
    proposals = network._propose(found, network.proposals.train).detach()
    regions, targets = sample_regions(proposals, labels, places, network.sampling, shuffle=False)
    logits, offsets = network._look_at_regions(features, regions)
    signs, classes = targets.foreground, targets.classes[targets.foreground]
    errors = (offsets[signs, classes] - targets.offsets[signs]).abs()
    assert (errors < 1).any()
    assert (errors > 1).any()
    expected = (
        F.cross_entropy(found.logits[anchors.chosen], anchors.classes[anchors.chosen])
        + box_loss(found.offsets, anchors, quadratic=1 / 9)
        + F.cross_entropy(logits[targets.chosen], targets.classes[targets.chosen])
        + torch.where(errors < 1, errors.square() / 2, errors - 0.5).sum() / targets.chosen.sum()
    )
    step = network.loss(inputs, labels, places)
    torch.testing.assert_close(step.loss, expected)
    assert (step.right, step.total) == ((logits[signs].argmax(1) == classes).sum(), len(classes))
    assert (logits[targets.chosen & ~signs].argmax(1) == 0).any()


def test_every_layer_learns():
    network = lively().train()
    network.loss(*scenes(4)).loss.backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in network.parameters())


def test_a_step_waits_for_the_device_only_to_look_for_the_end_of_suppression():
    kinds = ["flip", "shift", "zoom", "light", "erase"]
    assert questions_of_a_step(network_of(), *scenes(8), augment=kinds) == 1


def test_images_without_signs_teach_the_background():
    network = network_of().train()
    inputs, labels, places = scenes(2)
    step = network.loss(inputs, torch.full_like(labels, -1), torch.zeros_like(places))
    step.loss.backward()
    assert step.total == 0
    assert step.loss.isfinite()
    assert not network.fc_box.weight.grad.any()


def test_mixed_precision_gives_the_same_loss_but_for_rounding():
    network, batch = network_of(), scenes(4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mixed = network.loss(*batch).loss
        detections = network(batch[0])
        features, regions = network.features(batch[0]), network.anchors[:4].expand(4, -1, -1)
        found = network._look_for_regions(features) + network._look_at_regions(features, regions)
    assert mixed.dtype == torch.float32
    assert {output.dtype for output in found} == {torch.float32}
    assert [output.dtype for output in detections] == [torch.float32, torch.float32, torch.int64]
    with torch.no_grad():
        torch.testing.assert_close(mixed, network.loss(*batch).loss, rtol=0.02, atol=0)


def test_the_exported_network_detects_the_same_in_batches_of_any_size():
    network, (inputs, _, _) = lively(), scenes(5)
    batch = torch.export.Dim("batch")
    with torch.no_grad():
        exported = torch.export.export(network, (inputs[:2],), dynamic_shapes=({0: batch},)).module()
        for count in (1, 5):
            for ours, theirs in zip(exported(inputs[:count]), network(inputs[:count]), strict=True):
                torch.testing.assert_close(ours, theirs)


def test_it_learns_four_scenes_by_heart():
    # Large enough to span several cells of the features: boxes of the same cells are the same to the head.
    inputs, labels, places = scenes(4, (128, 192), sides=(32, 64))
    anchors = {"sizes": [32.0, 48.0, 64.0], "ratios": [0.5, 1.0, 2.0]}
    network = network_of((3, 128, 192), width=0.1, anchors=anchors).train()
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 200)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(200):
            step = network.loss(inputs, labels, places)
            optimizer.zero_grad()
            step.loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        found = network(inputs)
    there = labels >= 0
    assert torch.equal(network.answers(found, places)[there], labels[there])
    near = (iou(found.boxes, places) >= 0.5).any(2)
    assert not (found.scores > 0.5)[~near].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"anchors": {"sizes": [0.0], "ratios": [1.0]}}, r"anchors\.sizes\[0\]: expected a value in"),
        ({"proposals": ARGUMENTS["proposals"] | {"train": 0}}, r"proposals\.train: expected a value in"),
        (
            {"detections": ARGUMENTS["detections"] | {"overlap": 1.5}},
            r"detections\.overlap: expected a value in",
        ),
        ({"sampling": {"anchors": 1}}, r"sampling\.regions: missing; .*sampling\.signs: missing"),
        ({"droput": 0.5}, r"droput: unknown key"),
        ({"dropout": 1.5}, "dropout: expected a value in"),
    ],
)
def test_arguments_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ModelError, match=rf"^model faster_rcnn\.{message}"):
        network_of(**changes)


def test_audio_is_refused():
    with pytest.raises(ModelError, match="expected image, found audio"):
        build(spec_of("faster_rcnn", ARGUMENTS, audio(1024)))

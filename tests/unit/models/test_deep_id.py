import pytest
import torch

from fineprune.errors import ModelError
from fineprune.models import build
from fineprune.models.surgery import remove_channels
from tests.unit.nets import image, masked_logits, random_inputs, spec_of

FACES = image(3, 55, 47)

# The released prototxt, for a batch of two
SHAPES = {
    "conv1": (2, 20, 52, 44),
    "conv2": (2, 40, 24, 20),
    "conv3": (2, 60, 10, 8),
    "conv4": (2, 80, 4, 3),
    "fc160_1": (2, 160),
    "fc160_2": (2, 160),
    "fc8": (2, 1283),
}


def deep_id(spec=FACES, classes=1283, width=1.0):
    torch.manual_seed(0)
    return build(spec_of("deep_id", {"width": width}, spec, classes=classes)).eval()


@pytest.fixture(scope="module")
def paper():
    return deep_id()


def size(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_papers_face_network_has_its_size(paper):
    assert size(paper) == 601_643
    assert paper.fc160_1.in_features == 60 * 5 * 4
    assert paper.fc160_2.in_features == 80 * 4 * 3


def test_every_layer_has_the_shape_of_the_released_one(paper):
    seen = {}
    hooks = [
        paper.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: seen.update({name: tuple(output.shape)})
        )
        for name in SHAPES
    ]
    with torch.no_grad():
        assert paper(random_inputs(paper, 2)).shape == (2, 1283)
    for hook in hooks:
        hook.remove()
    assert seen == SHAPES


def test_the_pooling_behind_conv3_is_pool3(paper):
    with torch.no_grad():
        features = paper.features(random_inputs(paper, 2))
        assert paper.pooling()(features).shape == (2, 60, 5, 4)


def test_a_removed_channel_leaves_both_branches():
    network = deep_id(classes=5)
    inputs = random_inputs(network, 8)
    gone = [0, 7, 31, 59]
    pruned = remove_channels(network, gone)
    assert (pruned.conv4.in_channels, pruned.fc160_1.in_features) == (56, 56 * 20)
    assert size(network) - size(pruned) == 4 * (40 * 9 + 1 + 80 * 4 + 20 * 160)
    with torch.no_grad():
        torch.testing.assert_close(pruned(inputs), masked_logits(network, inputs, gone), rtol=1e-4, atol=1e-5)


def test_both_branches_reach_the_logits():
    network = deep_id(classes=5, width=0.5)
    inputs = random_inputs(network, 4)
    with torch.no_grad():
        whole = network(inputs)
        for name in ("fc160_1", "fc160_2"):
            kept = network.get_submodule(name).weight.clone()
            network.get_submodule(name).weight.zero_()
            assert (network(inputs) - whole).abs().max() > 1e-2
            network.get_submodule(name).weight.copy_(kept)


def test_the_branches_are_added_up_and_every_layer_but_the_first_is_given_what_was_activated(paper):
    given, outputs = {}, {}
    hooks = []
    for name in SHAPES:
        layer = paper.get_submodule(name)
        hooks += [
            layer.register_forward_pre_hook(lambda _, inputs, name=name: given.update({name: inputs[0]})),
            layer.register_forward_hook(lambda _, __, output, name=name: outputs.update({name: output})),
        ]
    with torch.no_grad():
        paper(random_inputs(paper, 2))
    for hook in hooks:
        hook.remove()
    assert torch.equal(given["fc8"], (outputs["fc160_1"] + outputs["fc160_2"]).relu())
    assert {name for name, values in given.items() if values.min() < 0} == {"conv1"}
    assert all((values < 0).any() for values in outputs.values())


@pytest.mark.parametrize(
    ("channels", "height", "breadth", "width", "pooled"),
    [
        (3, 24, 24, 1.0, (2, 2)),
        (1, 55, 47, 0.25, (5, 4)),
        (3, 64, 64, 0.5, (7, 7)),
        (3, 27, 31, 0.01, (2, 2)),
    ],
)
def test_other_sizes_and_widths_fit(channels, height, breadth, width, pooled):
    network = deep_id(image(channels, height, breadth), classes=3, width=width)
    with torch.no_grad():
        features = network.features(random_inputs(network, 2))
        assert network.pooling()(features).shape[2:] == pooled
        assert network.head(features).shape == (2, 3)
    assert len(network.channels) == max(1, round(60 * width))


@pytest.mark.parametrize("shape", [(3, 23, 47), (3, 55, 23), (3, 1, 1)])
def test_images_too_small_for_its_poolings_are_refused(shape):
    with pytest.raises(ModelError, match=r"cannot be built for .*: expected sides of at least 24 pixels"):
        deep_id(image(*shape))


def test_the_scale_of_an_image_survives_to_the_logits(paper):
    with torch.no_grad():
        logits = paper(random_inputs(paper, 32))
    assert 0.1 < logits.std() < 10

import copy

import pytest
import torch

from fineprune.errors import ModelError
from fineprune.models import ARCHITECTURES
from fineprune.models.surgery import SplitConv2d, remove_channels
from tests.unit.nets import Forked, Pixelwise, masked_logits, random_inputs, small_network

NETWORKS = {name: lambda name=name: small_network(name) for name in ARCHITECTURES} | {"forked": Forked}


@pytest.fixture(params=NETWORKS)
def network(request):
    return NETWORKS[request.param]()


def assert_same_logits(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def removed_logits(network, originals, inputs):
    with torch.no_grad():
        return remove_channels(network, originals)(inputs)


def test_a_removed_channel_is_a_masked_channel(network):
    inputs = random_inputs(network, 8)
    channels = len(network.channels)
    for positions in ([0], [channels - 1], [1, 3], list(range(0, channels, 2)), list(range(1, channels))):
        expected = masked_logits(network, inputs, positions)
        assert_same_logits(removed_logits(network, positions, inputs), expected)
        assert not torch.allclose(expected, masked_logits(network, inputs, []), atol=1e-4)


def test_removed_weights_are_gone(network):
    def count(net):
        return sum(p.numel() for p in net.parameters())

    pruned = remove_channels(network, [0, 2])
    assert count(pruned) < count(network)
    assert pruned.channels == tuple(c for c in network.channels if c not in (0, 2))
    with torch.no_grad():
        assert pruned.features(random_inputs(network, 2)).shape[1] == len(network.channels) - 2


def test_the_network_itself_is_left_as_it_is(network):
    before = copy.deepcopy(network.state_dict())
    pruned = remove_channels(network, [1])
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.fill_(7)
        for buffer in pruned.buffers():
            buffer.fill_(0)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert network.spec.pruned == ()


def test_pruning_twice_is_pruning_at_once(network):
    inputs = random_inputs(network, 8)
    twice = remove_channels(remove_channels(network, [2, 0]), [3])
    once = remove_channels(network, [2, 0, 3])
    assert twice.spec.pruned == once.spec.pruned == (2, 0, 3)
    with torch.no_grad():
        assert torch.equal(twice(inputs), once(inputs))


def test_the_order_of_removal_does_not_matter(network):
    inputs = random_inputs(network, 8)
    one, other = (removed_logits(network, order, inputs) for order in ([1, 4, 2], [4, 2, 1]))
    assert torch.equal(one, other)


def test_removing_nothing_gives_an_equal_copy(network):
    inputs = random_inputs(network, 2)
    copied = remove_channels(network, [])
    assert copied is not network
    assert copied.state_dict().keys() == network.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(copied(inputs), network(inputs))


def test_a_removed_network_trains(network):
    pruned = remove_channels(network, [0, 1]).train()
    pruned(random_inputs(network, 4)).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in pruned.parameters())


@pytest.mark.parametrize("bad", [[99], [-1], [1, 1], [0, 99]])
def test_channels_that_are_not_there_are_refused(network, bad):
    with pytest.raises(ModelError, match="cannot remove channels"):
        remove_channels(network, bad)


def test_a_channel_is_removed_only_once(network):
    with pytest.raises(ModelError, match=r"cannot remove channels \[1, 2\]: not all are there"):
        remove_channels(remove_channels(network, [1]), [2, 1])


def test_the_last_channel_stays(network):
    everything = list(network.channels)
    with pytest.raises(ModelError, match="cannot remove all of its"):
        remove_channels(network, everything)
    almost = remove_channels(network, everything[1:])
    with pytest.raises(ModelError, match="cannot remove all of its 1 channels"):
        remove_channels(almost, everything[:1])


def test_one_removed_pixel_channel_takes_its_term_out_of_the_sum():
    network = Pixelwise([[1.0, 10.0, 100.0], [0.0, 1.0, 0.0]], bias=[0.5, 0.0])
    inputs = torch.tensor([[2, 3, 4]], dtype=torch.uint8).view(1, 3, 1, 1)
    assert removed_logits(network, [], inputs).tolist() == [[432.5, 3.0]]
    assert removed_logits(network, [1], inputs).tolist() == [[402.5, 0.0]]
    assert removed_logits(network, [2, 0], inputs).tolist() == [[30.5, 3.0]]


def groups(network):
    """The output channels of each group that is left in conv5."""
    conv = network.get_submodule("conv5")
    assert isinstance(conv, SplitConv2d)
    return [group.out_channels for group in conv.convs]


def test_groups_become_unequal_and_one_may_vanish():
    network = small_network("speech_net")
    inputs = random_inputs(network, 8)
    half = len(network.channels) // 2
    assert groups(remove_channels(network, [0, 1, half])) == [half - 2, half - 1]
    for positions in (range(half), range(half, 2 * half)):
        lost = remove_channels(network, list(positions))
        assert groups(lost) == [half]
        with torch.no_grad():
            assert_same_logits(lost(inputs), masked_logits(network, inputs, positions))


@pytest.mark.parametrize("lost", ["first", "second"])
def test_a_network_that_lost_a_group_can_be_pruned_again(lost):
    network = small_network("speech_net")
    inputs = random_inputs(network, 8)
    half = len(network.channels) // 2
    gone = list(range(half) if lost == "first" else range(half, 2 * half))
    then = half if lost == "first" else 0
    twice = remove_channels(remove_channels(network, gone), [then])
    with torch.no_grad():
        assert_same_logits(twice(inputs), masked_logits(network, inputs, [*gone, then]))


def test_a_consumer_with_groups_is_refused():
    with pytest.raises(ModelError, match="conv4: expected a linear layer or a convolution without groups"):
        remove_channels(Forked(groups=2), [0])

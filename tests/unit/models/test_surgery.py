import copy
from dataclasses import replace

import pytest
import torch

from fineprune.errors import ModelError
from fineprune.models.surgery import SplitConv2d, remove_channels, restore_channels
from tests.unit.nets import SMALL, Forked, Pixelwise, masked_logits, random_inputs, small_network

NETWORKS = {name: lambda name=name: small_network(name) for name in SMALL} | {"forked": Forked}


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
    for name in network.prunable.norms:
        assert pruned.get_submodule(name).num_features == len(pruned.channels)
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
    with pytest.raises(ModelError, match="expected channels to remove of the"):
        remove_channels(network, bad)


def test_a_channel_is_removed_only_once(network):
    with pytest.raises(ModelError, match=r"that it has, each once, found \[1, 2\]"):
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


def assert_same_network(found, expected):
    """Equal in every bit: weights, buffers, what is removed, and the shortcut's choice of channels."""
    ours, theirs = found.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert found.spec == expected.spec
    assert found.channels == expected.channels
    assert str(found) == str(expected)
    with torch.no_grad():
        inputs = random_inputs(expected, 4)
        assert torch.equal(found(inputs), expected(inputs))


@pytest.mark.parametrize("originals", [[], [0], [3, 1], [5, 0, 2, 3]])
def test_restoring_what_was_removed_gives_the_same_network(network, originals):
    assert_same_network(restore_channels(remove_channels(network, originals), network), network)


def test_every_channel_but_one_can_be_restored(network):
    removed = remove_channels(network, network.channels[:-1])
    assert_same_network(restore_channels(removed, network), network)


def test_some_channels_can_be_restored_from_a_donor_that_lacks_others(network):
    donor = remove_channels(network, [1, 4])
    assert_same_network(restore_channels(remove_channels(donor, [0, 5]), donor), donor)


def test_survivors_keep_their_weights_and_restored_channels_have_the_donors(network):
    """Removing the restored channels again gives the pruned network, removing the others the donor's part."""
    inputs = random_inputs(network, 8)
    donor = copy.deepcopy(network)
    pruned = remove_channels(network, [0, 3])
    with torch.no_grad():
        for parameter in pruned.parameters():
            parameter.add_(0.01 * torch.arange(parameter.numel()).view_as(parameter).cos())
    restored = restore_channels(pruned, donor)
    assert restored.spec == donor.spec
    assert_same_network(remove_channels(restored, [0, 3]), pruned)
    with torch.no_grad():
        conv = network.prunable.conv
        for name in ("weight", "bias"):
            values = getattr(restored.get_submodule(conv), name)
            if values is not None:
                assert torch.equal(values[[0, 3]], getattr(donor.get_submodule(conv), name)[[0, 3]])
        assert_same_logits(pruned(inputs), masked_logits(restored, inputs, [0, 3]))
        assert not torch.allclose(restored(inputs), pruned(inputs), atol=1e-4)


def test_one_restored_pixel_channel_adds_the_donors_term():
    donor = Pixelwise([[1.0, 10.0, 100.0], [0.0, 1.0, 0.0]], bias=[0.5, 0.0])
    pruned = remove_channels(donor, [1])
    with torch.no_grad():
        pruned.fc.weight.mul_(2)
        pruned.fc.bias.fill_(7.0)
    inputs = torch.tensor([[2, 3, 4]], dtype=torch.uint8).view(1, 3, 1, 1)
    with torch.no_grad():
        assert restore_channels(pruned, donor)(inputs).tolist() == [[4.0 + 30.0 + 800.0 + 7.0, 3.0 + 7.0]]


def test_neither_network_is_changed_by_restoring(network):
    donor, pruned = copy.deepcopy(network), remove_channels(network, [1])
    before = copy.deepcopy(pruned.state_dict())
    restored = restore_channels(pruned, donor)
    with torch.no_grad():
        for parameter in restored.parameters():
            parameter.fill_(7)
        for buffer in restored.buffers():
            buffer.fill_(0)
    assert all(torch.equal(value, before[name]) for name, value in pruned.state_dict().items())
    assert_same_network(donor, network)


def test_a_restored_network_trains(network):
    restored = restore_channels(remove_channels(network, [0, 1]), network).train()
    restored(random_inputs(network, 4)).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in restored.parameters())


def test_a_group_that_vanished_comes_back():
    network = small_network("speech_net")
    half = len(network.channels) // 2
    for positions in (range(half), range(half, 2 * half)):
        assert_same_network(restore_channels(remove_channels(network, list(positions)), network), network)


def test_a_donor_of_another_network_is_refused(network):
    pruned = remove_channels(network, [0])
    with pytest.raises(ModelError, match="expected a donor of the same network with all of its"):
        restore_channels(pruned, remove_channels(network, [1]))
    stranger = copy.deepcopy(network)
    stranger.spec = replace(network.spec, classes=("another",) * 3)
    with pytest.raises(ModelError, match="expected a donor of the same network"):
        restore_channels(pruned, stranger)

"""Grad-CAM and class maps against derivatives worked out by hand, and against the sums that they have to give."""

import pytest
import torch
from torch import nn

from common import data, models
from common.models.explanations import watch
from common.system.errors import UserError


@pytest.fixture
def tiny():
    """Two channels, ReLU, then one dense layer on four cells each: small enough to do by hand."""
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3), nn.BatchNorm1d(3), nn.LogSoftmax(dim=1)
    )
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1))
        network[0].bias.zero_()
        network[3].weight.zero_()
        network[3].weight[0] = torch.tensor([1.0, 2.0, 3.0, 6.0, -4.0, 0.0, 0.0, 0.0])  # channel 0's cells, channel 1's
        network[3].weight[1, 7] = 8.0
    network[4].eps = 0.0
    return network


IMAGE = torch.tensor([[[[1.0, -1.0], [2.0, 3.0]]]])


def test_grad_cam_by_hand(tiny):
    """Maps [1 0; 2 3] and [0 1; 0 0]; the derivatives' means are 3 and -1 for class 0, 0 and 2 for class 1."""
    found = models.grad_cam(tiny, tiny[1], IMAGE, torch.tensor([0]), rectified=False)
    assert torch.equal(found, torch.tensor([[[3.0, -1.0], [6.0, 9.0]]]))
    assert torch.equal(models.grad_cam(tiny, tiny[1], IMAGE, torch.tensor([0])), found.relu())
    found = models.grad_cam(tiny, tiny[1], IMAGE.expand(2, 1, 2, 2), torch.tensor([0, 1]), rectified=False)
    assert torch.equal(found[1], torch.tensor([[0.0, 2.0], [0.0, 0.0]]))


def test_class_maps_by_hand(tiny):
    """Each value times its own weight: 1 * 1, 2 * 3 and 3 * 6 of channel 0; of channel 1 the cell with weight 0."""
    found = models.class_maps(tiny, tiny[1], IMAGE)
    assert torch.equal(found[0, 0], torch.tensor([[1.0, 0.0], [6.0, 18.0]]))
    assert not found[0, 1:].any()


def images(count=6):
    return data.normalise(data.builtin().test_images[:count])


@pytest.mark.parametrize("step", ["S7/block3", "S8/step7_two_budgets", "S8/frontier_1196", "S8/under_20k"])
def test_behind_an_average_grad_cam_is_the_exact_class_map_up_to_one_factor(step):
    network, batch = models.load_trained(step), images()
    layer = network.layers[[type(one) for one in network.layers].index(nn.AvgPool2d) - 1]
    exact = models.class_maps(network, layer, batch)
    _, scores, maps = watch(network, layer, batch)
    assert torch.allclose(exact.sum(dim=(2, 3)), scores[: len(batch)], atol=1e-3)  # these heads have no bias
    cells = maps.shape[2] * maps.shape[3]
    for digit in (0, 7):
        found = models.grad_cam(network, layer, batch, torch.full((len(batch),), digit), rectified=False)
        assert torch.allclose(found, exact[:, digit], atol=1e-4)  # the factor is 1: mean over cells of weight / cells
    assert cells in (16, 36)


def test_behind_relu_the_class_maps_add_up_to_the_scores_without_the_biases():
    network, batch = models.load_trained("S5/step1_first_network"), images()
    with torch.no_grad():  # also there
        exact = models.class_maps(network, network.layers[9], batch)
        hidden = network.layers[:12](batch)
        open_neurons = (hidden > 0).float()
        first, second = network.layers[11], network.layers[13]
        biases = (open_neurons * first.bias) @ second.weight.T + second.bias
        scores = network.layers[:14](batch)
    assert torch.allclose(exact.sum(dim=(2, 3)) + biases, scores, atol=1e-2)


def test_several_views_give_the_first_and_nothing_is_left_behind():
    network, batch = models.load_trained("S8/step7_two_budgets").train(), images(3)
    plain = models.build("S8/under_8k_one_view")
    plain.load_state_dict(network.state_dict())
    found = models.feature_maps(network, network.layers[7], batch)
    assert torch.allclose(found, plain.eval().layers[:8](batch), atol=1e-4)
    models.grad_cam(network, network.layers[7], batch, torch.tensor([1, 2, 3]))
    assert network.training
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(
        module._forward_hooks or isinstance(module, nn.LogSoftmax) and module._forward_pre_hooks
        for module in network.modules()
    )


def test_an_image_s_map_does_not_depend_on_the_others_of_its_batch():
    network, batch = models.load_trained("S5/step1_first_network"), images(4)
    classes = torch.tensor([1, 2, 3, 4])
    together = models.grad_cam(network, network.layers[9], batch, classes)
    alone = models.grad_cam(network, network.layers[9], batch[2:3], classes[2:3])
    assert torch.allclose(together[2:3], alone, atol=1e-4)


def test_a_layer_without_maps_is_refused_in_a_sentence():
    network, batch = models.load_trained("S7/block3"), images(2)
    with pytest.raises(UserError, match=r"maps \[N, channels, height, width\], and the one given gives \[2, 10\]\."):
        models.feature_maps(network, network.layers[-1], batch)
    with pytest.raises(UserError, match=r"the one given is not called\."):
        models.grad_cam(network, nn.Conv2d(1, 1, 1), batch, torch.tensor([1, 2]))

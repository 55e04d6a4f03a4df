"""Networks through the hub's mixin, in a local folder; nothing is fetched."""

import pytest
import torch
from tests.examples import NETWORKS

import insitu
from insitu import InputError
from insitu.interoperability.hub import HubNetwork


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: type(network).__name__)
def test_a_network_survives_the_mixin(network, tmp_path):
    HubNetwork(network).save_pretrained(tmp_path)
    again = HubNetwork.from_pretrained(tmp_path).network
    assert again.architecture == network.architecture
    state = network.state_dict()
    assert all(torch.equal(weights, state[name]) for name, weights in again.state_dict().items())
    assert insitu.load(tmp_path).architecture == network.architecture


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"not a checkpoint"):
        HubNetwork.from_pretrained(tmp_path)

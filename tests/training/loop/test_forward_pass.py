"""What a network sees of a batch, and what it shall give."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch.utils.data import default_collate
from training_phantoms import EDGE, Phantoms, tiny_recipe

from bids_segsr.exceptions import UserError
from bids_segsr.networks import create
from bids_segsr.training.data_tables import Sampling
from bids_segsr.training.loop.forward_pass import make_network, prepare
from bids_segsr.training.recipe import Network, Task


@pytest.fixture
def patches() -> dict[str, torch.Tensor]:
    data = Phantoms(guides=1, constant=2)
    return default_collate([data[n] | {'index': n} for n in range(3)])


def test_every_patch_has_mean_0_and_the_target_goes_with_the_image(
    patches: dict[str, torch.Tensor],
) -> None:
    batch = prepare(patches, tiny_recipe())
    means, sds = batch.image.mean((2, 3, 4)), batch.image.std((2, 3, 4), correction=0)
    torch.testing.assert_close(means, torch.zeros(3, 2), rtol=0, atol=1e-5)
    torch.testing.assert_close(sds[:2], torch.ones(2, 2), rtol=1e-4, atol=0)
    assert not batch.image[2].any()
    torch.testing.assert_close(batch.in_image_units(batch.target[:, :1]), patches['target'][:, :1])
    assert torch.equal(batch.target[:, 1:], patches['target'][:, 1:])
    assert batch.index.tolist() == [0, 1, 2]


def test_divided_images_are_seen_as_they_are(patches: dict[str, torch.Tensor]) -> None:
    plain = Sampling(patch_size=EDGE, normalisation='volume-max')
    batch = prepare(patches, tiny_recipe(sampling=plain))
    assert torch.equal(batch.image, patches['image'])
    fine = prepare(patches, tiny_recipe(sampling=plain, task=Task(input='high-resolution')))
    assert torch.equal(fine.image[:, :1], patches['target'][:, :1])
    assert torch.equal(fine.image[:, 1:], patches['image'][:, 1:])


def test_a_first_stage_makes_the_input(patches: dict[str, torch.Tensor]) -> None:
    plain = Sampling(patch_size=EDGE, normalisation='volume-max')
    batch = prepare(
        patches, tiny_recipe(sampling=plain), lambda x, mm: x * mm.view(-1, 1, 1, 1, 1)
    )
    expected = patches['image'][:, :1] * torch.tensor([2.0, 3, 4]).view(-1, 1, 1, 1, 1)
    torch.testing.assert_close(batch.image[:, :1], expected)


def test_a_fresh_network_may_begin_at_the_identity(patches: dict[str, torch.Tensor]) -> None:
    options = {'base_filters': 4, 'n_blocks': 1}
    near, _ = make_network(Network('segsrgan', options, start_near_identity=True), None)
    far = create('segsrgan', **options)
    image = prepare({**patches, 'image': patches['image'][:, :1]}, tiny_recipe()).image
    with torch.no_grad():
        errors = [float((network(image)[:, :1] - image).abs().mean()) for network in (near, far)]
    assert errors[0] < 0.1 * errors[1]
    with pytest.raises(UserError, match='start_near_identity'):
        make_network(dataclasses.replace(tiny_recipe().network, architecture='recnn', options={}),
                     None)  # fmt: skip

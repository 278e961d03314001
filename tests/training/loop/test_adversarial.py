from __future__ import annotations

import numpy as np
import pytest
import torch
from original_critic import load_keras_critic
from torch import nn

from bids_segsr.networks import create
from bids_segsr.training.loop.adversarial import critic_loss, generator_adversarial
from bids_segsr.zoo.keras_import import load_keras


class LinearCritic(nn.Module):
    """Scores whose gradient is the weight everywhere."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x):
        return (x * self.weight).flatten(1).sum(1, keepdim=True)


def patches(seed, channels=2, size=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, channels, size, size, size, generator=generator)


def test_losses_of_a_linear_critic():
    weight = torch.full((2, 4, 4, 4), 0.5)
    critic = LinearCritic(weight)
    real, fake = patches(0), patches(1)
    terms = critic_loss(critic, real, fake, 10.0)
    norm = 0.5 * np.sqrt(2 * 4**3)
    assert terms['real'].item() == pytest.approx(-0.5 * real.sum().item() / 3, rel=1e-5)
    assert terms['fake'].item() == pytest.approx(0.5 * fake.sum().item() / 3, rel=1e-5)
    assert terms['penalty'].item() == pytest.approx(10 * (norm - 1) ** 2, rel=1e-5)
    parts = terms['real'] + terms['fake'] + terms['penalty']
    assert terms['total'].item() == pytest.approx(parts.item(), rel=1e-6)
    assert generator_adversarial(critic, fake).item() == pytest.approx(
        -terms['fake'].item(), rel=1e-6
    )
    # the penalty pulls the weight to the norm of one, the other terms to fake less real
    terms['total'].backward()
    penalty = 10 * 2 * (norm - 1) * weight / norm
    torch.testing.assert_close(critic.weight.grad, penalty + fake.mean(0) - real.mean(0))


@pytest.mark.parametrize(
    ('given', 'summed'),
    [(torch.bfloat16, torch.float32), (torch.float16, torch.float32), (torch.float64,) * 2],
)
def test_scores_of_half_precision_are_summed_in_single(given, summed):
    class Rounding(LinearCritic):
        def forward(self, x):
            return super().forward(x).to(given)

    critic = Rounding(torch.full((2, 4, 4, 4), 0.5))
    assert generator_adversarial(critic, patches(1)).dtype == summed
    terms = critic_loss(critic, patches(0), patches(1), 10.0)
    assert {terms[name].dtype for name in ('real', 'fake')} == {summed}


def test_penalty_is_taken_on_the_line_between_a_pair():
    seen = []

    class Recorder(LinearCritic):
        def forward(self, x):
            seen.append(x.detach())
            return super().forward(x)

    critic = Recorder(torch.rand(2, 4, 4, 4, generator=torch.Generator().manual_seed(2)))
    real, fake = patches(0), patches(1)
    torch.manual_seed(5)
    critic_loss(critic, real, fake, 10.0)
    share = (seen[-1] - real) / (fake - real)
    # one share for all channels and voxels of a sample, another one for each sample
    share = share.flatten(1)
    assert torch.allclose(share, share[:, :1], atol=1e-3)
    assert len({round(value, 3) for value in share[:, 0].tolist()}) == 3
    torch.manual_seed(5)
    critic_loss(critic, real, fake, 10.0)
    assert torch.equal(seen[-1], seen[1])
    epsilon = torch.tensor([0.0, 0.25, 1.0]).view(3, 1, 1, 1, 1)
    critic_loss(critic, real, fake, 10.0, epsilon=epsilon)
    expected = torch.stack([real[0], 0.75 * real[1] + 0.25 * fake[1], fake[2]])
    assert torch.allclose(seen[-1], expected)


def test_gradient_of_norm_zero_gives_no_nan():
    critic = LinearCritic(torch.zeros(2, 4, 4, 4))
    terms = critic_loss(critic, patches(0), patches(1), 10.0)
    assert terms['penalty'] == 10
    terms['total'].backward()
    assert torch.isfinite(critic.weight.grad).all()


def test_critic_trains_and_generator_is_left_alone():
    torch.manual_seed(0)
    critic = create('segsrgan-critic', base_filters=2, patch_size=32)
    real, fake = patches(0, size=32), patches(1, size=32).requires_grad_()
    critic_loss(critic, real, fake, 10.0)['total'].backward()
    assert fake.grad is None
    assert all(p.grad.abs().sum() > 0 for p in critic.parameters())
    critic.zero_grad()
    generator_adversarial(critic, fake).backward()
    assert fake.grad.abs().sum() > 0


def test_conditional_critic_sees_the_resolution():
    torch.manual_seed(0)
    critic = create('segsrgan-critic', base_filters=2, conditional=True, patch_size=32)
    real, fake = patches(0, size=32), patches(1, size=32)
    epsilon = torch.full((3, 1, 1, 1, 1), 0.5)
    at = [
        critic_loss(
            critic, real, fake, 10.0, epsilon=epsilon, resolution=torch.full((3,), resolution)
        )
        for resolution in (2.0, 4.0)
    ]
    for name in ('real', 'fake', 'penalty'):
        assert at[0][name] != at[1][name], name
    scores = critic(real, torch.full((3,), 2.0))
    assert at[0]['real'].item() == pytest.approx(-scores.mean().item(), rel=1e-5)


@pytest.mark.shared
def test_losses_and_gradients_equal_the_original(shared):
    folder = shared / 'fixtures' / 'segsrgan'
    with np.load(folder / 'train_step.npz') as arrays:
        image = torch.from_numpy(arrays['z']).double()
        real = torch.from_numpy(arrays['y']).double()
        fake = arrays['fake0'].astype(float)
        # the original mixes epsilon of the real with the rest of the fake, channel by channel
        epsilon = 1 - torch.from_numpy(arrays['epsilon'][0])
        losses = arrays['d_losses'][0]
        adversarial = arrays['g_losses'][0, 1]
    snapshot = folder / 'train_step_before.weights.h5'
    critic = load_keras_critic(snapshot).double()
    with torch.no_grad():
        output = load_keras(snapshot)[0].double()(image)
    np.testing.assert_allclose(output.numpy(), fake, atol=2e-3)
    terms = critic_loss(critic, real, output, 10.0, epsilon=epsilon)
    found = [terms[name].item() for name in ('total', 'real', 'fake', 'penalty')]
    np.testing.assert_allclose(found, losses, rtol=2e-5)
    terms['total'].backward()
    gradients = {name: p.grad.numpy() for name, p in critic.named_parameters()}
    with np.load(folder / 'train_step_gradients.npz') as arrays:
        assert terms['total'].item() == pytest.approx(arrays['critic_total_loss'].item(), rel=2e-5)
        for index in range(5):
            layer = f'critic|DX_conv_dis_{index + 1}'
            kernel = arrays[f'{layer}/kernel'].transpose(4, 3, 0, 1, 2)
            assert_close(gradients[f'layers.{2 * index}.weight'], kernel)
            assert_close(gradients[f'layers.{2 * index}.bias'], arrays[f'{layer}/bias'])
        kernel = arrays['critic|dis_decision/kernel'].transpose(4, 3, 0, 1, 2)
        assert_close(gradients['decision.weight'], kernel)
    trained = load_keras_critic(folder / 'train_step_after_critic.weights.h5').double()
    with torch.no_grad():
        assert generator_adversarial(trained, output).item() == pytest.approx(
            adversarial, rel=1e-5
        )


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from original_critic import load_keras_critic

from bids_segsr.exceptions import ModelError
from bids_segsr.networks import create
from bids_segsr.zoo.find import find_card, load_model

FIXTURES = Path(__file__).parents[3] / 'shared' / 'fixtures' / 'segsrgan'

UNET_LAYERS = (
    'conv1', 'block_a', 'block_b', 'conv2', 'block1_a', 'block1_b', 'conv3', 'block2_a',
    'block2_b', 'deconv1', 'deconv2', '1conv',
)  # fmt: skip
STANDARD_LAYERS = (
    'conv1', 'conv2', 'conv3', *(f'block{i}_{x}' for i in range(1, 7) for x in 'ab'), 'deconv1',
    'deconv2', '1conv',
)  # fmt: skip


def write_snapshot(path, network, *, group='G', prefix='G', layers=STANDARD_LAYERS, suffix=''):
    """Write the weights of a network as the original Keras code would."""
    tensors = [p.detach().numpy() for p in network.parameters()]
    names = []
    for layer in layers:
        stem, _, part = layer.partition('_')
        part = f'_{part}' if part else ''
        conv = f'{stem}_conv{part}' if part else stem
        norm = f'{stem}_isnorm{part}' if part else f'isnorm_{stem}'
        names.append(f'{prefix}_gen_{conv}{suffix}/kernel:0')
        if layer != '1conv':
            names += [f'{prefix}_gen_{norm}{suffix}/{v}:0' for v in ('scale', 'shift')]
    with h5py.File(path, 'w') as file:
        file.create_group('input_im_gen').attrs['weight_names'] = np.array([], 'S1')
        critic = file.create_group('DX')
        critic.attrs['weight_names'] = np.array([b'DX_conv_dis_1/kernel:0'])
        critic['DX_conv_dis_1/kernel:0'] = np.zeros((4, 4, 4, 2, 2), np.float32)
        generator = file.create_group(group)
        generator.attrs['weight_names'] = np.array([name.encode() for name in names])
        for name, tensor in zip(names, tensors, strict=True):
            generator[name] = tensor.transpose(2, 3, 4, 1, 0) if tensor.ndim == 5 else tensor
    return path


def randomised(name, **options):
    network = create(name, base_filters=2, **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


def assert_same(network, other):
    x = torch.rand(1, 1, 8, 12, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(network(x), other(x), rtol=0, atol=0)


@pytest.mark.parametrize('suffix', ['', '_1'])
@pytest.mark.parametrize('mask_classes', [0, 3])
def test_standard_generator(tmp_path, mask_classes, suffix):
    network = randomised('segsrgan', mask_classes=mask_classes)
    path = write_snapshot(tmp_path / 'SegSRGAN_epoch_7', network, suffix=suffix)
    model = load_model(path)
    assert model.card == find_card(path)
    assert model.card.name == 'SegSRGAN-epoch-7'
    assert model.card.contract.normalisation == 'volume-max'
    assert model.card.contract.slice_axis_last
    assert len(model.card.channels) == 2 + mask_classes
    assert_same(model.network, network)


def test_nonresidual_generator_is_told_by_its_group(tmp_path):
    network = randomised('segsrgan', residual=False)
    path = write_snapshot(tmp_path / 'w.h5', network, group='G_nn_residual', prefix='G')
    model = load_model(path)
    assert model.card.options['residual'] is False
    assert_same(model.network, network)


@pytest.mark.parametrize('group', ['G', 'G_unet'])
def test_unet_is_told_by_its_structure(tmp_path, group):
    network = randomised('segsrgan-unet')
    path = write_snapshot(tmp_path / 'w', network, group=group, layers=UNET_LAYERS)
    model = load_model(path)
    assert model.card.architecture == 'segsrgan-unet'
    assert_same(model.network, network)


def test_unknown_tensor_names_are_matched_by_position(tmp_path):
    network = randomised('segsrgan')
    layers = [f'layer{i:02}' for i in range(len(STANDARD_LAYERS) - 1)] + ['1conv']
    path = write_snapshot(tmp_path / 'w', network, layers=layers)
    assert_same(load_model(path).network, network)


@pytest.mark.parametrize('group', ['G_cond', 'G'])
def test_conditional_generator_is_told_by_group_or_channels(tmp_path, group):
    network = randomised('segsrgan', conditional='original')
    path = write_snapshot(tmp_path / 'w', network, group=group, prefix=group)
    model = load_model(path)
    assert model.card == find_card(path)
    assert model.card.options['conditional'] == 'original'
    assert 'no effect' in model.card.limitations[0]
    x = torch.rand(2, 1, 8, 12, 16)
    resolution = torch.tensor([2.0, 3.0])
    with torch.no_grad():
        torch.testing.assert_close(
            model.network(x, resolution), network(x, resolution), rtol=0, atol=0
        )


def test_conditional_unet(tmp_path):
    network = randomised('segsrgan-unet', conditional='original', residual=False)
    path = write_snapshot(
        tmp_path / 'w', network, group='G_unet_cond_nn_residual', layers=UNET_LAYERS
    )
    model = load_model(path)
    assert model.card.options['residual'] is False
    x = torch.rand(1, 1, 8, 12, 16)
    with torch.no_grad():
        assert torch.equal(
            model.network(x, torch.tensor([3.0])), network(x, torch.tensor([2.0]) + 1)
        )


def rewrite(path, name, write):
    with h5py.File(path, 'r+') as file:
        del file[name]
        write(file, name)
    return path


def external_link(file, name):
    file[name] = h5py.ExternalLink('other.h5', '/secret')


def external_storage(file, name):
    file.create_dataset(name, (3, 3, 3, 2, 4), 'f4', external=[('raw', 0, 864)])


def virtual(file, name):
    layout = h5py.VirtualLayout((3, 3, 3, 2, 4), 'f4')
    layout[...] = h5py.VirtualSource('other.h5', 'secret', (3, 3, 3, 2, 4))
    file.create_virtual_dataset(name, layout)


def declared_huge(file, name):
    file.create_dataset(name, (10**4,) * 5, 'f4', chunks=(1, 1, 1, 1, 10**4))


def huge_chunk(file, name):
    shape = (3, 3, 3, 2, 4)
    file.create_dataset(name, shape, 'f4', maxshape=(None,) * 5, chunks=(3, 3, 3, 2, 10**7))


def text(file, name):
    file[name] = b'weights'


def another_rank(file, name):
    file[name] = np.zeros((3, 3), np.float32)


@pytest.mark.parametrize(
    ('write', 'word'),
    [
        (external_link, 'lies in another file'),
        (external_storage, 'lies in another file'),
        (virtual, 'lies in another file'),
        (declared_huge, 'no weights of SegSRGAN'),
        (huge_chunk, 'no weights of SegSRGAN'),
        (text, 'no array'),
        (another_rank, 'no weights of SegSRGAN'),
    ],
)
def test_tensors_are_checked_before_they_are_read(tmp_path, write, word):
    with h5py.File(tmp_path / 'other.h5', 'w') as file:
        file['secret'] = np.zeros((3, 3, 3, 2, 4), np.float32)
    (tmp_path / 'raw').write_bytes(bytes(864))
    path = write_snapshot(tmp_path / 'w', randomised('segsrgan'))
    rewrite(path, 'G/G_gen_conv2/kernel:0', write)
    with pytest.raises(ModelError, match=word) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert '\n' not in str(caught.value)


def test_network_larger_than_its_file_is_refused(tmp_path):
    path = write_snapshot(tmp_path / 'w', randomised('segsrgan'))
    name = 'G/G_gen_conv1/kernel:0'
    rewrite(path, name, lambda file, name: file.create_dataset(name, (7, 7, 7, 1, 4000), 'f4'))
    with pytest.raises(ModelError, match='bytes; at most'):
        load_model(path)


def test_model_that_is_no_group_and_too_many_names_are_refused(tmp_path):
    path = write_snapshot(tmp_path / 'w', randomised('segsrgan'))
    with h5py.File(path, 'r+') as file:
        file['G'].attrs['weight_names'] = np.array([b'a/b:0'] * 2000)
    with pytest.raises(ModelError, match='more than 1000'):
        load_model(path)
    with h5py.File(path, 'r+') as file:
        del file['G']
        file['G'] = np.zeros(3)
        file['G'].attrs['weight_names'] = np.array([b'a/b:0'])
    with pytest.raises(ModelError, match='damaged'):
        load_model(path)


def test_other_files_are_refused(tmp_path):
    empty = tmp_path / 'empty.h5'
    h5py.File(empty, 'w').close()
    fewer = write_snapshot(
        tmp_path / 'fewer',
        create('segsrgan', base_filters=2, n_blocks=5),
        layers=[layer for layer in STANDARD_LAYERS if not layer.startswith('block6')],
    )
    swapped = write_snapshot(tmp_path / 'swapped', randomised('segsrgan'))
    with h5py.File(swapped, 'r+') as file:
        del file['G/G_gen_conv2/kernel:0']
        file['G/G_gen_conv2/kernel:0'] = np.zeros((3, 3, 3, 2, 5), np.float32)
    lost = write_snapshot(tmp_path / 'lost', randomised('segsrgan'))
    with h5py.File(lost, 'r+') as file:
        del file['G/G_gen_conv2/kernel:0']
    whole = write_snapshot(tmp_path / 'whole', randomised('segsrgan'))
    cut = tmp_path / 'cut'
    cut.write_bytes(whole.read_bytes()[:4000])
    for path, word in (
        (empty, 'no generator'),
        (fewer, 'tensors'),
        (swapped, 'conv2'),
        (lost, 'damaged'),
        (cut, 'damaged'),
    ):
        with pytest.raises(ModelError, match=word) as caught:
            load_model(path)
        assert str(path) in str(caught.value)


@pytest.mark.shared
@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('generator', {'base_filters': 16, 'mask_classes': 0, 'residual': True}),
        ('generator_nonresidual', {'base_filters': 4, 'mask_classes': 0, 'residual': False}),
        ('generator_mask3', {'base_filters': 4, 'mask_classes': 3, 'residual': True}),
        ('generator_unet', {'base_filters': 28, 'mask_classes': 0, 'residual': True}),
    ],
)
def test_original_weights_give_the_original_output(name, options):
    model = load_model(FIXTURES / f'{name}.weights.h5')
    assert model.card.options == options
    expected = np.load(FIXTURES / f'{name}.npz')
    with torch.no_grad():
        output = model.network(torch.from_numpy(expected['input'])).numpy()
    np.testing.assert_allclose(output, expected['output'], rtol=0, atol=1e-4)


@pytest.mark.shared
def test_original_conditional_weights_give_the_original_output():
    model = load_model(FIXTURES / 'generator_conditional.weights.h5')
    expected = np.load(FIXTURES / 'generator_conditional.npz')
    inputs = (torch.from_numpy(expected[name]).double() for name in ('input', 'resolution'))
    with torch.no_grad():
        # A large constant is removed by the first norm, which costs float32 its digits.
        output = model.network.double()(*inputs).numpy()
    np.testing.assert_allclose(output, expected['output'], rtol=0, atol=1e-4)


@pytest.mark.shared
@pytest.mark.parametrize('name', ['discriminator', 'discriminator_conditional'])
def test_original_critics_give_the_original_output(name):
    critic = load_keras_critic(FIXTURES / f'{name}.weights.h5')
    expected = np.load(FIXTURES / f'{name}.npz')
    inputs = [torch.from_numpy(expected['input'])]
    if 'resolution' in expected:
        inputs.append(torch.from_numpy(expected['resolution']))
    with torch.no_grad():
        output = critic(*inputs).numpy()
    np.testing.assert_allclose(output, expected['output'], rtol=0, atol=1e-5)

from __future__ import annotations

import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch
from test_card import make_card
from test_keras_import import randomised, write_snapshot

from bids_segsr.cli.segsr import main
from bids_segsr.networks import ARCHITECTURES, create
from bids_segsr.zoo.find import DEFAULT_MODEL, load_model
from bids_segsr.zoo.released import RELEASED
from bids_segsr.zoo.store import save_model


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """Folder of models with two of them."""
    folder = tmp_path / 'models'
    for name in ('first', 'second'):
        torch.manual_seed(len(name))
        save_model(
            folder / name, create('segsrgan', base_filters=2, n_blocks=1), make_card(name=name)
        )
    monkeypatch.setenv('BIDS_SEGSR_MODELS', str(folder))
    return folder


@pytest.fixture
def run(capsys):
    def command(*arguments):
        status = main(['models', *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return command


def one_line(text, *words):
    assert text.count('\n') == 1
    for word in words:
        assert str(word) in text


def test_list_for_programs(run, models):
    status, out, _ = run('list', '--json')
    content = json.loads(out)
    assert status == 0
    by_name = {model['name']: model for model in content['models']}
    assert list(by_name) == [
        DEFAULT_MODEL,
        'brain-mask',
        'first',
        'second',
        'segsrgan-newborn',
        'tissue-unet-newborn',
        'tissue-unet-newborn-t1w',
    ]
    assert by_name[DEFAULT_MODEL]['default']
    assert by_name[DEFAULT_MODEL]['parameters'] == 3_195_448
    tiny = create('segsrgan', base_filters=2, n_blocks=1)
    assert by_name['first']['parameters'] == sum(p.numel() for p in tiny.parameters())
    assert by_name['first']['path'] == str(models / 'first')
    assert {entry['name']: entry['fetched'] for entry in content['released']} == dict.fromkeys(
        RELEASED, False
    )
    counts = {entry['name']: entry['parameters'] for entry in content['architectures']}
    assert set(counts) == set(ARCHITECTURES)
    assert counts['segsrgan'] == 1_483_664
    assert counts['segsrgan-unet'] == 1_404_116


def test_list_for_people(run):
    status, out, _ = run('list')
    assert status == 0
    for word in (f'{DEFAULT_MODEL} (default)', 'first', '1,483,664', *RELEASED, *ARCHITECTURES):
        assert word in out


@pytest.mark.parametrize(
    'damage',
    [lambda text: '{', lambda text: text.replace('"base_filters": 2', '"base_filters": {}')],
)
def test_list_goes_on_after_a_broken_card(run, models, damage):
    path = models / 'first' / 'card.json'
    path.write_text(damage(path.read_text(encoding='utf-8')), encoding='utf-8')
    status, out, error = run('list')
    assert status == 1
    assert 'second' in out
    one_line(error, 'first')


def test_show_tells_contract_and_research_use(run):
    status, out, _ = run('show', DEFAULT_MODEL)
    card = load_model(DEFAULT_MODEL).card
    assert status == 0
    for word in ('tissue-unet', 'T2w', '1.5 to 5 mm', 'Limitations', card.licence, '--full'):
        assert word in out
    assert card.sha256 in run('show', DEFAULT_MODEL, '--full')[1]
    assert out.rstrip().endswith('Research use only: not for diagnosis.')
    assert max(map(len, out.splitlines())) < 100
    assert 'On slices of other kinds' in out


def test_show_of_an_unknown_model_is_one_line(run):
    status, _, error = run('show', 'resnet')
    assert status == 1
    one_line(error, 'resnet', DEFAULT_MODEL)


def test_show_of_what_is_not_fetched_says_how_to_fetch_it(run):
    status, _, error = run('show', 'segsrgan-dhcp')
    assert status == 1
    one_line(error, 'segsr models fetch segsrgan-dhcp')


def test_import_writes_a_model_with_the_weights_of_the_file(run, tmp_path, models):
    path = write_snapshot(tmp_path / 'SegSRGAN_epoch_3', randomised('segsrgan'))
    status, out, _ = run('import', path, '--output', models, '--name', 'mine')
    assert status == 0
    assert out.strip() == str(models / 'mine')
    imported = load_model('mine')
    assert imported.card.name == 'mine'
    assert imported.path.name == 'weights.safetensors'
    original = load_model(path).network.state_dict()
    for name, tensor in imported.network.state_dict().items():
        assert tensor.equal(original[name])
    assert run('import', path, '--output', models)[0] == 0
    assert (models / 'SegSRGAN-epoch-3' / 'card.json').is_file()


def test_import_refuses_with_the_reason(run, tmp_path, models):
    empty = tmp_path / 'empty.h5'
    h5py.File(empty, 'w').close()
    text = tmp_path / 'text'
    text.write_text('no weights', encoding='utf-8')
    good = write_snapshot(tmp_path / 'good', randomised('segsrgan'))
    pickled = tmp_path / 'model.pt'
    pickled.touch()
    for arguments, word in (
        ((empty,), 'no generator'),
        ((text,), 'not a model'),
        ((tmp_path / 'none',), 'no such file'),
        ((pickled,), 'pickled'),
        ((models / 'first' / 'weights.safetensors',), 'nothing to import'),
        ((good, '--name', '../x'), 'letters, digits and hyphens'),
        ((good, '--name', 'first'), 'exists already'),
    ):
        status, _, error = run('import', *arguments, '--output', models)
        assert status == 1
        one_line(error, word)


def test_blend_is_written_and_equals_the_one_on_the_fly(run, models):
    status, out, _ = run('blend', 'first', 'second', '--alpha', '0.25', '--output', models)
    assert status == 0
    assert out.strip() == str(models / 'first-second-0p25')
    stored, flying = load_model('first-second-0p25'), load_model('first:second:0.25')
    for name, tensor in stored.network.state_dict().items():
        assert tensor.equal(flying.network.state_dict()[name])
    assert stored.card.training == flying.card.training


def test_blend_of_different_networks_is_refused(run, models):
    status, _, error = run('blend', 'first', DEFAULT_MODEL, '--alpha', '0.5', '--output', models)
    assert status == 1
    one_line(error, 'first', DEFAULT_MODEL, 'architecture')


def test_verify_passes_good_models_and_names_each_bad_one(run, models):
    status, out, error = run('verify', 'first', 'first:second:0.5')
    assert (status, error) == (0, '')
    assert out.count('fine') == 2

    weights = models / 'first' / 'weights.safetensors'
    weights.write_bytes(weights.read_bytes()[:-1] + b'\0')
    card = models / 'second' / 'card.json'
    card.write_text(
        card.read_text(encoding='utf-8').replace('"cortex"', '"cortex", "hippocampus"'),
        encoding='utf-8',
    )
    broken = create('segsrgan', base_filters=2, n_blocks=1)
    with torch.no_grad():
        broken.head.conv.weight.fill_(float('inf'))
    save_model(models / 'broken', broken, make_card(name='broken'))
    status, out, error = run('verify')
    assert status == 1
    assert f'{DEFAULT_MODEL}: fine' in out
    lines = error.splitlines()
    assert len(lines) == 3
    for line, name, word in zip(
        lines,
        ('broken', 'first', 'second'),
        ('not finite', 'SHA-256', 'hippocampus'),
        strict=True,
    ):
        assert f'{name}: ' in line
        assert word in line


def test_export_to_torchscript_runs_at_other_sizes(run, tmp_path):
    path = tmp_path / 'out' / 'model.pt'
    status, out, _ = run('export', 'first', '--format', 'torchscript', '--output', path)
    assert status == 0
    assert out.split() == [str(path), f'{path}.json']
    x = torch.rand(1, 1, 8, 16, 12)
    with torch.no_grad():
        found = torch.jit.load(path)(x)
        torch.testing.assert_close(found, load_model('first').network(x))
    assert (
        json.loads((tmp_path / 'out' / 'model.pt.json').read_text(encoding='utf-8'))['name']
        == 'first'
    )


@pytest.mark.parametrize(('name', 'size'), [('first', (8, 16, 12)), (DEFAULT_MODEL, (16, 40, 24))])
def test_export_to_onnx_runs_at_other_sizes(run, tmp_path, name, size):
    runtime = pytest.importorskip('onnxruntime')
    path = tmp_path / 'model.onnx'
    assert run('export', name, '--format', 'onnx', '--output', path)[0] == 0
    x = torch.rand(1, 1, *size)
    (found,) = runtime.InferenceSession(path).run(None, {'image': x.numpy()})
    with torch.no_grad():
        expected = load_model(name).network(x).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('kind', ['original', 'film'])
def test_conditional_models_are_verified_and_exported_with_their_resolution(
    run, tmp_path, models, kind
):
    options = {'base_filters': 2, 'n_blocks': 1, 'conditional': kind}
    network = create('segsrgan', **options)
    save_model(models / kind, network, make_card(name=kind, options=options))
    assert run('verify', kind)[0] == 0
    path = tmp_path / 'model.pt'
    assert run('export', kind, '--format', 'torchscript', '--output', path)[0] == 0
    x, resolution = torch.rand(1, 1, 8, 16, 12), torch.tensor([4.0])
    with torch.no_grad():
        found = torch.jit.load(path)(x, resolution)
        torch.testing.assert_close(found, network.eval()(x, resolution))


@pytest.mark.parametrize('file_format', ['torchscript', 'onnx', 'safetensors'])
def test_export_to_a_place_that_is_a_file_is_one_line(run, tmp_path, file_format):
    (tmp_path / 'file').touch()
    output = tmp_path / 'file' / 'model'
    status, _, error = run('export', 'first', '--format', file_format, '--output', output)
    assert status == 1
    one_line(error, output.parent, 'choose a folder that you may write to')


def test_export_to_onnx_says_what_is_missing(run, tmp_path, monkeypatch):
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    path = tmp_path / 'model.onnx'
    status, _, error = run('export', 'first', '--format', 'onnx', '--output', path)
    assert status == 1
    one_line(error, 'bids-segsr[onnx]')


def test_export_to_safetensors_is_a_model(run, tmp_path):
    folder = tmp_path / 'copy'
    status, out, _ = run('export', 'first', '--format', 'safetensors', '--output', folder)
    assert status == 0
    assert out.split() == [str(folder / 'weights.safetensors'), str(folder / 'card.json')]
    assert load_model(folder).card == load_model('first').card


def test_fetch_failures_are_one_line_each(run, monkeypatch):
    from bids_segsr.zoo import fetch

    monkeypatch.setattr(fetch, 'PAUSE_S', 0)
    monkeypatch.setattr(fetch, 'REPOSITORY_URL', 'http://127.0.0.1:9')
    monkeypatch.setattr(fetch, 'BLOB_URL', 'http://127.0.0.1:9')
    monkeypatch.setenv('NO_PROXY', '127.0.0.1')
    status, out, error = run('fetch', 'all')
    assert (status, out) == (1, '')
    assert error.count('\n') == len(RELEASED)
    for line, name in zip(error.splitlines(), RELEASED, strict=True):
        assert line.startswith(f'segsr: {name}: not fetched')
        assert '--mirror' in line


def test_help_needs_no_torch():
    code = (
        'import sys; from bids_segsr.cli.segsr import build_parser; build_parser();'
        "sys.exit('torch' in sys.modules or 'h5py' in sys.modules or 'pooch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0

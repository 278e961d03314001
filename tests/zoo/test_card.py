from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bids_segsr.exceptions import ModelError
from bids_segsr.zoo import card
from bids_segsr.zoo.card import InputContract, ModelCard, read_card


def make_card(**changes) -> ModelCard:
    fields = {
        'name': 'tiny',
        'version': '1',
        'description': 'For tests.',
        'architecture': 'segsrgan',
        'options': {'base_filters': 2, 'n_blocks': 1},
        'contract': InputContract(('T2w',), 'patch-standard', (0.5, 1.0), (1.5, 5.0)),
        'channels': ('intensity', 'cortex'),
        'labels': {1: 'cortical grey matter'},
        'scores': {'psnr': [30.5, 1.25]},
    }
    return ModelCard(**(fields | changes))


def test_card_survives_json():
    card = make_card(limitations=('Fails.',), citation=('Someone 2020.',), licence='CC0-1.0')
    assert ModelCard.from_json(card.to_json()) == card


def test_json_is_plain_and_states_its_schema():
    content = json.loads(make_card().to_json())
    assert content['schema_version'] == 1
    assert content['labels'] == {'1': 'cortical grey matter'}
    assert content['contract']['spacing_mm'] == [0.5, 1.0]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('{', 'not valid JSON'),
        ('[]', 'not a model card'),
        ('{"name": "x"}', 'no schema_version'),
        ('{"schema_version": 99}', 'schema version 99'),
        ('{"schema_version": 1}', 'contract'),
        ('{"schema_version": 1, "contract": {}}', 'modalities'),
    ],
)
def test_wrong_card_is_refused_with_the_file_named(tmp_path, text, message):
    path = tmp_path / 'card.json'
    path.write_text(text, encoding='utf-8')
    with pytest.raises(ModelError) as caught:
        read_card(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert '\n' not in str(caught.value)


def test_missing_or_binary_card_is_refused(tmp_path):
    with pytest.raises(ModelError, match='cannot be read'):
        read_card(tmp_path / 'card.json')
    (tmp_path / 'card.json').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ModelError, match='cannot be read'):
        read_card(tmp_path / 'card.json')


def test_unknown_normalisation_and_field_are_refused():
    with pytest.raises(ModelError, match='normalisation'):
        InputContract(('T2w',), 'z-score', (0.5, 1.0), (1.5, 5.0))
    text = make_card().to_json().replace('"licence"', '"license"')
    with pytest.raises(ModelError, match='license'):
        ModelCard.from_json(text)


@pytest.mark.parametrize('patch_size', [-8, 2000, 64.0, True, (64, 2000, 64)])
def test_impossible_patch_size_is_refused(patch_size):
    with pytest.raises(ModelError, match='patch_size'):
        InputContract(('T2w',), 'volume-max', (0.5, 1.0), (1.5, 5.0), patch_size=patch_size)


@pytest.mark.parametrize('share', [-0.1, 1.5, float('nan')])
def test_impossible_back_projection_is_refused(share):
    with pytest.raises(ModelError, match='back_projection'):
        InputContract(('T2w',), 'volume-max', (0.5, 1.0), (1.5, 5.0), back_projection=share)


@pytest.mark.parametrize('name', ['back_projection_steps', 'input_back_projection_steps'])
@pytest.mark.parametrize('steps', [-1, 1000, 2.0, True])
def test_impossible_steps_of_back_projection_are_refused(name, steps):
    with pytest.raises(ModelError, match=name):
        InputContract(('T2w',), 'volume-max', (0.5, 1.0), (1.5, 5.0), **{name: steps})


WRONG = {
    'version': (5, None),
    'options': ([], 'x'),
    'contract': ([], None, {}),
    'channels': ('intensity', [], [1, 2], {}),
    'labels': ([], {}, {'a': 'cortex'}, {'1': 5}, {'0': 'x'}, {'99999': 'x'}, {'1.0': 'x'}),
    'training': ([1], 'long'),
    'limitations': ('one', [None]),
    'licence': (1,),
    'citation': ({'a': 1},),
    'schema_version': ('1', None, 2, True),
    'contract.modalities': ('T2w', [2]),
    'contract.spacing_mm': (1.0, [1.0], [1.0, 'x'], [1.0, 0.5], [-1.0, 1.0], [1, 2, 3]),
    'contract.slice_thickness_mm': (None, [0, 0], [3.0, True]),
    'contract.skull_stripped': ('yes', 1),
    'contract.slice_axis_last': (None,),
    'contract.guides': ('1', -1, 1.5),
    'contract.mirrored': ('false',),
    'contract.interpolation': ('nearest', 3),
    'contract.back_projection': ('0.5', None, True),
    'contract.precision': ('fp16', 16, None),
}


@pytest.mark.parametrize(('field', 'value'), [(k, v) for k, wrong in WRONG.items() for v in wrong])
def test_a_field_of_a_wrong_type_is_refused_when_the_card_is_read(field, value, tmp_path):
    content = json.loads(make_card().to_json())
    table, _, name = field.rpartition('.')
    (content[table] if table else content)[name] = value
    path = tmp_path / 'card.json'
    path.write_text(json.dumps(content), encoding='utf-8')
    with pytest.raises(ModelError, match=rf'^{path}: [^\n]*{name.partition("_")[0]}[^\n]*$'):
        read_card(path)


@pytest.mark.parametrize(
    'text', ['{"schema_version": NaN}', '[' * 100_000, '{"a": 1' + '0' * 9999]
)
def test_json_that_is_none_is_refused(text, tmp_path):
    with pytest.raises(ModelError, match='not valid JSON'):
        ModelCard.from_json(text)


def test_cards_are_read_without_torch():
    code = (
        'import sys; from bids_segsr.zoo.find import card_paths, find_card; '
        '[find_card(name) for name in card_paths()];'
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_packaged_cards_name_modules_that_there_are():
    cards = (Path(card.__file__).parent / 'models').rglob('card.json')
    named = {
        name for path in cards for name in re.findall(r'bids_segsr(?:\.\w+)+', path.read_text())
    }
    assert named
    assert [name for name in sorted(named) if find_spec(name) is None] == []

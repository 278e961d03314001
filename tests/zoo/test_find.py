"""Models by name and by path."""

from __future__ import annotations

import pickle

import pytest
from test_card import make_card
from test_store import refuses

from bids_segsr.exceptions import ModelError
from bids_segsr.zoo import find
from bids_segsr.zoo.find import (
    BRAIN_MASK_MODEL,
    DEFAULT_MODEL,
    absolute_model,
    card_paths,
    find_card,
    load_model,
)
from bids_segsr.zoo.store import save_model


def test_models_are_found_by_name(folder, monkeypatch):
    monkeypatch.setenv('BIDS_SEGSR_MODELS', str(folder.parent))
    assert load_model('tiny').card.name == 'tiny'
    assert list(card_paths()) == [
        DEFAULT_MODEL,
        BRAIN_MASK_MODEL,
        'segsrgan-newborn',
        'tiny',
        'tissue-unet-newborn',
        'tissue-unet-newborn-t1w',
    ]


def test_unknown_name_lists_the_known_ones():
    refuses('no-such-model', 'no-such-model', DEFAULT_MODEL)


class _Trap:
    def __reduce__(self):
        return (pytest.fail, ('unpickled',))


@pytest.mark.parametrize('name', ['model.pt', 'model.pth', 'model.pkl', 'model.ckpt'])
def test_pickles_are_refused_unopened(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps(_Trap()))
    refuses(path, str(path), 'pickled')


def test_pickle_under_another_name_is_refused(tmp_path):
    path = tmp_path / 'model'
    path.write_bytes(pickle.dumps(_Trap()))
    refuses(path, str(path), 'not a model')


def test_folder_or_weights_without_card_are_refused(folder):
    (folder / 'card.json').unlink()
    refuses(folder, str(folder), 'card.json')
    refuses(folder / 'weights.safetensors', 'card.json')


def test_own_model_comes_before_a_packaged_one_of_its_name(tmp_path, network, monkeypatch):
    assert find_card(BRAIN_MASK_MODEL).version == '3'
    monkeypatch.setenv('BIDS_SEGSR_MODELS', str(tmp_path))
    save_model(tmp_path / BRAIN_MASK_MODEL, network, make_card(name=BRAIN_MASK_MODEL, version='7'))
    assert find_card(BRAIN_MASK_MODEL).version == '7'
    (tmp_path / BRAIN_MASK_MODEL / 'card.json').write_text('{', encoding='utf-8')
    with pytest.raises(ModelError, match=r'card\.json'):
        find_card(BRAIN_MASK_MODEL)


def test_paths_of_models_are_made_absolute_and_names_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'mine').mkdir()
    assert absolute_model('segsrgan-newborn') == 'segsrgan-newborn'
    assert absolute_model('mine') == str(tmp_path / 'mine')
    assert absolute_model('a/x') == str(tmp_path / 'a/x')
    assert absolute_model('mine:b/y:0.6') == f'{tmp_path}/mine:{tmp_path}/b/y:0.6'


def test_closed_home_does_not_hide_the_packaged_model(monkeypatch, tmp_path):
    monkeypatch.delenv(find.FOLDER_VARIABLE, raising=False)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'none'))
    assert find_card(find.DEFAULT_MODEL).name == find.DEFAULT_MODEL
    monkeypatch.setattr(find.os, 'access', lambda *_: False)
    assert find.model_folders() == [find._PACKAGED]


def test_what_is_not_fetched_says_how_to_fetch_it(tmp_path, monkeypatch):
    monkeypatch.setenv('BIDS_SEGSR_MODELS', str(tmp_path))
    for look_up in (find_card, load_model):
        with pytest.raises(ModelError, match='segsr models fetch segsrgan-dhcp') as caught:
            look_up('segsrgan-dhcp')
        assert '\n' not in str(caught.value)


def test_a_file_that_may_not_be_read_is_named(tmp_path, closed):
    path = tmp_path / 'model.h5'
    path.touch()
    with pytest.raises(PermissionError) as error:
        find_card(closed(path))
    assert error.value.filename == str(path)

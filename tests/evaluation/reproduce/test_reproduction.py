"""From an article and its collections to trainings and tables."""

from __future__ import annotations

from types import SimpleNamespace

from release_phantoms import (
    make_release,
)

from bids_segsr.evaluation.reproduce.reproduction import How, plan_reproduction
from bids_segsr.evaluation.reproduce.reproduction import reproduce as reproduce_article


def test_table_7_takes_the_weights_of_the_last_epoch(tmp_path, few_participants, monkeypatch):
    root = make_release(tmp_path / 'dhcp', 1, few_participants)
    plan = plan_reproduction('segsrgan-2020', [str(root)], tables=['7', '8'])
    assert plan.trainings == [
        'segsrgan-2020-no-gan', 'segsrgan-2020-augmented', 'segsrgan-2020', 'recnn-20l-3mm',
    ]  # fmt: skip
    loaded = {}

    def systems(published, models):
        loaded.update(models)
        return {}  # so that nothing is scored

    monkeypatch.setattr('bids_segsr.evaluation.reproduce.comparison.make_systems', systems)
    monkeypatch.setattr('bids_segsr.zoo.find.load_model', lambda path: path)
    done = SimpleNamespace(stopped_by=None)
    how = How(tmp_path / 'out', device='cpu', rehearse=True, tell=lambda line: None)
    assert reproduce_article(plan, how, lambda *_: done).text.startswith('Not measured')
    for name in ('segsrgan-2020-no-gan', 'segsrgan-2020-augmented'):
        assert loaded[f'{name}@last'] == str(how.out / name / 'checkpoints' / 'last')
        assert loaded[name] == str(how.out / name / 'model')
    assert set(loaded) == {*plan.trainings, *(f'{name}@last' for name in plan.trainings[:2])}


def test_a_plan_holds_the_trainings_of_its_tables_and_what_is_missing(tmp_path, few_participants):
    root = make_release(tmp_path, 3, few_participants[:2])
    plan = plan_reproduction('segsrgan-2020', [f'dhcp={root}'], tables=['2'])
    assert plan.trainings == ['segsrgan-2020']
    assert {number.table for number in plan.published} == {'2'}
    assert plan.folders == {'dhcp': root}
    assert plan.collections['dhcp'].missing == {'sub-C': 'no such folder'}
    assert not plan.complete
    make_release(root, 3, few_participants[2:])
    assert plan_reproduction('segsrgan-2020', [str(root)], tables=['2']).complete

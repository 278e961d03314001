from __future__ import annotations

import dataclasses
import math
import signal
import time

import numpy as np
import pytest
import torch
from training_phantoms import (
    DATA,
    EDGE,
    Phantoms,
    adversarial_recipe,
    make_trainer,
    tiny_recipe,
)

from bids_segsr.exceptions import UserError
from bids_segsr.training.data.batches import CRITIC_OFFSET
from bids_segsr.training.data.data_summary import DataFile
from bids_segsr.training.data_tables import Sampling
from bids_segsr.training.loop.checkpoint import load_checkpoint
from bids_segsr.training.loop.forward_pass import check_start
from bids_segsr.training.loop.progress import Progress
from bids_segsr.training.loop.run_log import read_log
from bids_segsr.training.loop_tables import CriticSchedule, Loss, Optimiser, Rates
from bids_segsr.training.recipe import Network, Schedule, Task, Validation
from bids_segsr.zoo.find import load_model
from bids_segsr.zoo.verify import verify_model


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def last(out):
    checkpoint = load_checkpoint(out / 'checkpoints' / 'last')
    assert checkpoint is not None
    return checkpoint


def assert_same_weights(first, second):
    assert first.tensors.keys() == second.tensors.keys()
    for name, tensor in first.tensors.items():
        assert torch.equal(tensor, second.tensors[name]), name


class Interrupting(Phantoms):
    """Sends this process a signal when a patch is read for the first time."""

    def __init__(self, index, **options):
        super().__init__(**options)
        self.index = index

    def __getitem__(self, index):
        if index == self.index:
            self.index = None
            signal.raise_signal(signal.SIGTERM)
        return super().__getitem__(index)


SGD = Optimiser('sgd', learning_rate=0.01)
EVERYTHING = adversarial_recipe(
    schedule=Schedule(steps=7, batch_size=2, ema=0.9),
    rates=Rates(schedule='cosine', warmup=3),
    optimiser=Optimiser(name='nadam', learning_rate=1e-3, clip=0.5, head_rate=0.5),
)


def test_an_interrupted_run_ends_in_the_same_weights(tmp_path):
    make_trainer(tmp_path / 'whole', EVERYTHING).fit()
    # Patch 8 belongs to the fifth step, between two validations.
    stopped = make_trainer(tmp_path / 'parts', EVERYTHING, Interrupting(8)).fit()
    assert stopped.stopped_by == signal.SIGTERM
    assert last(tmp_path / 'parts').state['step'] == 5
    assert not (tmp_path / 'parts' / 'model').exists()
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    finished = make_trainer(tmp_path / 'parts', EVERYTHING).fit()
    assert finished.stopped_by is None

    assert_same_weights(last(tmp_path / 'whole'), last(tmp_path / 'parts'))
    weights = [tmp_path / run / 'model' / 'weights.safetensors' for run in ('whole', 'parts')]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    tables = [read_log(tmp_path / run / 'log.csv') for run in ('whole', 'parts')]
    for whole, parts in zip(*tables, strict=True):
        for name in set(whole) - {'minutes', 'wait_share'}:
            np.testing.assert_equal(whole[name], parts[name], err_msg=name)


def test_a_run_goes_on_between_two_updates_of_the_critic(tmp_path):
    schedule = CriticSchedule(updates=1, head_start=4)
    recipe = adversarial_recipe(schedule=Schedule(steps=2, batch_size=2), critic_schedule=schedule)
    make_trainer(tmp_path / 'whole', recipe).fit()
    # The third patch of the critic belongs to the second of its five first updates.
    dataset = Interrupting(CRITIC_OFFSET // 8 * 8 + 2)
    make_trainer(tmp_path / 'parts', recipe, dataset).fit()
    progress = last(tmp_path / 'parts').state['progress']
    assert (progress['step'], progress['critic_step']) == (0, 2)
    make_trainer(tmp_path / 'parts', recipe).fit()
    assert_same_weights(last(tmp_path / 'whole'), last(tmp_path / 'parts'))
    assert [row['step'] for row in read_log(tmp_path / 'parts' / 'log.csv')] == [0, 2]


def test_workers_do_not_change_the_weights(tmp_path):
    recipe = adversarial_recipe(schedule=Schedule(steps=3, batch_size=2))
    for workers in (0, 2):
        make_trainer(tmp_path / str(workers), recipe, workers=workers).fit()
    assert_same_weights(last(tmp_path / '0'), last(tmp_path / '2'))


def test_batches_that_are_accumulated_count_as_one(tmp_path):
    for batch, parts in ((4, 1), (1, 4)):
        schedule = Schedule(steps=3, batch_size=batch, accumulate=parts)
        # Adam would divide gradients by their size, rounding errors among them.
        recipe = adversarial_recipe(schedule=schedule, optimiser=SGD, critic_optimiser=SGD)
        make_trainer(tmp_path / str(batch), recipe).fit()
    one, four = last(tmp_path / '4'), last(tmp_path / '1')
    for name, tensor in one.tensors.items():
        if name.startswith(('generator.', 'critic.')):
            torch.testing.assert_close(tensor, four.tensors[name], rtol=1e-4, atol=1e-6)


def test_a_longer_schedule_goes_on_and_another_recipe_does_not(tmp_path):
    short = tiny_recipe(schedule=Schedule(steps=3, batch_size=2))
    make_trainer(tmp_path / 'run', short).fit()
    make_trainer(tmp_path / 'run', tiny_recipe()).fit()
    make_trainer(tmp_path / 'whole', tiny_recipe()).fit()
    assert_same_weights(last(tmp_path / 'run'), last(tmp_path / 'whole'))

    other = tiny_recipe(optimiser=Optimiser(learning_rate=2e-3))
    with pytest.raises(UserError, match=r'optimiser\.learning_rate \(was 0\.001, is 0\.002\)'):
        make_trainer(tmp_path / 'run', other)
    with pytest.raises(UserError, match='frozen layers'):
        make_trainer(tmp_path / 'run', tiny_recipe(), freeze=('conv1.*',))
    with pytest.raises(UserError, match='patches an epoch'):
        make_trainer(tmp_path / 'run', tiny_recipe(), Phantoms(9))
    wave = tiny_recipe(rates=Rates(schedule='cosine'))
    make_trainer(tmp_path / 'wave', wave).fit()
    longer = dataclasses.replace(wave, schedule=Schedule(steps=9, batch_size=2))
    with pytest.raises(UserError, match=r'schedule\.steps'):
        make_trainer(tmp_path / 'wave', longer)


def test_other_data_and_models_are_not_taken_up(tmp_path, monkeypatch):
    file = DataFile('train', 'a', 'image', 'a.nii', '1')
    out = tmp_path / 'run'
    monkeypatch.setattr('training_phantoms.DATA', dataclasses.replace(DATA, files=(file,)))
    make_trainer(tmp_path / 'first', tiny_recipe(seed=1)).fit()
    first = load_model(tmp_path / 'first' / 'model')
    make_trainer(tmp_path / 'second', tiny_recipe(seed=2)).fit()
    second = load_model(tmp_path / 'second' / 'model')
    make_trainer(out, tiny_recipe(), init=first).fit()

    # What became of the model is in the checkpoint: it need not be named again.
    assert make_trainer(out, tiny_recipe()).taken_up
    assert make_trainer(out, tiny_recipe(), init=first).taken_up
    with pytest.raises(UserError, match='another model as --init'):
        make_trainer(out, tiny_recipe(), init=second)
    with pytest.raises(UserError, match='another model as --init'):
        make_trainer(tmp_path / 'second', tiny_recipe(seed=2), init=first)
    changed = dataclasses.replace(DATA, files=(file._replace(digest='2'),))
    monkeypatch.setattr('training_phantoms.DATA', changed)
    with pytest.raises(UserError, match=r'other data: image a\.nii of a \(train\) has another'):
        make_trainer(out, tiny_recipe())


def test_another_number_of_processes_does_not_go_on(tmp_path):
    make_trainer(tmp_path, tiny_recipe()).fit()
    state = tmp_path / 'checkpoints' / 'last' / 'state.json'
    state.write_text(state.read_text().replace('"processes": 1', '"processes": 2'))
    with pytest.raises(UserError, match=r'other numbers of processes \(2, now 1\)'):
        make_trainer(tmp_path, tiny_recipe())


def test_a_score_that_is_not_finite_chooses_nothing(tmp_path):
    progress = Progress()
    assert not progress.judge(math.nan, tiny_recipe())
    assert progress.best is None
    assert progress.judge(1.0, tiny_recipe())
    assert not progress.judge(math.inf, tiny_recipe())
    assert progress.best == 1.0

    trainer = make_trainer(tmp_path, tiny_recipe())
    with torch.no_grad():
        trainer.networks.plain_generator.head.conv.weight.fill_(math.nan)
    with pytest.raises(UserError, match=r'score is not finite in step 0 \(psnr nan, dice'):
        trainer.fit()
    assert not (tmp_path / 'checkpoints').exists()


def test_training_learns(tmp_path):
    recipe = tiny_recipe(
        schedule=Schedule(epochs=20, batch_size=4, ema=0.9),
        loss=Loss(segmentation='dice+cross-entropy', segmentation_weight=0.3),
        optimiser=Optimiser(learning_rate=3e-3),
        validation=Validation(every_epochs=10, patches=4, pictures=0, score='gain+10*dice'),
    )
    outcome = make_trainer(tmp_path, recipe, Phantoms(16)).fit()
    rows = read_log(tmp_path / 'log.csv')
    assert [row['epoch'] for row in rows] == [0, 10, 20]
    assert rows[0]['gain'] == pytest.approx(0, abs=0.05)
    assert rows[2]['loss_total'] < rows[1]['loss_total']
    assert outcome.scores['gain'] > 0.1
    assert outcome.scores['dice_cortex'] > rows[0]['dice_cortex'] + 0.1
    assert rows[2]['score'] == pytest.approx(rows[2]['gain'] + 10 * rows[2]['dice'])


def test_critic_is_updated_by_its_schedule_on_patches_of_its_own(tmp_path):
    seen = []

    class Listening(Phantoms):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    recipe = adversarial_recipe(schedule=Schedule(steps=4, batch_size=2))
    make_trainer(tmp_path, recipe, Listening()).fit()
    # One for the head start, two before every update, one more before the fourth.
    assert last(tmp_path).state['progress']['critic_step'] == 1 + 4 * 2 + 1
    training = seen[1:]
    assert [i for i in training if i < 2**39] == list(range(8))
    critic = [i for i in training if i >= 2**39]
    assert len(critic) == len(set(critic)) == 20
    assert critic[0] % len(Listening()) == 0
    rows = read_log(tmp_path / 'log.csv')
    total = sum(rows[-1][f'critic_loss_{name}'] for name in ('real', 'fake', 'penalty'))
    assert rows[-1]['critic_loss_total'] == pytest.approx(total, rel=1e-4)


@pytest.mark.parametrize('normalisation', ['patch-standard', 'volume-max'])
def test_a_constant_patch_gives_no_nan(tmp_path, normalisation):
    recipe = adversarial_recipe(
        sampling=Sampling(patch_size=EDGE, normalisation=normalisation),
        loss=Loss(segmentation='dice+cross-entropy', adversarial_weight=0.01),
    )
    make_trainer(tmp_path, recipe, Phantoms(constant=2)).fit()
    assert all(tensor.isfinite().all() for tensor in last(tmp_path).tensors.values())


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r'not finite in step 4 \(samples 8, 9\)'):
        make_trainer(tmp_path, tiny_recipe(), Phantoms(broken=9)).fit()
    kept = last(tmp_path)
    assert kept.state['step'] == 3
    assert all(tensor.isfinite().all() for tensor in kept.tensors.values())


FOUR = ('intensity', 'cortex', 'outside', 'inside')
LABELS = {'cortex': (1,), 'inside': (2,)}
KINDS = {
    'film': ('segsrgan', {'base_filters': 4, 'n_blocks': 1, 'conditional': 'film'}, {}),
    'classes': (
        'segsrgan-unet',
        {'base_filters': 4, 'mask_classes': 2},
        {'task': Task(channels=FOUR, labels=LABELS)},
    ),
    'recnn': ('recnn', {'depth': 2, 'filters': 4, 'guides': 1}, {'guides': 1}),
    'mdcsrn': ('mdcsrn', {'b': 1, 'u': 1, 'k': 2}, {}),
    'rrdg': ('rrdg', {'n_c': 1, 'n_f': 4, 'k': 2}, {}),
    'unet': (
        'unet',
        {'base_filters': 2},
        {
            'task': Task(input='high-resolution'),
            'loss': Loss(intensity='none', segmentation='cross-entropy'),
            'validation': Validation(every_steps=2, score='dice', patches=2, pictures=1),
        },
    ),
}


@pytest.mark.parametrize('kind', KINDS)
def test_networks_of_all_kinds_are_trained_and_kept(tmp_path, kind):
    architecture, options, changes = KINDS[kind]
    changes = dict(changes)
    guides = changes.pop('guides', 0)
    if architecture in ('recnn', 'mdcsrn', 'rrdg'):
        changes['task'] = Task(channels=('intensity',))
        changes['validation'] = Validation(every_steps=2, patches=2, pictures=1)
    recipe = tiny_recipe(
        network=Network(architecture, options), schedule=Schedule(steps=2, batch_size=2), **changes
    )
    data = Phantoms(channels=recipe.task.channels, guides=guides)
    outcome = make_trainer(tmp_path / 'run', recipe, data).fit()
    assert all(math.isfinite(value) for value in outcome.scores.values())
    assert len(list((tmp_path / 'run' / 'samples').glob('*.png'))) == 2
    if kind == 'classes':
        assert {'dice_cortex', 'dice_inside'} <= outcome.scores.keys()
        assert 'dice_outside' not in outcome.scores
    model = load_model(tmp_path / 'run' / 'model')
    assert model.card.channels == recipe.task.channels
    assert model.card.training['steps'] == 2
    if not guides:
        verify_model(tmp_path / 'run' / 'model')
    best = load_checkpoint(tmp_path / 'run' / 'checkpoints' / 'best')
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(tensor.float(), best.tensors[f'network.{name}'].float())


def test_networks_that_do_not_fit_the_data_are_refused(tmp_path):
    recnn = tiny_recipe(network=Network('recnn', {'depth': 2, 'filters': 4}))
    with pytest.raises(UserError, match=r'gives 1 x 8 x 8 x 8, the target is 2 x 8 x 8 x 8'):
        make_trainer(tmp_path, recnn)
    with pytest.raises(UserError, match='the data have intensity, the recipe intensity, cortex'):
        make_trainer(tmp_path, tiny_recipe(), Phantoms(channels=('intensity',)))
    critic = Network('segsrgan-critic', {'base_filters': 2, 'patch_size': 16})
    with pytest.raises(UserError, match='patch_size'):
        make_trainer(tmp_path, dataclasses.replace(adversarial_recipe(), critic=critic))
    with pytest.raises(UserError, match='start_near_identity'):
        make_trainer(tmp_path, tiny_recipe(network=Network('recnn', {}, start_near_identity=True)))


def test_a_pipeline_sees_what_its_first_stage_gives(tmp_path):
    make_trainer(tmp_path / 'first', tiny_recipe()).fit()
    first = tmp_path / 'first' / 'model'
    recipe = tiny_recipe(
        network=Network('unet', {'base_filters': 2}),
        task=Task(input='super-resolved', super_resolved_by=str(first)),
        loss=Loss(intensity='none', segmentation='cross-entropy'),
        validation=Validation(every_steps=3, score='dice', patches=2, pictures=0),
    )
    trainer = make_trainer(tmp_path / 'second', recipe)
    patch = {k: v[None] for k, v in Phantoms()[0].items()} | {'index': torch.tensor([0])}
    batch = trainer.updater.prepared(patch)
    low = patch['image']
    mean, sd = low.mean(), low.std(correction=0)
    with torch.no_grad():
        expected = load_model(first).network((low - mean) / sd)[:, :1]
    expected = (expected - expected.mean()) / expected.std(correction=0)
    torch.testing.assert_close(batch.image, expected, rtol=1e-3, atol=1e-4)
    trainer.fit()


def test_training_starts_from_a_model_and_leaves_frozen_layers(tmp_path):
    make_trainer(tmp_path / 'first', tiny_recipe()).fit()
    model = load_model(tmp_path / 'first' / 'model')
    before = {name: t.clone() for name, t in model.network.state_dict().items()}
    trainer = make_trainer(
        tmp_path / 'tuned', tiny_recipe(seed=5), init=model, freeze=('conv1.*', '*.norm_a.*')
    )
    for name, tensor in trainer.networks.plain_generator.state_dict().items():
        assert torch.equal(tensor, before[name])
    trainer.fit()
    after = last(tmp_path / 'tuned').tensors
    frozen = set(trainer.networks.frozen)
    assert 'conv1.conv.conv.weight' in frozen
    assert 'blocks.0.norm_a.scale' in frozen
    for name, tensor in before.items():
        assert torch.equal(tensor, after[f'generator.{name}']) == (name in frozen), name


def test_models_that_cannot_be_started_from_are_refused(tmp_path, caplog):
    make_trainer(tmp_path / 'first', tiny_recipe()).fit()
    model = load_model(tmp_path / 'first' / 'model')

    def start(architecture, freeze=(), **options):
        recipe = tiny_recipe(network=Network(architecture, {'base_filters': 4, **options}))
        return make_trainer(tmp_path / 'tuned', recipe, init=model, freeze=freeze)

    with pytest.raises(UserError, match=r'gives the channels .* are intensity, rim;'):
        task = Task(channels=('intensity', 'rim'), labels={'rim': (1,)})
        make_trainer(
            tmp_path / 'tuned',
            tiny_recipe(task=task),
            Phantoms(channels=task.channels),
            init=model,
        )
    scaled = tiny_recipe(sampling=Sampling(patch_size=EDGE, normalisation='volume-max'))
    check_start(scaled, model)
    assert 'was trained with normalisation patch-standard, the recipe has volume' in caplog.text
    with pytest.raises(UserError, match='it is a segsrgan'):
        start('segsrgan-unet')
    with pytest.raises(UserError, match='residual is True, in the recipe False'):
        start('segsrgan', n_blocks=1, residual=False)
    with pytest.raises(UserError, match='another shape'):
        start('segsrgan', n_blocks=1, base_filters=8)
    with pytest.raises(
        UserError, match=r'--freeze nothing: fits no parameter; there are conv1\.\*'
    ):
        start('segsrgan', n_blocks=1, freeze=('nothing',))
    with pytest.raises(UserError, match='nothing to train'):
        start('segsrgan', n_blocks=1, freeze=('*',))
    conditional = start('segsrgan', n_blocks=1, conditional='film').networks
    assert conditional.fresh
    assert all(name.startswith('film.') for name in conditional.fresh)


def test_clipping_bounds_the_step(tmp_path):
    moved = {}
    for clip in (None, 1e-3):
        recipe = tiny_recipe(
            optimiser=Optimiser('sgd', learning_rate=1.0, clip=clip),
            schedule=Schedule(steps=1, batch_size=2),
        )
        trainer = make_trainer(tmp_path / str(clip), recipe)
        before = {n: t.clone() for n, t in trainer.networks.plain_generator.state_dict().items()}
        trainer.fit()
        after = last(tmp_path / str(clip)).tensors
        squares = [(after[f'generator.{n}'] - t).square().sum() for n, t in before.items()]
        moved[clip] = float(torch.stack(squares).sum().sqrt())
    assert moved[None] > 2e-3
    assert moved[1e-3] == pytest.approx(1e-3, rel=1e-3)


def test_patience_and_time_end_a_training(tmp_path):
    recipe = tiny_recipe(
        schedule=Schedule(steps=50, batch_size=1),
        validation=Validation(every_steps=1, patience=3, patches=1, pictures=0, score='loss'),
        optimiser=Optimiser('sgd', learning_rate=1e-12),
        rates=Rates('plateau', gamma=0.5, patience=2),
    )
    progress = make_trainer(tmp_path / 'patience', recipe).fit().progress
    assert progress.stale == 3
    assert progress.step < 50
    rates = [row['learning_rate'] for row in read_log(tmp_path / 'patience' / 'log.csv')]
    assert rates[-1] == pytest.approx(5e-13)
    assert rates[0] == pytest.approx(1e-12)

    recipe = tiny_recipe(schedule=Schedule(minutes=0.02, batch_size=1))
    started = time.monotonic()
    progress = make_trainer(tmp_path / 'time', recipe).fit().progress
    assert progress.step >= 1
    assert progress.seconds >= 1.2
    assert time.monotonic() - started < 20


def test_waiting_is_measured(tmp_path):
    class Slow(Phantoms):
        def __getitem__(self, index):
            time.sleep(0.1)
            return super().__getitem__(index)

    progress = make_trainer(tmp_path, tiny_recipe(), Slow()).fit().progress
    # Six steps of two patches.
    assert 1.2 <= progress.all_waited <= progress.all_trained
    shares = [row['wait_share'] for row in read_log(tmp_path / 'log.csv')[1:]]
    assert np.mean(shares) == pytest.approx(progress.all_waited / progress.all_trained, rel=0.3)


def test_mixed_precision_trains(tmp_path):
    recipe = adversarial_recipe(schedule=Schedule(steps=3, batch_size=2, precision='bf16'))
    outcome = make_trainer(tmp_path, recipe).fit()
    assert math.isfinite(outcome.scores['psnr'])
    weights = last(tmp_path).tensors
    assert weights['generator.head.conv.weight'].dtype == torch.float32

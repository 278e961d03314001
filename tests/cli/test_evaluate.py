"""The command: what it prints, writes and refuses."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from evaluation_phantoms import write_head, write_list, write_model

from bids_segsr.cli import evaluate
from bids_segsr.exceptions import UserError


def call(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    evaluate.add_parser(parser.add_subparsers())
    given = parser.parse_args(['evaluate', *map(str, arguments)])
    return int(given.func(given))


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('command')
    write_list(root / 'heads.csv', [write_head(root, f'sub-{n}', n) for n in (1, 2)])
    write_model(root, 'one', seed=1)
    return root


def test_evaluate(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / 'out'
    arguments = (
        'ablation', '--data', root / 'heads.csv', '--models', f'ours={root / "one"}', '--out', out,
        '--device', 'cpu', '--slice-distance', '4', '--patch-size', '16', '--scan-noise', '1%',
    )  # fmt: skip
    assert call(*arguments) == 0
    printed = capsys.readouterr()
    table = (out / 'table.txt').read_text(encoding='utf-8')
    assert table.strip() in printed.out
    assert 'Ablation' in table
    assert 'sub-1, ours: PSNR' in printed.err
    for name in ('rows.tsv', 'summary.tsv', 'tests.tsv', 'ablation.png', 'ablation.svg'):
        assert (out / name).stat().st_size > 0
    page = (out / 'report.html').read_text(encoding='utf-8')
    assert str(out / 'report.html') in printed.out
    body = page.split('<body', 1)[1]
    assert re.findall('<h2>(.*?)</h2>', body) == [
        'Ablation', 'Figure: Ablation', 'Paired tests', 'Settings',
    ]  # fmt: skip
    assert 'data:image/svg+xml;base64,' in body
    assert not re.search(r'(?:src|href)="(?!data:)', body)
    shown = [line for line in table.splitlines() if line.startswith('ours')]
    cells = re.findall(r'<th scope="row">ours</th>(.*?)</tr>', body)
    assert re.findall('>([^<]+)</td>', cells[0]) == re.split(' {2,}', shown[0])[1:]
    settings = json.loads((out / 'settings.json').read_text(encoding='utf-8'))
    assert settings['models']['ours'][0]['name'] == 'one'
    assert len(settings['models']['ours'][0]['sha256']) == 64
    assert settings['imaging']['forward']['spacing_mm'] == [4.0, 4.0]
    assert (settings['imaging']['noise'], settings['imaging']['relative_noise']) == (0.01, True)
    assert settings['data']['heads']['test'] == ['sub-1', 'sub-2']
    assert settings['machine']['device'] == 'cpu'
    rows = (out / 'rows.tsv').read_bytes()
    assert call(*arguments) == 0
    assert (out / 'rows.tsv').read_bytes() == rows
    assert 'sub-2: kept' in capsys.readouterr().err
    with pytest.raises(UserError, match='holds results of ablation'):
        call('compare', '--data', root / 'heads.csv', '--out', out)


def test_a_failed_image_ends_in_one(root: Path, tmp_path: Path) -> None:
    heads = [write_head(tmp_path, f'sub-{n}', n) for n in (1, 2)]
    assert heads[0].image is not None
    content = heads[0].image.read_bytes()
    heads[0].image.write_bytes(content[: len(content) // 2])
    csv = write_list(tmp_path / 'heads.csv', heads)
    out = tmp_path / 'out'
    assert call('ablation', '--data', csv, '--out', out, '--device', 'cpu') == 1
    rows = pd.read_csv(out / 'rows.tsv', sep='\t')
    assert set(rows['subject']) == {'sub-2'}


def test_two_lists_and_flags_of_the_protocols(root: Path, tmp_path: Path) -> None:
    csv = root / 'heads.csv'
    out = tmp_path / 'transfer'
    assert call('transfer', '--data', csv, f'again={csv}', '--out', out, '--device', 'cpu') == 0
    assert set(pd.read_csv(out / 'rows.tsv', sep='\t')['dataset']) == {'heads', 'again'}
    out = tmp_path / 'robustness'
    assert call(
        'robustness', '--data', csv, '--out', out, '--noise', '3', '--powers', '2', '--device',
        'cpu',
    ) == 0  # fmt: skip
    assert list(pd.read_csv(out / 'rows.tsv', sep='\t')['variant'].unique()) == [
        'original', 'noisy', 'power 2',
    ]  # fmt: skip
    assert json.loads((out / 'settings.json').read_text())['tiling']['patch_size'] == 128


def test_forward_model_and_labels_of_a_recipe(root: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'
    assert call(
        'ablation', '--data', root / 'heads.csv', '--out', out, '--recipe', 'mdcsrn-b4u4',
        '--device', 'cpu',
    ) == 0  # fmt: skip
    settings = json.loads((out / 'settings.json').read_text(encoding='utf-8'))
    assert settings['imaging']['forward']['kind'] == 'k-space'


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--models', 'nowhere'], 'no such model'),
        (['--metrics', 'beauty'], 'unknown; known are psnr'),
        (['--metrics', 'm_h'], '--parcellation'),
        (['--slice-distance', '3', '--isotropic', '2'], 'give one of them'),
        (['--step', '500'], '--step 500'),
        (['--device', 'toaster'], "--device is 'toaster'"),
        (['--slice-distance', '0.5'], 'finer than the image'),
        (['--isotropic', '2', '--profile', 'box'], 'simulated scan: isotropic'),
        (['--metrics', 'dice'], '--metrics dice: no model segments cortex'),
        (['--label', 'white=99'], '--label white: no model has such a channel; none segments'),
    ],
)
def test_mistakes(root: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        call('compare', '--data', root / 'heads.csv', '--out', tmp_path / 'out', *arguments)


def test_structures_that_are_not_there(root: Path, tmp_path: Path) -> None:
    model = ('--models', root / 'one', '--out', tmp_path / 'out')
    listed = ('--data', root / 'heads.csv')
    with pytest.raises(UserError, match='--label cortex=98,99: no label image'):
        call('compare', *listed, *model, '--label', 'cortex=98,99')
    with pytest.raises(UserError, match=r'--label white: no model.*they have cortex'):
        call('compare', *listed, *model, '--label', 'cortex=1', 'white=2')
    head = write_head(tmp_path, 'sub-1', 1)
    csv = write_list(tmp_path / 'heads.csv', [head])
    csv.write_text(csv.read_text().replace(str(head.label), ''))
    with pytest.raises(UserError, match='--metrics dice: no image has a Label_image'):
        call('compare', '--data', csv, *model, '--metrics', 'psnr', 'dice')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('protocol', 'flag'),
    [('steps', '--step'), ('robustness', '--scan-noise'), ('scales', '--isotropic')],
)
def test_what_a_protocol_varies_cannot_be_fixed(protocol: str, flag: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f'{flag}: {protocol} varies this'):
        call(protocol, '--data', 'x.csv', '--out', tmp_path / 'out', flag, '2')
    assert not (tmp_path / 'out').exists()


def test_folder_of_something_else(root: Path, tmp_path: Path) -> None:
    (tmp_path / 'thesis.txt').write_text('mine')
    with pytest.raises(UserError, match='something else'):
        call('compare', '--data', root / 'heads.csv', '--out', tmp_path)


@pytest.mark.parametrize('text', ['-1', '3x', 'nan%'])
def test_noise_that_is_none(root: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call('compare', '--data', 'x.csv', '--out', 'y', f'--scan-noise={text}')
    assert '--scan-noise' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('protocol', 'flag', 'text'),
    [('compare', '--seed', '-1'), ('compare', '--isotropic', '0.5'),
     ('robustness', '--powers', '0')],
)  # fmt: skip
def test_numbers_out_of_range(
    protocol: str, flag: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call(protocol, '--data', 'x.csv', '--out', 'y', flag, text)
    assert f'argument {flag}: {text}: give' in capsys.readouterr().err


def test_help_is_quick() -> None:
    code = (
        'import argparse, sys\n'
        'from bids_segsr.cli import evaluate\n'
        'parser = argparse.ArgumentParser()\n'
        'evaluate.add_parser(parser.add_subparsers())\n'
        "heavy = {'torch', 'SimpleITK', 'matplotlib', 'pandas', 'numpy'} & set(sys.modules)\n"
        'assert not heavy, heavy\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)

"""Files at the root of the derivatives."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bids_segsr import __version__
from bids_segsr.bids.citation import write_citation
from bids_segsr.bids.description import (
    write_bidsignore,
    write_dataset_description,
    write_dseg_tsv,
)
from bids_segsr.bids.locking import subject_lock
from bids_segsr.exceptions import UserError
from bids_segsr.files import write_text


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    root = tmp_path / 'raw'
    root.mkdir()
    content = {'Name': 'x', 'BIDSVersion': '1.9.0', 'License': 'CC0', 'DatasetDOI': 'doi:10.1/ab'}
    (root / 'dataset_description.json').write_text(json.dumps(content), encoding='utf-8')
    return root


def described(root: Path) -> dict:
    return json.loads((root / 'dataset_description.json').read_text(encoding='utf-8'))


def test_description_names_program_sources_and_links(raw: Path, tmp_path: Path) -> None:
    out = tmp_path / 'out'

    write_dataset_description(out, raw, {'masks': tmp_path / 'm'})

    content = described(out)
    assert content['DatasetType'] == 'derivative'
    assert content['GeneratedBy'][0]['Name'] == 'bids_segsr'
    assert content['GeneratedBy'][0]['Version'] == __version__
    assert content['License'] == 'CC0'
    assert content['SourceDatasets'] == [{'URL': 'https://doi.org/10.1/ab', 'DOI': '10.1/ab'}]
    assert content['DatasetLinks'] == {'raw': raw.as_uri(), 'masks': (tmp_path / 'm').as_uri()}


def test_description_inside_the_input_links_to_it_relatively(raw: Path) -> None:
    out = raw / 'derivatives' / 'x'

    write_dataset_description(out, raw)

    assert described(out)['DatasetLinks'] == {'raw': '../..'}


def test_description_without_that_of_the_input(tmp_path: Path) -> None:
    write_dataset_description(tmp_path / 'out', tmp_path)

    assert 'License' not in described(tmp_path / 'out')


def test_description_keeps_links_of_earlier_runs(raw: Path, tmp_path: Path) -> None:
    write_dataset_description(tmp_path / 'out', raw, {'masks': tmp_path})
    write_dataset_description(tmp_path / 'out', raw)

    assert set(described(tmp_path / 'out')['DatasetLinks']) == {'raw', 'masks'}


def test_description_warns_of_another_version(
    raw: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    earlier = {'GeneratedBy': [{'Name': 'bids_segsr', 'Version': '0.0.1'}]}
    (tmp_path / 'dataset_description.json').write_text(json.dumps(earlier), encoding='utf-8')

    write_dataset_description(tmp_path, raw)

    assert 'made by version 0.0.1' in caplog.text


@pytest.mark.parametrize(
    ('variable', 'value', 'container'),
    [
        ('BIDS_SEGSR_DOCKER_TAG', '1.0', {'Type': 'docker', 'Tag': 'bids_segsr:1.0'}),
        ('BIDS_SEGSR_SINGULARITY_URL', 'a.sif', {'Type': 'singularity', 'URI': 'a.sif'}),
    ],
)
def test_description_names_the_container(
    raw: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    container: dict,
) -> None:
    monkeypatch.setenv(variable, value)

    write_dataset_description(tmp_path / 'out', raw)

    assert described(tmp_path / 'out')['GeneratedBy'][0]['Container'] == container


def test_bidsignore_keeps_lines_and_has_no_trailing_slash(tmp_path: Path) -> None:
    (tmp_path / '.bidsignore').write_text('extra.txt\nfigures\n', encoding='utf-8')

    write_bidsignore(tmp_path)
    write_bidsignore(tmp_path)

    lines = (tmp_path / '.bidsignore').read_text(encoding='utf-8').splitlines()
    assert lines[0] == 'extra.txt'
    assert len(lines) == len(set(lines))
    assert {'log', '*.html', '*_map.json', '*_qc.json', 'group_*'} <= set(lines)
    assert not any(line.endswith('/') for line in lines)


def test_dseg_maps_cortex_to_the_standard_index(tmp_path: Path) -> None:
    labels = {2: 'hippocampus', 1: 'cortical grey matter', 3: 'WM'}
    rows = write_dseg_tsv(tmp_path, labels).read_text(encoding='utf-8').splitlines()

    assert [row.split('\t') for row in rows] == [
        ['index', 'name', 'abbreviation', 'color', 'mapping'],
        ['1', 'Cortical Gray Matter', 'CGM', '#00bfff', '8'],
        ['2', 'hippocampus', 'n/a', 'n/a', 'n/a'],
        ['3', 'White Matter', 'WM', '#ffb000', '2'],
    ]


def test_every_tissue_of_the_default_model_has_abbreviation_colour_and_mapping(
    tmp_path: Path,
) -> None:
    from bids_segsr.zoo.find import DEFAULT_MODEL, find_card

    regions = dict(enumerate(find_card(DEFAULT_MODEL).regions, start=1))
    table = write_dseg_tsv(tmp_path, regions, seg='regions').read_text(encoding='utf-8')
    rows = [row.split('\t') for row in table.splitlines()[1:]]
    told = ['CGM 8', 'WM 2', 'eCSF 3', 'VEN 3', 'DGM 9', 'CBM 11', 'BS 10']
    assert [f'{row[2]} {row[4]}' for row in rows] == told
    assert len({row[3] for row in rows}) == 7


def test_derivatives_pass_the_official_validator(raw: Path, tmp_path: Path) -> None:
    """A tree of empty NIfTI headers under every name that the App writes."""
    nibabel = pytest.importorskip('nibabel')
    pytest.importorskip('bids_validator_deno')
    import numpy as np

    from bids_segsr.bids.names import derivative_name

    out = tmp_path / 'out'
    write_dataset_description(out, raw)
    write_bidsignore(out)
    write_dseg_tsv(out, {1: 'CGM'})
    write_citation(out, 'Bias field by N4 [@n4].')
    entities = {'subject': '01', 'session': '1', 'acquisition': 'sag', 'run': '2', 'echo': '1'}
    stripped, grid = {'SkullStripped': True}, {'Resolution': '0.5 mm'}
    table = [
        ('T2w', {'desc': 'preproc'}, stripped),
        ('mask', {'desc': 'brain'}, {}),
        ('T2w', {'res': '0p5mm', 'desc': 'model'}, stripped | grid),
        ('dseg', {'res': '0p5mm'}, grid),
        ('probseg', {'res': '0p5mm', 'label': 'CGM'}, grid),
        ('mask', {'res': '0p5mm', 'label': 'CGM'}, grid),
        ('map', {'res': '0p5mm', 'desc': 'entropy'}, grid),
        ('map', {'desc': 'residual'}, {}),
    ]
    for suffix, labels, sidecar in table:
        path = out / derivative_name(entities, suffix=suffix, **labels)
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)), path)
        path.with_name(path.name.replace('.nii.gz', '.json')).write_text(
            json.dumps(sidecar), encoding='utf-8'
        )
    write_text(out / derivative_name(entities, suffix='qc', extension='.json'), '{}')
    figure = derivative_name(entities, suffix='T2w', extension='.svg', datatype='figures')
    write_text(out / figure, '<svg/>')
    write_text(out / 'sub-01' / 'log' / 'run' / 'bids_segsr.toml', 'a = 1\n')
    write_text(out / 'sub-01.html', '<html/>')
    write_text(out / 'group_T2w.tsv', 'bids_name\nx\n')
    with subject_lock(out, '01'):
        pass

    validator = Path(sys.executable).with_name('bids-validator-deno')
    result = subprocess.run(
        [validator, out, '--format', 'json', '--ignoreWarnings'],
        capture_output=True,
        text=True,
        env={'DENO_DIR': str(tmp_path / 'deno'), 'PATH': '/usr/bin:/bin'},
        check=False,
    )
    report = json.loads(result.stdout)

    assert report['issues']['issues'] == []
    assert result.returncode == 0
    assert report['summary']['subjects'] == ['01']


def test_text_is_replaced_whole_and_by_many_at_once(tmp_path: Path) -> None:
    path = tmp_path / 'a' / 'b.txt'
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: write_text(path, str(n % 2) * 1000), range(200)))

    assert path.read_text(encoding='utf-8') in ('0' * 1000, '1' * 1000)
    assert [item.name for item in path.parent.iterdir()] == ['b.txt']


def test_same_text_leaves_the_file_alone(tmp_path: Path) -> None:
    path = write_text(tmp_path / 'a.txt', 'x')
    before = path.stat().st_ino

    write_text(path, 'x')

    assert path.stat().st_ino == before


def test_text_follows_the_umask(tmp_path: Path) -> None:
    reference = tmp_path / 'reference'
    reference.touch()

    assert write_text(tmp_path / 'a.txt', 'x').stat().st_mode == reference.stat().st_mode


def test_text_below_a_file_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / 'file').touch()

    with pytest.raises(UserError, match='cannot be made') as error:
        write_text(tmp_path / 'file' / 'a.txt', 'x')
    assert '\n' not in str(error.value)

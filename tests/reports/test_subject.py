"""The report of one participant: every image, every problem, nothing that gives a person away."""

from __future__ import annotations

import errno
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from test_figures import at

from bids_segsr.exceptions import UserError
from bids_segsr.reports.assembly import find_images
from bids_segsr.reports.drawing import figures
from bids_segsr.reports.methods import methods_html
from bids_segsr.reports.subject import (
    _model,
    count_problems,
    export_single_file,
    generate_report,
)
from bids_segsr.reports.summary_html import image_summary, qc_table
from bids_segsr.reports.viewer import Volumes, viewer_page
from bids_segsr.zoo.find import DEFAULT_MODEL, card_paths, find_card

RUN = '20261121-101010_0f8fad5b'
SECTIONS = [
    'verdict',
    'errors',
    'viewer',
    'brain-mask',
    'super-resolution',
    'segmentation',
    'fidelity',
    'uncertainty',
    'qc',
    'bias-field',
    'summary',
    'rating',
    'methods',
    'model',
    'about',
]

QC = {
    'bids_name': 'sub-01_ses-01_T2w',
    'model': 'phantom',
    'model_sha256': 'ab12' * 16,
    'device': 'cpu',
    'resolution_mm': 0.5,
    'spacing_i': 1.0,
    'spacing_j': 1.0,
    'spacing_k': 3.0,
    'slice_axis': 'k',
    'slice_thickness_mm': 3.0,
    'brain_volume_ml': 431.27,
    'cortex_volume_ml': 98.51,
    'components_before': 31,
    'components_after': 4,
    'largest_share': 0.994,
    'holes': 12,
    'euler_number': -57,
    'fidelity_nrmse': 0.0412,
    'fidelity_nrmse_spline': 0.0535,
    'fidelity_correlation': 0.991,
    'fidelity_correlation_spline': 0.984,
    'entropy_mean': 0.087,
    'disagreement_mean': 0.012,
    'header_notes': ['sform and qform disagree by up to 1.2 mm: the sform was used.'],
    'warnings': ['Slices are thicker than the model was trained for (3.0 mm, up to 2.5 mm).'],
    'skull_strip': 'given mask (derivatives: masks)',
    'versions': {'torch': '2'},
}


CRASH = """\
Node: bids_segsr_wf.sub-01_ses-01_T2w_wf.image.segsr
Working directory: /home/jane.doe/scratch/work/bids_segsr_wf/segsr

Node inputs:

card_json = {
"name": "a value of
several lines without an equals sign"
}
device = <undefined>
in_file = {ROOT}/sub-01/ses-01/anat/x.nii.gz

Traceback (most recent call last):
  File "/home/jane.doe/env/lib/python3.11/site-packages/nipype/pipeline/engine/nodes.py", line 1
    result = self._run_command(execute=True)
ValueError: <script>alert(1)</script> bad patch in /home/jane.doe/data
"""

VIEWER = viewer_page(
    Volumes(
        at('smooth'),
        at('scan'),
        at('mask'),
        scan=at('scan'),
        residual=at('residual'),
        segmentation=at('label'),
        names={1: 'Cortical <plate>'},
    ),
    'Phantom <T2w>',
)


@dataclass(frozen=True)
class FakeSettings:
    bids_dir: Path
    output_dir: Path
    work_dir: Path | None = None
    model: str | None = None
    threshold: float = 0.5


def make_tree(root: Path, subject: str = '01') -> FakeSettings:
    """Write derivatives of a participant: two sessions, a second run, an error, two crashes."""
    folder = root / f'sub-{subject}' / 'figures'
    folder.mkdir(parents=True)
    kind = {
        'n4': lambda out: figures.plot_before_after(
            at('scan'), at('smooth'), out, before_label='Scan', after_label='N4-corrected'
        ),
        'brainmask': lambda out: figures.plot_mask_contours(at('scan'), at('mask'), out),
        'superresolution': lambda out: figures.plot_before_after(
            at('scan'), at('smooth'), out, before_label='Cubic spline', after_label='SR'
        ),
        'segmentation': lambda out: figures.plot_segmentation(at('scan'), at('probability'), out),
        'fidelity': lambda out: figures.plot_fidelity(at('residual'), at('scan'), out),
        'uncertainty': lambda out: figures.plot_uncertainty(
            at('entropy'), at('residual'), at('scan'), out
        ),
    }
    first = f'sub-{subject}_ses-01'
    others = (f'sub-{subject}_ses-02_run-1', f'sub-{subject}_ses-02_run-10')
    for desc, draw in kind.items():
        figure = draw(folder / f'{first}_desc-{desc}_T2w.svg')
        for other in others:
            shutil.copy(figure, folder / f'{other}_desc-{desc}_T2w.svg')
    for number, prefix in enumerate((first, *others)):
        qc = {**QC, 'bids_name': f'{prefix}_T2w', 'cortex_volume_ml': 98.51 + number}
        session = prefix.split('_')[1]
        anat = root / f'sub-{subject}' / session / 'anat'
        anat.mkdir(parents=True, exist_ok=True)
        (anat / f'{prefix}_qc.json').write_text(json.dumps(qc), encoding='utf-8')
        (folder / f'{prefix}_desc-qc_T2w.html').write_text(qc_table(qc), encoding='utf-8')
        (folder / f'{prefix}_desc-viewer_T2w.html').write_text(VIEWER, encoding='utf-8')
        (folder / f'{prefix}_desc-summary_T2w.html').write_text(
            summary(prefix, qc), encoding='utf-8'
        )
    log = root / f'sub-{subject}' / 'log' / RUN
    log.mkdir(parents=True)
    refused = [{
        'image': f'sub-{subject}_ses-03_T2w',
        'message': f'{root.parent}/raw/sub-{subject}_ses-03_T2w.nii.gz: holds NaN <voxels>',
    }]  # fmt: skip
    (log / 'errors.json').write_text(json.dumps(refused), encoding='utf-8')
    (log / 'crash-20261121-101112-jane.doe-segsr-1f.txt').write_text(
        CRASH.replace('{ROOT}', str(root)), encoding='utf-8'
    )
    (log / 'crash-20261121-101113-jane.doe-odd-2f.txt').write_bytes(b'\xff\xfe\x00 no node here')
    (log / 'bids_segsr.toml').write_text(
        f'output_dir = "{root}"\nthreshold = 0.5\n', encoding='utf-8'
    )
    (root / 'logs').mkdir(exist_ok=True)
    (root / 'logs' / 'CITATION.md').write_text(
        '# Methods\n\nDone with *bids_segsr*, N4 [@n4], and **networks** [@segsrgan; @n4].\n',
        encoding='utf-8',
    )
    (root / 'logs' / 'CITATION.bib').write_text(
        "@article{n4,\n  author = {Tustison, N and Doll{\\'e}, G},\n  title = {{N4ITK}},\n"
        '  journal = {IEEE TMI},\n  year = {2010},\n  doi = {10.1109/tmi.2010.2046908}\n}\n',
        encoding='utf-8',
    )
    return FakeSettings(root.parent / 'raw', root)


def summary(prefix: str, qc: dict) -> str:
    return image_summary(
        file=f'{prefix}_T2w.nii.gz',
        qc=qc,
        shape=(40, 44, 14),
        fine_shape=(80, 88, 84),
        slice_direction=2,
    )


def body(report: Path) -> str:
    return report.read_text(encoding='utf-8').split('<body', 1)[1]


def test_sections_in_their_order(report: Path) -> None:
    assert report.name == 'sub-01.html'
    assert re.findall(r'<section id="([\w-]+)"', report.read_text(encoding='utf-8')) == SECTIONS


def test_every_image_is_in_every_section_in_natural_order(report: Path) -> None:
    text = body(report)
    for section in SECTIONS[2:12]:
        part = text.split(f'<section id="{section}"')[1].split('<section id=')[0]
        assert re.findall(r'<h3>(.*?)</h3>', part) == [
            'Session 01, T2w',
            'Session 02, run 1, T2w',
            'Session 02, run 10, T2w',
        ], section
    sources = re.findall(r'\b(?:src|data)="\./([^"]+)"', text)
    assert len(sources) == len(set(sources)) == 21
    assert all((report.parent / name).is_file() for name in sources)


def test_no_address_but_references(report: Path) -> None:
    text = re.sub(
        r'<script>.*?</script>|<style>.*?</style>',
        '',
        report.read_text(encoding='utf-8'),
        flags=re.S,
    )
    assert re.findall(r'(?:src|data|href)="(http[^"]+)"', text) == [
        'https://doi.org/10.1109/tmi.2010.2046908'
    ]
    assert 'sourceMappingURL' not in report.read_text(encoding='utf-8')
    assert 'Permission is hereby granted' in report.read_text(encoding='utf-8')


def test_problems_are_told_and_escaped(report: Path) -> None:
    text = body(report)
    errors = text.split('<section id="errors"')[1].split('<section id=')[0]
    assert '3 problems were met' in errors
    assert count_problems(report) == 3
    assert 'sub-01_ses-03_T2w' in errors
    assert 'NaN &lt;voxels&gt;' in errors
    assert (
        '<strong>sub-01_ses-01_T2w</strong>: step segsr failed: ValueError: &lt;script' in errors
    )
    assert '&lt;undefined&gt;' in errors
    assert '&lt;script&gt;alert(1)&lt;/script&gt;' in errors
    assert 'several lines without an equals sign' in errors
    assert 'no node here' in errors


def test_no_user_name_or_home_folder(report: Path) -> None:
    text = body(report)
    assert 'jane' not in text
    assert '/home/' not in text
    assert str(report.parent) not in text


def test_methods_and_about(report: Path) -> None:
    text = body(report)
    assert '<em>bids_segsr</em>, N4 [<a href="#ref-n4">1</a>]' in text
    assert '[<a href="#ref-segsrgan">2</a>, <a href="#ref-n4">1</a>]' in text
    assert 'Tustison, Dollé. N4ITK. IEEE TMI. 2010.' in text
    assert RUN in text
    assert 'output_dir = &quot;&lt;output&gt;&quot;' in text


def test_same_bytes_again_and_figures_untouched(
    tree: tuple[Path, FakeSettings], report: Path
) -> None:
    root, settings = tree
    figure = root / 'sub-01/figures/sub-01_ses-01_desc-n4_T2w.svg'
    before = report.read_bytes(), figure.read_bytes()
    generate_report(root, '01', RUN, settings)
    assert (report.read_bytes(), figure.read_bytes()) == before


def test_image_without_entities_beside_one_that_has_them(tmp_path: Path) -> None:
    figure = tmp_path / 'sub-07/figures'
    figure.mkdir(parents=True)
    for prefix in ('sub-07', 'sub-07_acq-sag', 'sub-07_ses-1_run-2'):
        (figure / f'{prefix}_desc-qc_T2w.html').write_text(f'<p>{prefix}!</p>', encoding='utf-8')
    text = body(generate_report(tmp_path, '07', RUN, {}))
    for prefix in ('sub-07', 'sub-07_acq-sag', 'sub-07_ses-1_run-2'):
        assert text.count(f'<p>{prefix}!</p>') == 1
    assert [image.title for image in find_images(figure)] == [
        'T2w',
        'Acquisition sag, T2w',
        'Session 1, run 2, T2w',
    ]


def test_only_errors(tmp_path: Path) -> None:
    log = tmp_path / 'sub-02' / 'log' / RUN
    log.mkdir(parents=True)
    (log / 'errors.json').write_text(
        '[{"image": "sub-02_T2w", "message": "is empty"}]', encoding='utf-8'
    )
    report = generate_report(tmp_path, '02', RUN, FakeSettings(tmp_path / 'raw', tmp_path))
    text = body(report)
    assert 'No image of this participant could be processed' in text
    assert 'is empty' in text
    assert count_problems(report) == 1


def test_nothing_at_all_still_gives_a_page(tmp_path: Path) -> None:
    report = generate_report(tmp_path, '03', RUN, {})
    assert 'no result and no message' in body(report)
    assert count_problems(report) == 1


def test_single_file_holds_everything(report: Path) -> None:
    single = export_single_file(report)
    assert single.name == 'sub-01_single.html'
    text = single.read_text(encoding='utf-8')
    assert not re.search(r'(?:src|data|href)="\./', text)
    assert text.count('data:image/svg+xml;charset=utf-8,') == 18
    figures_size = sum(f.stat().st_size for f in (report.parent / 'sub-01/figures').glob('*.svg'))
    assert text.count(' srcdoc="') == 3
    assert len(text) < 1.2 * (figures_size + 3 * len(VIEWER)) + report.stat().st_size


def test_single_file_goes_where_it_is_wanted_whole_or_not_at_all(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = export_single_file(report).read_text(encoding='utf-8')
    target = tmp_path / 'elsewhere' / 'scan_report.html'
    assert export_single_file(report, target) == target
    assert target.read_text(encoding='utf-8') == text
    target.unlink()

    def full(path: Path, content: bytes) -> int:
        with path.open('wb') as file:
            file.write(content[:4096])
        raise OSError(errno.ENOSPC, 'No space left on device', str(path))

    monkeypatch.setattr(Path, 'write_bytes', full)
    with pytest.raises(UserError, match='No space left on device'):
        export_single_file(report, target)
    assert not [*target.parent.iterdir()]


def test_verdict_stands_before_everything_with_its_reasons(tmp_path: Path) -> None:
    root = tmp_path / 'out'
    settings = make_tree(root)
    for path in (root / 'sub-01').rglob('*run-1_qc.json'):
        wrong = {**json.loads(path.read_text()), 'brain_solidity': 0.7, 'warnings': ['<b>']}
        path.write_text(json.dumps(wrong), encoding='utf-8')
    text = body(generate_report(root, '01', RUN, settings))
    first = text.split('<section id="verdict"')[1].split('<section id=')[0]
    assert re.findall(r'class="banner (\w+)"', first) == ['failed'] * 4 + ['usable'] * 2
    assert 'Session 02, run 1, T2w</strong> <span class="said">Failed' in first
    assert 'The brain mask has no shape that a brain has: 0.7, expected 0.82 to 1.' in first
    assert '<li>&lt;b&gt;</li>' in first
    assert first.index('NaN &lt;voxels&gt;') < first.index('Session 02, run 1')
    assert re.findall(r'<span class="verdict (\w+)">', first) == ['usable', 'failed', 'usable']


def test_model_is_told_once_and_no_score_before_the_results(report: Path) -> None:
    text = body(report)
    assert not re.search(
        '(above|below|equal to) back-projection alone', text
    )  # the model is not at hand: no card
    model = text.split('<section id="model"')[1].split('<section id=')[0]
    assert 'phantom' in model
    assert 'ab12' * 16 in model


def test_methods_are_escaped() -> None:
    html = methods_html('Size 64^3^ & <b>x</b>\n\n- one `a<b`\n- two [site](https://x.org/a)')
    assert html == (
        '<p>Size 64<sup>3</sup> &amp; &lt;b&gt;x&lt;/b&gt;</p>\n'
        '<ul><li>one <code>a&lt;b</code></li>'
        '<li>two <a href="https://x.org/a" rel="noopener">site</a></li></ul>'
    )


@pytest.mark.parametrize('setting', ['auto', None, DEFAULT_MODEL, 'path'])
def test_the_card_of_the_model_that_was_used_is_told(setting: str | None) -> None:
    card = find_card(DEFAULT_MODEL)
    given = str(card_paths()[DEFAULT_MODEL].parent) if setting == 'path' else setting
    used = {'model': card.name, 'model_version': card.version, 'model_sha256': card.sha256}
    told = _model({'model': given}, [used])
    assert 'none told on the card' not in told
    assert card.licence in told
    # weights that changed since
    assert 'none told on the card' in _model({'model': given}, [{**used, 'model_sha256': 'ab12'}])

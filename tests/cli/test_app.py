"""One run of the App, with small stand-ins for the model, the workflow and the reports."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from bids_segsr.app import participant_level
from bids_segsr.bids.locking import subject_lock
from bids_segsr.bids.names import derivative_name, graph_name
from bids_segsr.bids.query import Scan
from bids_segsr.cli import app
from bids_segsr.exceptions import ModelError, UserError
from bids_segsr.execution.settings import Settings, read_toml
from bids_segsr.inference.model_choice import choose_model
from bids_segsr.reports.run_errors import read_problems

# knows the names of the packaged models before stand-ins take their place
assert choose_model

CARD = SimpleNamespace(
    cortex_class=None,
    channels=('intensity', 'cortex'),
    name='toy',
    version='1',
    architecture='segsrgan',
    labels={1: 'cortical grey matter'},
    regions=(),
    finds_brain=False,
    contract=SimpleNamespace(
        guides=0,
        interpolation='cubic',
        skull_stripped=True,
        mirrored=False,
        back_projection=0.0,
        back_projection_steps=1,
        input_back_projection_steps=0,
    ),
)
FINDER = SimpleNamespace(name='finder', version='3', finds_brain=True)
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def write_image(path: Path, data: np.ndarray | None = None, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is None:
        data = np.random.default_rng(0).random((10, 10, 6)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def process(in_file: str) -> str:
    """Fail for the image that is marked."""
    if 'run-9' in in_file:
        raise ValueError('marked\nas bad')
    return in_file


QC = '{"warnings": []}'


def save(in_file: str, out_file: str, content: str) -> None:
    from pathlib import Path

    Path(out_file).parent.mkdir(parents=True, exist_ok=True)
    Path(out_file).write_text(content, encoding='utf-8')


def toy_graph(settings: Settings, scan: Scan, card: Any, **_: Any) -> Any:
    from nipype.interfaces.utility import Function
    from nipype.pipeline import engine as pe

    graph = pe.Workflow(graph_name(scan.label))
    step = pe.Node(Function(['in_file'], ['out_file'], process), name='step')
    step.inputs.in_file = str(scan.path)
    names = ['in_file', 'out_file', 'content']
    done = pe.Node(Function(names, [], save), name='save', overwrite=True)
    done.inputs.content = QC
    name = derivative_name(scan.entities, suffix='qc', extension='.json')
    done.inputs.out_file = str(settings.derivatives_root / name)
    graph.connect(step, 'out_file', done, 'in_file')
    return graph


def toy_workflow(graphs: Any) -> Any:
    from niworkflows.engine.workflows import LiterateWorkflow

    workflow = LiterateWorkflow('bids_segsr_wf')
    workflow.__desc__ = 'Told by the graph [@nipype].\n'
    workflow.add_nodes(graphs)
    return workflow


class Bench:
    """A dataset, the stand-ins, and what the App said."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys
        self.raw, self.out = root / 'raw', root / 'out'
        self.reports: list[tuple[str, str]] = []
        self.built: list[list[str]] = []
        self.problems = 0
        self.masks: Any = None

    def image(self, name: str, **options: Any) -> Path:
        subject = name.split('_')[0]
        return write_image(self.raw / subject / 'anat' / f'{name}.nii.gz', **options)

    def run(self, *flags: str, level: str = 'participant') -> tuple[int, str, list[str]]:
        """Return the status, standard output, and the App's own lines of standard error."""
        flags = ('--skip-bids-validation', '--nprocs', '2', '--device', 'cpu', *flags)
        status = app.main([str(self.raw), str(self.out), level, *flags])
        out, err = self.capsys.readouterr()
        assert 'Traceback' not in out + err
        return status, out, [x[12:] for x in err.splitlines() if x.startswith('bids_segsr: ')]

    def logs(self, subject: str) -> list[Path]:
        return sorted((self.out / f'sub-{subject}' / 'log').glob('*'))


@pytest.fixture
def bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Bench:
    bench = Bench(tmp_path, capsys)
    bench.raw.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, 'environ', os.environ.copy())

    def find_card(name: str) -> Any:
        if name == 'finder':
            return FINDER
        if name != 'toy':
            raise ModelError(f'{name}: no such model; known are toy')
        return CARD

    def init_single_image_wf(settings: Settings, scan: Scan, **others: Any) -> Any:
        assert (settings.model, others['use_gpu']) == ('toy', False)
        bench.masks = others['masks'], others['all_masked']
        return toy_graph(settings, scan, CARD)

    def init_bids_segsr_wf(graphs: Any) -> Any:
        bench.built.append([graph.name.removesuffix('_wf') for graph in graphs])
        return toy_workflow(graphs)

    def generate_report(root: Path, subject: str, run_uuid: str, settings: Settings) -> Path:
        bench.reports.append((subject, run_uuid))
        return root / f'sub-{subject}.html'

    def write_group(root: Path, modality: str, *_: Any) -> list[Path]:
        return [root / f'group_{modality}.tsv', root / f'group_{modality}.html']

    fakes = {
        'bids_segsr.zoo.find': {
            'AUTO_MODEL': 'toy',
            'DEFAULT_MODEL': 'toy',
            'NEWBORN_MODELS': {},
            'candidates': lambda given: (given,),
            'find_card': find_card,
            'BRAIN_MASK_MODEL': 'finder',
        },
        'bids_segsr.workflows.base': {
            'init_bids_segsr_wf': init_bids_segsr_wf,
            'init_single_image_wf': init_single_image_wf,
        },
        'bids_segsr.reports.subject': {
            'generate_report': generate_report,
            'count_problems': lambda path: bench.problems,
            'export_single_file': lambda path: path.with_name(f'{path.stem}_single.html'),
        },
        'bids_segsr.reports.group': {'write_group': write_group},
    }
    # what is first imported while these are in place would keep them for all tests to come
    for name in fakes:
        importlib.import_module(name)
    for name, content in fakes.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(participant_level, 'check_model', lambda *models: None)
    return bench


def test_run_writes_the_frame_and_prints_the_reports(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    bench.image('sub-02_T2w')

    status, out, lines = bench.run()

    assert (status, lines) == (0, [])
    assert bench.built == [['sub-01_T2w', 'sub-02_T2w']]
    assert out.splitlines() == [f'Report: {bench.out}/sub-0{n}.html' for n in (1, 2)]
    for name in ('dataset_description.json', '.bidsignore', 'dseg.tsv', 'logs/CITATION.md'):
        assert (bench.out / name).is_file()
    (folder,) = bench.logs('01')
    record = read_toml(folder / 'bids_segsr.toml')
    assert record['model'] == 'toy'
    assert record['run_uuid'] == folder.name == bench.reports[0][1]
    assert not (folder / 'errors.json').exists()
    assert not list(bench.root.glob('crash*'))


def test_failed_step_is_one_line_and_the_others_go_on(bench: Bench) -> None:
    bench.image('sub-01_run-1_T2w')
    bench.image('sub-01_run-9_T2w')
    bench.image('sub-02_T2w')

    status, out, lines = bench.run()

    assert status == 1
    (crash,) = bench.logs('01')[0].glob('crash-*.txt')
    assert lines[0].startswith('sub-01_run-9_T2w: step step failed: ValueError: marked (')
    assert str(crash) in lines[0]
    assert len(lines) == 2
    assert 'the working directory is kept' in lines[1]
    assert [subject for subject, _ in bench.reports] == ['01', '02']
    assert list((bench.root / 'work' / 'bids_segsr_wf' / 'sub-02_T2w_wf').rglob('result_*'))
    assert 'sub-02.html' in out


def test_stop_on_first_crash_still_reports(bench: Bench) -> None:
    bench.image('sub-01_run-9_T2w')

    status, _, lines = bench.run('--stop-on-first-crash')

    assert status == 1
    assert 'sub-01_run-9_T2w' in lines[0]
    assert len(bench.reports) == 1


def test_terminal_shows_no_traceback(bench: Bench) -> None:
    """Nipype prints by handlers of its own, made when it is first imported."""
    bench.image('sub-01_run-9_T2w')
    code = (
        'import sys; sys.path.insert(0, sys.argv[1])\n'
        'from test_app import CARD, toy_graph, toy_workflow\n'
        'from bids_segsr.cli import app\n'
        'from bids_segsr.app import participant_level as level\n'
        'from bids_segsr.app.outcome import Outcome\n'
        'level._with_model = lambda settings: (settings, CARD)\n'
        'level.write_reports = lambda runs: Outcome()\n'
        'level.check_model = lambda model: None\n'
        'def build(settings, scans):\n'
        '    level.configure_nipype(settings)\n'
        '    return toy_workflow([toy_graph(settings, scan, CARD) for scan in scans]), []\n'
        'level._build = build\n'
        'sys.exit(app.main(sys.argv[2:]))'
    )
    here, home = str(Path(__file__).parent), bench.root / 'home'
    home.mkdir()
    flags = [
        'participant',
        '--skip-bids-validation',
        '--device',
        'cpu',
        '-vvv',
        '-w',
        str(bench.root / 'work'),
    ]
    result = subprocess.run(
        [sys.executable, '-c', code, here, str(bench.raw), str(bench.out), *flags],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, 'HOME': str(home)},
    )

    assert result.returncode == 1, result.stderr
    assert 'Traceback' not in result.stdout + result.stderr
    assert 'sub-01_run-9_T2w: step step failed: ValueError: marked (' in result.stderr
    assert list(home.iterdir()) == []


def test_image_that_is_deleted_after_the_look_fails_alone(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nipype looks at the file in the main process, to know whether the step has been done."""
    from nipype.pipeline import engine as pe

    from bids_segsr.interfaces.imaging import Conform

    gone = bench.image('sub-01_T2w')
    bench.image('sub-02_T2w')
    run_workflow = participant_level.run_workflow

    def build(settings: Settings, scan: Scan, **others: Any) -> Any:
        graph = toy_graph(settings, scan, CARD)
        conform = pe.Node(Conform(in_file=str(scan.path)), name='conform')
        graph.connect(conform, 'out_file', graph.get_node('step'), 'in_file')
        return graph

    def delete(*given: Any) -> Any:
        gone.unlink()
        return run_workflow(*given)

    monkeypatch.setattr(sys.modules['bids_segsr.workflows.base'], 'init_single_image_wf', build)
    monkeypatch.setattr(participant_level, 'run_workflow', delete)
    status, _, lines = bench.run()

    assert status == 1
    assert [line.partition(':')[0] for line in lines] == [
        'sub-01_T2w',
        'the working directory is kept',
    ]
    assert str(gone) in lines[0]
    (problem,) = read_problems(bench.logs('01')[0], {})
    assert lines[0].startswith(f'sub-01_T2w: {problem.message} (details: ')
    assert (bench.out / 'sub-02' / 'anat' / 'sub-02_qc.json').is_file()


def test_image_without_a_graph_or_a_result_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for label in ('01', '02', '03'):
        bench.image(f'sub-{label}_T2w')
    base = sys.modules['bids_segsr.workflows.base']
    init_single_image_wf = base.init_single_image_wf

    def build(settings: Settings, scan: Scan, **others: Any) -> Any:
        if scan.subject == '01':
            raise ValueError('no graph')
        graph = init_single_image_wf(settings, scan, **others)
        if scan.subject == '02':
            graph.remove_nodes([graph.get_node('save')])
        return graph

    monkeypatch.setattr(base, 'init_single_image_wf', build)
    status, _, lines = bench.run()

    assert status == 1
    assert lines[0] == 'sub-01_T2w: ValueError: no graph'
    assert lines[1].startswith('sub-02_T2w: no result and no message')
    for number, label in enumerate(('01', '02')):
        (problem,) = read_problems(bench.logs(label)[0], {})
        assert f'{problem.image}: {problem.message}' == lines[number]
    assert (bench.out / 'sub-03' / 'anat' / 'sub-03_qc.json').is_file()


def test_numbers_and_figures_of_an_earlier_run_do_not_stand_beside_a_failure(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    assert bench.run()[0] == 0
    figure = bench.out / 'sub-01' / 'figures' / 'sub-01_desc-qc_T2w.html'
    figure.parent.mkdir()
    figure.touch()
    numbers = bench.out / 'sub-01' / 'anat' / 'sub-01_qc.json'
    assert numbers.is_file()

    bench.image('sub-01_T2w', data=np.zeros((6, 6, 6), np.float32))
    assert bench.run()[0] == 1

    assert not numbers.exists()
    assert not figure.exists()


def test_warning_is_told_and_strict_makes_it_a_failure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.image('sub-01_T2w')
    record = {'bids_name': 'sub-01_T2w', 'warnings': ['thick slices']}
    monkeypatch.setattr('test_app.QC', json.dumps(record))
    status, _, lines = bench.run()
    assert (status, lines) == (0, ['WARNING: sub-01_T2w: thick slices'])
    assert bench.run('--strict')[0] == 1

    record = {'bids_name': 'sub-01_T2w', 'warnings': [], 'brain_solidity': 0.7}
    monkeypatch.setattr('test_app.QC', json.dumps(record))
    status, _, lines = bench.run()
    assert status == 0
    assert lines == [
        'WARNING: sub-01_T2w: failed: The brain mask has no shape that a brain has: 0.7, '
        'expected 0.82 to 1.'
    ]
    assert bench.run('--strict')[0] == 1

    monkeypatch.setattr('test_app.QC', json.dumps({**record, 'brain_solidity': 0.87}))
    assert bench.run('--strict')[::2] == (0, [])


BROKEN: dict[str, Any] = {
    '4-D': {'data': np.zeros((4, 4, 4, 2), np.float32)},
    'single slice': {'data': np.ones((4, 4, 1), np.float32)},
    'constant': {'data': np.ones((4, 4, 4), np.float32)},
    'NaN': {'data': np.full((4, 4, 4), np.nan, np.float32)},
}


@pytest.mark.parametrize('kind', [*BROKEN, 'empty', 'truncated', 'no NIfTI'])
def test_broken_image_is_left_out(bench: Bench, kind: str) -> None:
    bench.image('sub-01_run-1_T2w')
    path = bench.image('sub-01_run-2_T2w', **BROKEN.get(kind, {}))
    if kind not in BROKEN:
        content = path.read_bytes()
        path.write_bytes({'empty': b'', 'truncated': content[: len(content) // 2]}.get(kind, b'x'))

    status, out, lines = bench.run()

    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith('sub-01_run-2_T2w is left out: ')
    assert str(path) in lines[0]
    assert bench.built == [['sub-01_run-1_T2w']]
    (entry,) = json.loads((bench.logs('01')[0] / 'errors.json').read_text(encoding='utf-8'))
    assert entry['image'] == 'sub-01_run-2_T2w'
    assert str(path) in entry['message']
    assert 'sub-01.html' in out


def test_all_images_broken_still_gives_a_report(bench: Bench) -> None:
    bench.image('sub-01_T2w').write_bytes(b'')

    status, _, lines = bench.run()

    assert (status, len(lines)) == (1, 1)
    assert bench.built == []
    assert [subject for subject, _ in bench.reports] == ['01']


def test_mask_on_another_grid_is_left_out(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    bench.image('sub-02_T2w')
    for subject, shape in (('01', (10, 10, 6)), ('02', (10, 10, 7))):
        name = f'sub-{subject}/anat/sub-{subject}_desc-brain_mask.nii.gz'
        write_image(bench.root / 'masks' / name, np.ones(shape, np.uint8))

    status, _, lines = bench.run('-d', f'masks={bench.root / "masks"}')

    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith('sub-02_T2w is left out: ')
    assert 'sub-02_desc-brain_mask.nii.gz' in lines[0]
    assert bench.built == [['sub-01_T2w']]


@pytest.mark.parametrize(
    ('flags', 'words'),
    [
        (['--participant-label', '07'], 'no such participant: 07; present are 01'),
        (['--session-label', 'z'], 'no such session: z; there are no sessions'),
        (['--modality', 'FLAIR'], 'no FLAIR image of sub-01; found are T2w'),
        (['--model', 'gone'], 'gone: no such model; known are toy'),
        (['--threshold', '2'], '--threshold is 2'),
    ],
)
def test_mistake_ends_the_run_with_one_line(bench: Bench, flags: list[str], words: str) -> None:
    bench.image('sub-01_T2w')

    status, out, lines = bench.run(*flags)

    assert (status, out, len(lines)) == (1, '', 1)
    assert words in lines[0]
    assert bench.built == []


def test_output_equal_to_the_input(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    bench.out = bench.raw

    status, _, lines = bench.run()

    assert status == 1
    assert len(lines) == 1
    assert 'the input dataset itself' in lines[0]
    assert not (bench.raw / 'logs').exists()


def test_output_among_the_input(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    bench.out = bench.raw / 'sub-01' / 'out'
    status, _, lines = bench.run()
    assert status == 1
    assert len(lines) == 1
    assert 'among the files of the input' in lines[0]
    assert not bench.out.exists()
    bench.out = bench.raw / 'derivatives' / 'segsr'
    assert bench.run()[0] == 0


def test_dry_run_tells_where_the_mask_comes_from(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.image('sub-01_T2w')
    monkeypatch.setenv('TEMPLATEFLOW_HOME', str(bench.root))
    assert 'mask:   network finder 3\n' in bench.run('--dry-run')[1]
    out = bench.run('--dry-run', '--skull-strip-template', 'MNIInfant:cohort-1')[1]
    assert 'mask:   none: skull stripping needs the TemplateFlow template MNIInfant' in out
    out = bench.run('--dry-run', '--skull-strip', 'skip')[1]
    assert 'mask:   none (--skull-strip skip)' in out


def test_a_missing_tool_ends_the_run_before_any_work(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.image('sub-01_T2w')
    monkeypatch.setenv('PATH', str(bench.root))
    status, _, lines = bench.run('--skull-strip-tool', 'synthstrip')
    assert (status, len(lines)) == (1, 1)
    assert 'mri_synthstrip is not on PATH' in lines[0]
    assert not bench.out.exists()


def test_a_model_that_finds_the_brain_is_refused(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    status, _, lines = bench.run('--model', 'finder')
    assert (status, len(lines)) == (1, 1)
    assert 'finder finds the brain' in lines[0]
    assert not bench.out.exists()


def test_cuda_without_cuda(bench: Bench) -> None:
    torch = pytest.importorskip('torch')
    if torch.version.cuda is not None:
        pytest.skip('this build of torch may find a GPU')
    bench.image('sub-01_T2w')

    status, _, lines = bench.run('--device', 'cuda')

    assert (status, len(lines)) == (1, 1)
    assert 'torch finds no CUDA device' in lines[0]
    assert bench.built == []
    assert not bench.out.exists()


def test_two_runs_of_one_participant(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    bench.image('sub-02_T2w')
    with subject_lock(bench.out, '01'):
        status, _, lines = bench.run('--participant-label', '01')
        beside, _, _ = bench.run('--participant-label', '02')

    assert (status, len(lines)) == (1, 1)
    assert 'another run is processing sub-01' in lines[0]
    assert beside == 0
    assert bench.built == [['sub-02_T2w']]


def test_dry_run_lists_and_writes_nothing(bench: Bench) -> None:
    path = bench.image('sub-01_T2w')

    status, out, lines = bench.run(
        '--dry-run', '--resolution', '1', '--skull-strip', 'skip', '--model', 'toy'
    )

    assert (status, lines) == (0, [])
    assert out.splitlines() == [
        'sub-01_T2w',
        f'  image:  {path} (10 x 10 x 6 voxels of 1 x 1 x 3 mm)',
        '  model:  toy 1',
        '  grid:   10 x 10 x 18 voxels of 1 mm',
        '  mask:   none (--skull-strip skip)',
        f'  output: {bench.out}/sub-01/anat/sub-01_res-1mm_desc-toy_T2w.nii.gz',
    ]
    assert not bench.out.exists()
    assert not (bench.root / 'work').exists()


def test_dry_run_names_broken_images(bench: Bench) -> None:
    bench.image('sub-01_T2w').write_bytes(b'')

    status, _, lines = bench.run('--dry-run')

    assert status == 1
    assert lines[0].startswith('sub-01_T2w is left out: ')


def test_boilerplate_only(bench: Bench) -> None:
    bench.image('sub-01_T2w')

    status, out, _ = bench.run('--boilerplate-only')

    assert status == 0
    text, bib = (bench.out / 'logs' / f'CITATION.{x}' for x in ('md', 'bib'))
    assert out.split() == [str(text), str(bib)]
    assert text.read_text(encoding='utf-8') == 'Told by the graph [@nipype].\n'
    assert '{nipype,' in bib.read_text(encoding='utf-8')
    assert not bench.reports
    assert not list(bench.out.rglob('*_qc.json'))


def test_methods_tell_of_masks_that_were_taken(bench: Bench) -> None:
    for label in ('01', '02'):
        bench.image(f'sub-{label}_T2w')
    for name in ('used', 'unused'):
        folder = bench.root / name
        folder.mkdir()
        (folder / 'dataset_description.json').write_text('{"Name": "x", "BIDSVersion": "1.8.0"}')
    flags = ['-d', 'unused=unused', '-d', 'used=used', '--boilerplate-only']
    mask = 'sub-{0}/anat/sub-{0}_desc-brain_mask.nii.gz'
    write_image(bench.root / 'used' / mask.format('01'))
    assert bench.run(*flags, '--allow-missing-masks')[0] == 0
    assert bench.masks == (['used'], False)
    write_image(bench.root / 'used' / mask.format('02'))
    assert bench.run(*flags)[0] == 0
    assert bench.masks == (['used'], True)


def test_reports_only_takes_the_latest_run(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    bench.run()
    first = bench.reports.pop()

    status, out, _ = bench.run('--reports-only')

    assert status == 0
    assert bench.reports == [first]
    assert len(bench.built) == 1
    assert 'sub-01.html' in out


def test_reports_only_goes_on_without_the_run_of_one_participant(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    bench.run()
    bench.image('sub-02_T2w')

    status, out, lines = bench.run('--reports-only')

    assert (status, len(lines)) == (1, 1)
    assert 'no earlier run of sub-02' in lines[0]
    assert 'sub-01.html' in out


def test_reports_only_without_an_earlier_run(bench: Bench) -> None:
    bench.image('sub-01_T2w')

    status, _, lines = bench.run('--reports-only')

    assert (status, len(lines)) == (1, 1)
    assert 'no earlier run of sub-01' in lines[0]


def test_failed_report_is_one_line_and_status_1(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.image('sub-01_T2w')

    def fail(*_: Any) -> Path:
        raise RuntimeError('no space')

    monkeypatch.setattr(sys.modules['bids_segsr.reports.subject'], 'generate_report', fail)
    status, out, lines = bench.run()

    assert (status, out, len(lines)) == (1, '', 1)
    assert lines == ['sub-01: no report: RuntimeError: no space']


def test_problems_in_a_report_count(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    bench.problems = 2

    status, out, _ = bench.run()

    assert status == 1
    assert 'sub-01.html' in out


def test_single_file_report(bench: Bench) -> None:
    bench.image('sub-01_T2w')

    status, out, _ = bench.run('--single-file-report')

    assert status == 0
    assert out.splitlines()[1] == f'Report: {bench.out}/sub-01_single.html'


@pytest.mark.parametrize('dot', [True, False])
def test_graph_is_drawn_where_graphviz_is(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, dot: bool
) -> None:
    if dot and shutil.which('dot') is None:
        pytest.skip('needs Graphviz')
    if not dot:
        monkeypatch.setenv('PATH', str(Path(sys.executable).parent))
    bench.image('sub-01_T2w')

    status, _, _ = bench.run('--write-graph')

    assert status == 0
    drawn = list((bench.root / 'work').rglob('graph.svg'))
    assert bool(drawn) == dot
    assert all('sub&#45;01_T2w_wf' in path.read_text(encoding='utf-8') for path in drawn)


@pytest.mark.parametrize(('error', 'code'), [(KeyError('x'), 70), (UserError('y'), 1)])
def test_workflow_that_cannot_be_built(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    bench.image('sub-01_T2w')

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(sys.modules['bids_segsr.workflows.base'], 'init_bids_segsr_wf', fail)
    status, _, lines = bench.run()

    assert (status, len(lines)) == (code, 1)


def test_interrupt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.image('sub-01_T2w')

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(participant_level, 'run_workflow', interrupt)
    status, _, lines = bench.run()

    assert (status, len(lines)) == (130, 1)
    assert 'interrupted' in lines[0]
    with subject_lock(bench.out, '01'):
        pass


def test_sigterm_before_there_is_a_worker(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.image('sub-01_T2w')
    monkeypatch.setattr(
        participant_level, '_collect', lambda *_: os.kill(os.getpid(), signal.SIGTERM)
    )

    status, _, lines = bench.run()

    assert status == 143
    assert lines == ['terminated; the same command goes on from the working directory']


def test_clean_workdir(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    (bench.root / 'work' / 'old').mkdir(parents=True)
    (bench.root / 'work' / 'old.txt').touch()

    bench.run('--clean-workdir')

    assert not list((bench.root / 'work').glob('old*'))


def test_restart_uses_the_working_directory(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    bench.run()
    (result,) = (bench.root / 'work').rglob('result_step.pklz')
    before = result.stat().st_mtime_ns

    bench.run()

    assert result.stat().st_mtime_ns == before


def test_group_level_prints_its_files(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    status, _, lines = bench.run(level='group')
    assert (status, len(lines)) == (1, 1)
    assert 'run the participant level first' in lines[0]

    bench.run()
    (bench.out / 'sub-01' / 'anat' / 'sub-01_qc.json').unlink()
    bench.image('sub-02_T2w', data=np.zeros((6, 6, 6), np.float32))
    bench.image('sub-03_T2w')
    bench.run('--participant-label', '02')
    status, out, lines = bench.run(level='group')

    assert status == 1, 'no image has a result'
    assert out.split() == [str(bench.out / f'group_T2w.{x}') for x in ('tsv', 'html')]
    assert [line.partition(' is left out: ')[0] for line in lines] == [
        'sub-01_T2w',
        'sub-02_T2w',
        'sub-03_T2w',
    ]
    assert 'its run was stopped' in lines[0]
    assert 'holds no signal' in lines[1]
    assert lines[2].endswith('not processed yet')


def test_invalid_dataset_is_refused(bench: Bench) -> None:
    pytest.importorskip('bids_validator_deno')
    bench.image('sub-01_T2w')

    status = app.main([str(bench.raw), str(bench.out), 'participant'])

    assert status == 1
    assert '--skip-bids-validation' in bench.capsys.readouterr().err
    assert bench.built == []


def test_another_modality_of_the_same_names_is_refused(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    earlier = bench.out / 'sub-01' / 'anat' / 'sub-01_qc.json'
    earlier.parent.mkdir(parents=True)
    earlier.write_text(json.dumps({'bids_name': 'sub-01_T1w'}), encoding='utf-8')
    status, _, lines = bench.run('--model', 'toy')
    assert status == 1
    assert len(lines) == 1
    assert str(earlier) in lines[0]
    assert 'output folder of its own' in lines[0]
    earlier.write_text(json.dumps({'bids_name': 'sub-01_T2w'}), encoding='utf-8')
    assert bench.run('--model', 'toy')[0] == 0


def test_results_of_another_file_or_model_do_not_stay(bench: Bench) -> None:
    good = bench.image('sub-01_run-1_T2w')
    damaged = bench.image('sub-01_run-2_T2w')
    absent = bench.image('sub-01_run-3_T2w')
    anat = bench.out / 'sub-01' / 'anat'
    anat.mkdir(parents=True)
    names = [f'sub-01_run-{run}_seg-regions_res-1mm_dseg.nii.gz' for run in (1, 2, 3)]
    for name in names:
        (anat / name).touch()
        (anat / f'{name[:13]}qc.json').write_text(json.dumps({'bids_name': f'{name[:13]}T2w'}))
    damaged.write_bytes(good.read_bytes()[:300])
    absent.unlink()
    absent.symlink_to('../../.git/annex/objects/absent')
    status, _, lines = bench.run()
    assert status == 1
    assert any('run-2_T2w is left out' in line and 'damaged' in line for line in lines)
    assert any('run-3_T2w is left out' in line and 'datalad get' in line for line in lines)
    left = sorted(path.name for path in anat.iterdir())
    assert left == ['sub-01_run-1_qc.json', 'sub-01_run-3_qc.json', names[2]]


def test_names_that_fit_nothing_are_failures(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    write_image(bench.raw / 'sub-01_pre' / 'anat' / 'sub-01_pre_T2w.nii.gz')
    write_image(bench.raw / 'sub-02' / 'anat' / 'sub-01_T2w.nii.gz')
    write_image(bench.raw / 'Sub-03' / 'anat' / 'Sub-03_T2w.nii.gz')
    for flags in (('--dry-run',), ()):
        status, _, lines = bench.run(*flags)
        assert status == 1
        assert any('sub-01_pre: no BIDS label' in line for line in lines)
        assert any('Sub-03: BIDS writes sub- in small letters' in line for line in lines)
        assert any('sub-01 in the name, but sub-02 in the folder' in line for line in lines)
    (log,) = bench.logs('02')
    assert 'sub-01_T2w.nii.gz' in (log / 'errors.json').read_text(encoding='utf-8')
    assert bench.built[-1] == ['sub-01_T2w']
    assert not (bench.out / 'sub-01_pre').exists()


def test_masks_that_were_asked_for_and_are_not_there(bench: Bench) -> None:
    bench.image('sub-01_T2w')
    write_image(bench.root / 'm' / 'sub-01_desc-brain_mask.nii.gz')
    status, _, (line, *_) = bench.run('-d', f'masks={bench.root / "m"}')
    assert status == 1
    assert 'no brain mask sub-01/anat/sub-01_desc-brain_mask.nii.gz' in line
    flags = ('-d', f'masks={bench.root / "m"}', '--allow-missing-masks', '--dry-run')
    assert bench.run(*flags)[0] == 0


def test_a_list_flag_may_be_repeated(bench: Bench) -> None:
    for subject in ('01', '02', '03'):
        bench.image(f'sub-{subject}_T2w')
    flags = ('--participant-label', '01', '--participant-label', '02', '--dry-run')
    out = bench.run(*flags)[1]
    assert 'sub-01_T2w' in out
    assert 'sub-02_T2w' in out
    assert 'sub-03_T2w' not in out

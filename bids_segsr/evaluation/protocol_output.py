"""What a protocol leaves in its folder: tables, figures, and under which settings they came."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_segsr import __version__
from bids_segsr.evaluation.article_figures import save_figure
from bids_segsr.evaluation.article_tables import SUMMARY_FILE, TESTS_FILE, as_text
from bids_segsr.evaluation.protocols import Result
from bids_segsr.evaluation.run import Settings
from bids_segsr.evaluation.systems import System
from bids_segsr.exceptions import UserError
from bids_segsr.files import write_text
from bids_segsr.inference.predict import resolve_device
from bids_segsr.training.data.subjects import Subject
from bids_segsr.training.loop.model_card import processor_name
from bids_segsr.zoo.store import file_sha256

SETTINGS_FILE = 'settings.json'
TABLE_FILE = 'table.txt'


def open_folder(out: Path, protocol: str) -> Path:
    """Make the folder of the results, or check that it holds those of the same protocol.

    Args:
        out: The folder.
        protocol: Name of the protocol.

    Returns:
        The folder.

    Raises:
        UserError: It cannot be made, or holds something else.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not any(out.iterdir()):
            return out
        held = json.loads((out / SETTINGS_FILE).read_text(encoding='utf-8')).get('protocol')
    except FileNotFoundError:
        held = None
    except (OSError, ValueError, AttributeError) as error:
        raise UserError(f'{out}: cannot be used ({error}); give a new folder.') from error
    if held != protocol:
        what = f'results of {held}' if held else 'something else'
        raise UserError(f'{out}: holds {what}; give a new folder.')
    return out


def write_settings(
    protocol: str,
    systems: Sequence[System],
    lists: Mapping[str, Path],
    datasets: Mapping[str, Sequence[Subject]],
    settings: Settings,
    varied: Mapping[str, Any],
) -> Path:
    """Write what the results depend on, before they are computed.

    Args:
        protocol: Its name.
        systems: What is compared.
        lists: Dataset to its CSV list.
        datasets: Dataset to its subjects.
        settings: The settings.
        varied: What the protocol varies.

    Returns:
        The file, JSON.
    """
    import torch

    device = resolve_device(settings.processing.device)
    content = {
        'protocol': protocol,
        'bids_segsr': __version__,
        'models': {system.name: system.identity for system in systems},
        'data': {
            name: {
                'list': str(path),
                'sha256': file_sha256(path),
                'test': [s.name for s in datasets[name] if s.split == 'test'],
            }
            for name, path in lists.items()
        },
        'imaging': dataclasses.asdict(settings.imaging),
        'tiling': dataclasses.asdict(settings.processing.tiling),
        'varied': dict(varied),
        'metrics': settings.metrics,
        'labels': {name: list(numbers) for name, numbers in settings.labels.items()},
        'parcellation': str(settings.parcellation) if settings.parcellation else None,
        'parcellation_spacing_mm': settings.parcellation_spacing_mm,
        'seed': settings.seed,
        'machine': {
            'device': device,
            'gpu': torch.cuda.get_device_name(device) if device.startswith('cuda') else None,
            'processor': processor_name(),
            'cores': os.cpu_count(),
            'threads': torch.get_num_threads(),
            'system': platform.platform(),
            'python': platform.python_version(),
            'torch': torch.__version__,
        },
    }
    path = settings.out / SETTINGS_FILE
    return write_text(path, json.dumps(content, indent=2, default=str) + '\n')


def write_result(result: Result, out: Path) -> list[Path]:
    """Write summary, tests, printed tables and figures; the rows lie there already.

    Args:
        result: What a protocol gave.
        out: Its folder.

    Returns:
        The files.
    """
    for frame, name in ((result.summary, SUMMARY_FILE), (result.tests, TESTS_FILE)):
        table = frame.to_csv(sep='\t', index=False, float_format='%.10g', na_rep='nan')
        write_text(out / name, table)
    write_text(out / TABLE_FILE, tables_text(result) + '\n')
    written = [out / name for name in (SUMMARY_FILE, TESTS_FILE, TABLE_FILE)]
    for name, figure in result.figures.items():
        written += save_figure(figure, out, name)
    return written


def tables_text(result: Result) -> str:
    """Return the tables of a protocol as they are printed."""
    return '\n\n'.join(f'{title}\n\n{as_text(table)}' for title, table in result.tables.items())

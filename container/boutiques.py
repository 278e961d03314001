"""Write the Boutiques descriptor of the App from its command line.

    python container/boutiques.py > boutiques.json

Platforms (CBRAIN, VIP, NeuroDesk) read it to show a form and to start the container.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

from bids_segsr import __version__
from bids_segsr.cli.parser import build_parser

# Told by the container itself, or without a meaning inside of one.
LEFT_OUT = ('help', 'version', 'notrack', 'use_plugin')
OUTPUT = (
    'Folder of the derivatives; for the group level the one that the participant level filled.'
)


def descriptor() -> dict[str, Any]:
    """Return the descriptor, Boutiques schema 0.5."""
    parser = build_parser()
    flags = [a for a in parser._actions if a.option_strings and a.dest not in LEFT_OUT]
    # the validator wants to see these first, in this order
    first = ('participant_label', 'session_label')
    flags.sort(key=lambda flag: first.index(flag.dest) if flag.dest in first else len(first))
    keys = ' '.join(_key(flag) for flag in flags)
    return {
        'name': 'bids_segsr',
        'tool-version': __version__,
        'schema-version': '0.5',
        'description': 'Isotropic super-resolution and cortex segmentation of thick-slice brain '
        'MRI (BIDS App). Research use only.',
        'author': 'The bids_segsr developers',
        'command-line': 'mkdir -p [OUTPUT_DIR]; bids_segsr [BIDS_DIR] [OUTPUT_DIR] '
        f'[ANALYSIS_LEVEL] {keys}',
        'container-image': {'type': 'docker', 'image': f'bids_segsr:{__version__}'},
        'tags': {
            'domain': ['neuroinformatics', 'mri', 'bids'],
            'application-type': ['super-resolution', 'segmentation'],
        },
        'inputs': [*_positionals(), *(_input(flag) for flag in flags)],
        'groups': [
            {
                'id': 'output_directory',
                'name': 'Output folder',
                'description': 'A new folder, or the one that the participant level filled.',
                'members': ['output_dir', 'participant_level_dir'],
                'mutually-exclusive': True,
                'one-is-required': True,
            }
        ],
        'output-files': [
            {
                'id': 'results',
                'name': 'Derivatives',
                'description': OUTPUT,
                'path-template': '[OUTPUT_DIR]',
                'optional': False,
            }
        ],
    }


def _positionals() -> list[dict[str, Any]]:
    return [
        {
            'id': 'bids_dir', 'name': 'BIDS dataset', 'type': 'File', 'optional': False,
            'value-key': '[BIDS_DIR]', 'description': 'Root folder of the BIDS dataset.',
        },
        {
            'id': 'output_dir', 'name': 'Output folder', 'type': 'String', 'optional': True,
            'value-key': '[OUTPUT_DIR]', 'description': OUTPUT,
        },
        {
            'id': 'participant_level_dir', 'name': 'Results of the participant level',
            'type': 'File', 'optional': True, 'value-key': '[OUTPUT_DIR]', 'description': OUTPUT,
        },
        {
            'id': 'analysis_level', 'name': 'Analysis level', 'type': 'String', 'optional': False,
            'value-key': '[ANALYSIS_LEVEL]', 'value-choices': ['participant', 'group'],
            'description': 'participant: process each image; group: one table of all QC numbers.',
        },
    ]  # fmt: skip


def _key(flag: argparse.Action) -> str:
    return f'[{flag.dest.upper()}]'


def _input(flag: argparse.Action) -> dict[str, Any]:
    text = re.sub(r'%%', '%', flag.help or '')
    entry: dict[str, Any] = {
        'id': flag.dest,
        'name': flag.dest.replace('_', ' ').capitalize(),
        'description': text[:1].upper() + text[1:] + '.',
        'optional': True,
        'value-key': _key(flag),
        'command-line-flag': next(o for o in flag.option_strings if o.startswith('--')),
        'type': 'Flag',
    }
    if flag.nargs != 0:
        entry['type'] = {Path: 'File', int: 'Number', float: 'Number'}.get(flag.type, 'String')  # type: ignore[arg-type]
        if flag.type is int:
            entry['integer'] = True
        if flag.nargs == '+':
            entry['list'] = True
        if flag.choices:
            entry['value-choices'] = list(flag.choices)
    return entry


if __name__ == '__main__':
    print(json.dumps(descriptor(), indent=2))  # noqa: T201

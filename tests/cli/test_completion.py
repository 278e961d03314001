"""What the shell completes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from bids_segsr.cli import completion, parser, segsr


def script(shell: str) -> str:
    return completion.script(shell, (parser.build_parser(), segsr.build_parser()))


@pytest.mark.parametrize(
    ('words', 'completed'),
    [
        (['segsr', 'pre'], 'predict'),
        (['segsr', 'predict', 'a.nii', '--mod'], '--model'),
        (['segsr', 'predict', 'a.nii', 'out', '--model', 'brain'], 'brain-mask'),
        (['segsr', 'train', 'segsrgan-2020-n'], 'segsrgan-2020-no-gan'),
        (['bids_segsr', '--participant'], '--participant-label'),
    ],
)
def test_bash_completes(words: list[str], completed: str, tmp_path: Path) -> None:
    shell = shutil.which('bash')
    assert shell
    asked = (
        f'{script("bash")}\nCOMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))\n'
        f'_shtab_{words[0]}; echo "${{COMPREPLY[*]}}"'
    )
    done = subprocess.run(
        [shell, '-c', asked, '_', *words], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert done.stdout.split() == [completed]


@pytest.mark.skipif(shutil.which('zsh') is None, reason='zsh is not installed')
def test_zsh_takes_the_script(tmp_path: Path) -> None:
    path = tmp_path / 'c.zsh'
    path.write_text(script('zsh'), encoding='utf-8')
    subprocess.run(['zsh', '-n', path], check=True)
    asked = f'autoload -U compinit; compinit -u -D; eval "$(cat {path})"; echo $_comps[segsr]'
    done = subprocess.run(['zsh', '-f', '-c', asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '_shtab_segsr'

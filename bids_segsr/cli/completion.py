"""segsr completion: what the shell completes when a person presses Tab."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

SHELLS = ('bash', 'zsh')


def add_parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    toolbox: Callable[[], argparse.ArgumentParser],
) -> None:
    """Add the command `completion`.

    Args:
        commands: Commands of the toolbox.
        toolbox: Makes the parser of all of them.
    """
    parser = commands.add_parser(
        'completion',
        help='let the shell complete commands, flags, models, recipes and paths',
        description='Prints a script for the shell, for both commands. In ~/.bashrc or ~/.zshrc: '
        'eval "$(segsr completion bash)", or zsh.',
    )
    parser.add_argument('shell', choices=SHELLS)
    parser.set_defaults(func=partial(_print, toolbox))


def script(shell: str, parsers: Iterable[argparse.ArgumentParser]) -> str:
    """Return the completions of commands.

    Args:
        shell: 'bash' or 'zsh'.
        parsers: Of the commands.
    """
    import shtab

    return '\n'.join(shtab.complete(_completed(each), shell=shell) for each in parsers)


def _print(toolbox: Callable[[], argparse.ArgumentParser], arguments: argparse.Namespace) -> int:
    from bids_segsr.cli.parser import build_parser

    print(script(arguments.shell, (build_parser(), toolbox())))
    return 0


def _completed(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Say of each argument whether paths or names are completed."""
    import shtab

    from bids_segsr.training.recipe_file import recipe_names
    from bids_segsr.zoo.find import card_paths

    for action in _actions(parser):
        if 'recipe' in action.dest:
            _complete_names(action, recipe_names())
        elif re.search('models?$', action.dest):
            _complete_names(action, list(card_paths()))
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


def _complete_names(action: argparse.Action, names: list[str]) -> None:
    """Complete names, and files as well."""
    words = ' '.join(names)
    function = f'_segsr_{action.dest}'
    action.complete = {  # type: ignore[attr-defined]
        'bash': function,
        'zsh': f'{{_values name {words}; _files}}',
        'preamble': {
            'bash': f'{function}() {{ compgen -W "{words}" -- "$1"; compgen -f -- "$1"; }}'
        },
    }


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
        else:
            yield action

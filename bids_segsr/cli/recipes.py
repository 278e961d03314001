"""segsr recipes: the trainings that come with the package, to be listed, read and copied."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from bids_segsr.exceptions import UserError
from bids_segsr.files import write_text


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `recipes`.

    Args:
        commands: Commands of the toolbox.
    """
    parser = commands.add_parser(
        'recipes',
        help='list, show and copy the trainings of the articles',
        description='A recipe decides everything of a training but the data. To change one, copy '
        'it and give the path of the copy to segsr train.',
    )
    inner = parser.add_subparsers(title='commands', required=True, metavar='COMMAND')
    listing = inner.add_parser('list', help='names, networks and articles')
    listing.set_defaults(func=lambda _: print_recipes())
    show = inner.add_parser('show', help='print a recipe, TOML with its sources as comments')
    show.add_argument('recipe', help='name of a packaged recipe, or TOML file')
    show.set_defaults(func=_show)
    copy = inner.add_parser('copy', help='write a recipe to a file of your own')
    copy.add_argument('recipe', help='name of a packaged recipe, or TOML file')
    copy.add_argument('file', type=Path, nargs='?', help='default: NAME.toml')
    copy.set_defaults(func=_copy)


class ListRecipes(argparse.Action):
    """Prints the recipes and ends the program, whatever else is missing."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        """Do so; `argparse` calls it."""
        print_recipes()
        parser.exit()


def print_recipes() -> int:
    """Print name, network, length and source of every recipe."""
    from bids_segsr.training.recipe_file import read_recipe, recipe_names

    recipes = [read_recipe(name) for name in recipe_names()]
    rows = [
        (
            recipe.name,
            recipe.network.architecture,
            'label maps' if recipe.label_maps or recipe.heads else 'images',
            recipe.reference,
        )
        for recipe in recipes
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print('  '.join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from bids_segsr.training.recipe_file import source_text

    print(source_text(arguments.recipe), end='')
    return 0


def _copy(arguments: argparse.Namespace) -> int:
    from bids_segsr.training.recipe_file import read_recipe, source_text

    target = arguments.file or Path(f'{read_recipe(arguments.recipe).name}.toml')
    if target.exists():
        raise UserError(f'{target}: exists already; give another file')
    print(write_text(target, source_text(arguments.recipe)))
    return 0

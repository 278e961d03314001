"""From what a person gives (a recipe, a list, some numbers) to a training that can be run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bids_segsr.exceptions import UserError
from bids_segsr.training.data.collection import (
    data_of_label_maps,
    data_of_subjects,
    find_subjects,
    labels_of_maps,
    labels_of_subjects,
    with_validation,
)
from bids_segsr.training.data.data_summary import TrainingData
from bids_segsr.training.data.label_volumes import LabelFacts
from bids_segsr.training.loop.training_run import Sets, image_sets, label_map_sets
from bids_segsr.training.recipe import Recipe
from bids_segsr.training.recipe_file import read_recipe


@dataclass(frozen=True)
class Plan:
    """A training whose recipe and data fit each other.

    Attributes:
        recipe: What is trained.
        data: Summary of the data.
        sets: Makes the patches.
        labels: What the label images hold, by the source that they come from.
    """

    recipe: Recipe
    data: TrainingData
    sets: Sets
    labels: dict[str, LabelFacts]


def plan_training(
    recipe: str | Path | Recipe,
    *,
    data: str | Path | None = None,
    label_maps: str | Path | None = None,
    derivatives: str | Path | None = None,
    label_desc: str | None = None,
    split_column: str | None = None,
    labels: Mapping[str, tuple[int, ...]] | None = None,
    **schedule: float | None,
) -> Plan:
    """Read recipe and data, and check that they fit.

    Args:
        recipe: Name of a packaged recipe, TOML file, or a recipe.
        data: CSV list or BIDS dataset; or give label maps.
        label_maps: Folder of label maps.
        derivatives: BIDS derivatives with the segmentations.
        label_desc: The desc entity of these.
        split_column: Column of participants.tsv with the splits.
        labels: Channel to its numbers in the label images, instead of those of the recipe.
        schedule: `epochs`, `steps`, `minutes` and `seed`, instead of those of the recipe; None
            for these.

    Raises:
        UserError: They do not fit each other.
    """
    if (data is None) == (label_maps is None):
        raise UserError('--data, --label-maps: give one of them')
    source = None if data is None else Path(data)
    if derivatives and (source is None or not source.is_dir()):
        raise UserError(f'{derivatives}: --derivatives goes with a BIDS dataset (--data)')
    read = recipe if isinstance(recipe, Recipe) else read_recipe(str(recipe))
    chosen = _with_labels(_with_schedule(read, schedule), labels or {}, label_maps is not None)
    if label_maps is not None:
        folder = Path(label_maps)
        return Plan(
            chosen,
            data_of_label_maps(chosen, folder),
            label_map_sets(folder),
            labels_of_maps(chosen, folder),
        )
    if chosen.heads is not None:
        raise UserError(
            f'{chosen.name}: has a table [heads]; give label maps (--label-maps) to make them from'
        )
    assert source is not None  # noqa: S101 - one of the two is given
    subjects = find_subjects(
        source,
        None if derivatives is None else Path(derivatives),
        chosen,
        label_desc,
        split_column,
    )
    subjects = with_validation(subjects, chosen, source)
    return Plan(
        chosen,
        data_of_subjects(chosen, subjects, str(source)),
        image_sets(subjects),
        {'labels': labels_of_subjects(chosen, subjects, source)},
    )


def _with_schedule(recipe: Recipe, changes: Mapping[str, float | None]) -> Recipe:
    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    seed = given.pop('seed', recipe.seed)
    if seed < 0:
        raise UserError(f'--seed {seed:g}: give 0 or more')
    unknown = given.keys() - {'epochs', 'steps', 'minutes'}
    if unknown:
        raise TypeError(f'no such argument: {", ".join(sorted(unknown))}')
    try:
        schedule = dataclasses.replace(recipe.schedule, **given)
    except ValueError as error:
        raise UserError(f'--{error}') from None
    return dataclasses.replace(recipe, schedule=schedule, seed=int(seed))


def _with_labels(
    recipe: Recipe, given: Mapping[str, tuple[int, ...]], of_label_maps: bool
) -> Recipe:
    """Return the recipe with other numbers of its channels."""
    channels = recipe.task.channels[1:]
    if given and of_label_maps:
        raise UserError(
            '--label: goes with --data; the numbers of label maps stand in the sources of the '
            'recipe ([[label_maps.sources]], labelling or table)'
        )
    for name in given:
        if name not in channels:
            raise UserError(
                f'--label {name}: the recipe learns {", ".join(channels) or "no structure"}'
            )
    task = dataclasses.replace(recipe.task, labels={**recipe.task.labels, **given})
    return dataclasses.replace(recipe, task=task)

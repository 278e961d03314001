"""One protocol from the names of models and lists to its tables, figures and settings on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bids_segsr.evaluation import protocols
from bids_segsr.evaluation.checks import check_structures, labels_of_datasets
from bids_segsr.evaluation.protocol_output import open_folder, write_result, write_settings
from bids_segsr.evaluation.protocols import Result
from bids_segsr.evaluation.run import Settings
from bids_segsr.evaluation.systems import read_systems
from bids_segsr.exceptions import UserError
from bids_segsr.inference.predict import resolve_device
from bids_segsr.inference.tiling import resolve_patches
from bids_segsr.training.data.subjects import read_csv

PROTOCOLS: dict[str, Callable[..., Result]] = {
    function.__name__: function
    for function in (
        protocols.compare,
        protocols.ablation,
        protocols.steps,
        protocols.robustness,
        protocols.scales,
        protocols.transfer,
        protocols.blends,
        protocols.cost,
    )
}


def run_experiment(
    protocol: str,
    models: Sequence[str],
    lists: Mapping[str, Path],
    settings: Settings,
    *,
    named: bool = False,
    varied: Mapping[str, Any],
) -> tuple[Result, list[Path]]:
    """Check everything, then run a protocol and write what it gives.

    Args:
        protocol: One of PROTOCOLS.
        models: See `systems.read_systems`.
        lists: Name of a dataset to its CSV list.
        settings: Folder, forward model, measures and the rest.
        named: Whether the structures of the settings were asked for by name.
        varied: Arguments of the protocol beyond those that all have.

    Returns:
        What the protocol gives, and the files.

    Raises:
        UserError: Models, data, measures and folder do not fit each other.
    """
    if protocol not in PROTOCOLS:
        raise UserError(f'{protocol}: no such protocol; there are {", ".join(PROTOCOLS)}')
    processing = settings.processing
    resolve_device(processing.device)
    for step in varied.get('distances', ()):
        resolve_patches(processing.patch_size, step, processing.margin)
    datasets = {name: read_csv(path) for name, path in lists.items()}
    systems = read_systems(models)
    check_structures(systems, datasets, settings.labels, named=named, metrics=settings.metrics)
    for name, facts in labels_of_datasets(datasets, settings.labels).items():
        settings.tell(f'{name}: {facts.text}')
        for warning in facts.warnings:
            settings.tell(f'WARNING: {warning}')
    open_folder(settings.out, protocol)
    write_settings(protocol, systems, lists, datasets, settings, varied)
    result = PROTOCOLS[protocol](systems, datasets, settings, **varied)
    return result, write_result(result, settings.out)

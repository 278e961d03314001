"""Super-resolution and cortex segmentation of thick-slice brain MRI, as a BIDS App."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if not (3, 11) <= sys.version_info[:2] <= (3, 13):
    raise ImportError(
        f'bids_segsr needs Python 3.11 to 3.13, this is {sys.version.split()[0]}: its pinned '
        'dependencies have no wheels for others'
    )

if TYPE_CHECKING:
    from bids_segsr.api import Result, evaluate, load_model, predict, train

__version__ = '0.2.0'
__all__ = ['Result', '__version__', 'evaluate', 'load_model', 'predict', 'train']


def __getattr__(name: str) -> Any:
    # torch and its kin are imported where they are used: `segsr --help` must not wait for them
    if name in __all__:
        from bids_segsr import api

        return getattr(api, name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

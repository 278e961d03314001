"""Writing of derivatives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    DynamicTraitedSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)
from nipype.interfaces.base.support import Bunch
from nipype.interfaces.io import add_traits

from bids_segsr.files import complete, write_text


class _SaveDerivativeInputSpec(DynamicTraitedSpec, BaseInterfaceInputSpec):
    in_file = File(exists=True, mandatory=True)
    base_directory = traits.Str(mandatory=True, desc='root of the derivatives')
    name = traits.Str(mandatory=True, desc='path below the root')
    metadata = traits.Dict(usedefault=True, desc='sidecar; none is written without it')


class _SaveDerivativeOutputSpec(TraitedSpec):
    out_file = File(exists=True)


class SaveDerivative(SimpleInterface):
    """Copy a file to its BIDS name, with a sidecar.

    Names and headers are exact already, so that a copy is all that is left to do; what stands
    against niworkflows' `DerivativesDataSink` was measured (docs/development.md).

    Args:
        sidecar_fields: Further inputs, which become entries of the sidecar: what is known after
            the run only. One that is empty is left out.
        inputs: The inputs below.
    """

    input_spec = _SaveDerivativeInputSpec
    output_spec = _SaveDerivativeOutputSpec
    _always_run = True

    def __init__(self, sidecar_fields: Sequence[str] = (), **inputs: Any) -> None:
        super().__init__(**inputs)
        self.sidecar_fields = tuple(sidecar_fields)
        add_traits(self.inputs, list(sidecar_fields))

    def _run_interface(self, runtime: Bunch) -> Bunch:
        target = Path(self.inputs.base_directory, self.inputs.name)
        with complete(target) as part:
            shutil.copyfile(self.inputs.in_file, part)
        if self.inputs.metadata:
            known_after = {field: getattr(self.inputs, field) for field in self.sidecar_fields}
            sidecar = {
                **self.inputs.metadata,
                **{field: value for field, value in known_after.items() if value},
            }
            write_text(
                target.with_name(target.name.split('.')[0] + '.json'),
                json.dumps(sidecar, indent=2) + '\n',
            )
        self._results['out_file'] = str(target)
        return runtime

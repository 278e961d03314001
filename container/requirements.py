"""Print what pyproject.toml asks for, one requirement a line.

An image installs it before the code: a change of the code leaves the large layers as they are.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding='utf-8'))['project']
for requirement in (*project['dependencies'], *project['optional-dependencies']['validate']):
    print(requirement)  # noqa: T201

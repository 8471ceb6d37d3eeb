"""`python -m learner` as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from data.records import BaseModel
from tests.support.server_process import ROOT


def shell(state: Path, base: BaseModel, *arguments: str, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **environment: str) -> subprocess.Popen:
    """`python -m learner ...` on this state folder."""
    return subprocess.Popen([sys.executable, "-m", "learner", *arguments], cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=stdout, stderr=stderr,
                            env={**os.environ, "STATE_DIR": str(state), "BASE_MODEL": base.source, **environment})

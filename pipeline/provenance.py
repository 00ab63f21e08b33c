"""What a result was made with: the commit of the checkout and the versions of the packages that shape it."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("escapement-vision", "mlflow", "torch", "timm", "ray", "albumentations", "pandas", "numpy")


def current_commit() -> str:
    """The commit of the checkout, `+dirty` where files differ; ESCAPEMENT_COMMIT where `.git` did not travel."""
    given = os.environ.get("ESCAPEMENT_COMMIT")
    if given:
        return given
    checkout = Path(__file__).parent
    try:
        commit = _git(checkout, "rev-parse", "HEAD")
        return commit + ("+dirty" if _git(checkout, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def package_versions() -> dict[str, str]:
    """Versions of the packages that shape a result."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions

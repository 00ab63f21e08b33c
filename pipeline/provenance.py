"""What a result was made with: the commit of the checkout and the versions of the packages that shape it."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: Packages by which a result of the same configuration may come out otherwise.
SHAPING = ("torch", "timm", "escapement-vision")
PACKAGES = ("escapement-vision", "mlflow", "torch", "timm", "ray", "albumentations", "pandas", "numpy")


def current_commit() -> str:
    """The commit of the checkout, `+dirty` where files differ; ESCAPEMENT_COMMIT where `.git` did not travel."""
    given = os.environ.get("ESCAPEMENT_COMMIT")
    if given:
        return given
    checkout = Path(__file__).parent
    try:
        _git(checkout, "ls-files", "--error-unmatch", "--", Path(__file__).name)  # else it is another's repository
        commit = _git(checkout, "rev-parse", "HEAD")
        return commit + ("+dirty" if _git(checkout, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


@dataclass(frozen=True)
class Maker:
    """What results are made with."""

    commit: str
    versions: Mapping[str, str]

    @classmethod
    def here(cls) -> Maker:
        return cls(current_commit(), package_versions())

    def unlike(self, other: Maker) -> str:
        """How this one differs from another: `commit abc1234, torch 2.13 → 2.14`; empty where it does not."""
        differences = []
        if self.commit != other.commit and "unknown" not in (self.commit, other.commit):
            commit, _, dirty = self.commit.partition("+")
            differences.append(f"commit {commit[:7]}{dirty and '+' + dirty}")
        for name in SHAPING:
            before, now = self.versions.get(name), other.versions.get(name)
            if before is not None and before != now:
                differences.append(f"{name} {before} → {now}")
        return ", ".join(differences)


def _git(folder: Path, *args: str) -> str:
    done = subprocess.run(["git", "-C", str(folder), *args], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@functools.cache
def package_versions() -> dict[str, str]:
    """Versions of the packages that shape a result."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return versions

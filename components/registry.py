"""The model registry: versions of a model, and the aliases that say which one the line uses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from components.tracking import Tracker


class Registry:
    def __init__(self, tracker: Tracker, model_name: str) -> None:
        self._tracker = tracker
        self.client = tracker.client
        self.model_name = model_name

    def version_with_alias(self, alias: str) -> str | None:
        return self.aliases().get(alias)

    def version_of_model(self, model_id: str) -> str | None:
        """The newest version that holds a logged model, if it is registered already."""
        if not self._exists():
            return None
        versions = self.client.search_model_versions(f"name = '{self.model_name}'")
        numbers = [int(v.version) for v in versions if v.tags.get("escapement.model_id") == model_id]
        return str(max(numbers)) if numbers else None

    def logged_model(self, version: str) -> str:
        return str(self.client.get_model_version(self.model_name, version).source).removeprefix("models:/")

    def register(self, *, model_id: str, run_id: str, tags: Mapping[str, str]) -> str:
        """Make a version from a logged model; its number."""
        if not self._exists():
            self.client.create_registered_model(self.model_name)
        version = self.client.create_model_version(
            self.model_name,
            f"models:/{model_id}",
            run_id=run_id,
            tags={"escapement.model_id": model_id, **tags},
            model_id=model_id,
        )
        # The UI shows by this tag, on the logged model and on its runs, which versions it is registered as.
        known = json.loads(self.client.get_logged_model(model_id).tags.get("mlflow.modelVersions", "[]"))
        entry = {"name": self.model_name, "version": str(version.version)}
        if entry not in known:  # a server sets it, a local store does not
            self.client.set_logged_model_tags(model_id, {"mlflow.modelVersions": json.dumps([*known, entry])})
        return str(version.version)

    def set_alias(self, alias: str, version: str) -> None:
        self.client.set_registered_model_alias(self.model_name, alias, version)

    def remove_alias(self, alias: str) -> None:
        self.client.delete_registered_model_alias(self.model_name, alias)

    def tag_version(self, version: str, tags: Mapping[str, str]) -> None:
        for key, value in tags.items():
            self.client.set_model_version_tag(self.model_name, version, key, value)

    def download(self, version: str) -> Path:
        """A local folder with the model of a version (the store's own, where that is local)."""
        return self._tracker.download(f"models:/{self.model_name}/{version}")

    def aliases(self) -> dict[str, str]:
        """Alias → version. Read from the registered model: the versions that a search returns carry none."""
        if not self._exists():
            return {}
        aliases = self.client.get_registered_model(self.model_name).aliases
        return {alias: str(version) for alias, version in aliases.items()}

    def _exists(self) -> bool:
        return bool(self.client.search_registered_models(f"name = '{self.model_name}'"))

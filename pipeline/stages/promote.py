"""promote: registers the model, compares it with the gates and the champion, and sets an alias.

The registered champion predicts the same image files, which are read from the data source. Both models are compared on
whole files, whether or not one of them uses tiles. Images on which the champion was fitted or calibrated are excluded.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from components.data.files import Files
from components.display import counted
from components.errors import InputError, ModelError
from components.evaluation.gates import GateResult, judge_gates
from components.evaluation.non_inferiority import non_inferiority
from components.evaluation.predictions import worst_per_file
from components.registry import Registry
from components.serving.bundle import SEEN_PREFIX_LENGTH, read_card, read_seen_images
from components.tracking import load_pyfunc
from pipeline.compute.resources import driver_compute
from pipeline.config import PromoteConfig
from pipeline.data.sources import list_images, log_lineage
from pipeline.sections.data import DataConfig
from pipeline.stage import StageContext

CHAMPION, CHALLENGER = "champion", "challenger"
#: Image files per prediction of the champion.
BATCH = 32


def run(context: StageContext, *, seed: int, data: DataConfig, promote: PromoteConfig) -> dict[str, Any]:
    """Register, judge, set the alias; write decision.json with every reason."""
    assert promote.model_name is not None  # resolved when the configuration was loaded
    log_lineage(context.run, context.inputs["prepare"].directory, used_for="promotion")
    registry = Registry(context.tracker, promote.model_name)
    # The registry knows no compare-and-swap, so promotions from this storage take turns.
    with FileLock(str(context.storage / f"promote-{promote.model_name}.lock")):
        decision = _decide(context, registry, seed=seed, data=data, settings=promote)
    text = json.dumps(decision, indent=2, allow_nan=False)
    (context.directory / "decision.json").write_text(text, encoding="utf-8")
    context.run.log_artifact(context.directory / "decision.json")
    context.run.set_tags({"escapement.model_version": decision["version"], "escapement.alias": decision["alias"]})
    _say(context, decision)
    return {
        "model_name": promote.model_name,
        "model_version": decision["version"],
        "alias": decision["alias"],
        "gates_passed": sum(gate["passed"] for gate in decision["gates"]),
        "gates": len(decision["gates"]),
    }


def _decide(
    context: StageContext, registry: Registry, *, seed: int, data: DataConfig, settings: PromoteConfig
) -> dict[str, Any]:
    model_id = json.loads(context.input("deliver", "delivery.json").read_text(encoding="utf-8"))["model_id"]
    metrics = json.loads(context.input("evaluate", "metrics.json").read_text(encoding="utf-8"))
    registered = registry.version_of_model(model_id)
    version = registered if _is_usable(context, registry, registered) else None
    champion = registry.version_with_alias(CHAMPION)
    gates = judge_gates(metrics, settings.gates.model_dump())
    comparison = None
    if champion is not None and champion != registered:
        try:
            comparison = _compare(context, registry, champion, seed=seed, data=data, settings=settings)
            reason = "the two models do not make the same kind of decision"
            if comparison is not None:
                reason = "; ".join(comparison[kind]["reason"] for kind in ("escape_rate", "overkill_rate"))
        except ModelError as error:
            reason = f"it cannot be loaded, so it is not compared ({error}); restore its files, or remove its alias"
        passed = comparison is not None and comparison["passed"]
        gates.append(GateResult(f"non-inferior to champion (version {champion})", None, None, passed, reason))
    if version is None:
        logged_id, run_id = _logged_model(context, model_id)
        version = registry.register(
            model_id=logged_id,
            run_id=run_id,
            tags={
                "escapement.model_id": model_id,
                "escapement.deliver_run": context.inputs["deliver"].run_id,
                "escapement.fingerprint": context.inputs["deliver"].fingerprint,
            },
        )
    passed = all(gate.passed for gate in gates)
    alias = _set_alias(registry, version, champion, passed=passed)
    registry.tag_version(version, {"escapement.gates": "passed" if passed else "failed"})
    return {
        "model_name": registry.model_name,
        "version": version,
        "alias": alias,
        "model": read_card(context.input("deliver", "model")).summary,
        "promoted": alias == CHAMPION and champion != version,
        "previous_champion": champion,
        "gates": [asdict(gate) for gate in gates],
        "comparison": comparison,
        "reason": _reason(gates, version, champion),
    }


def _is_usable(context: StageContext, registry: Registry, version: str | None) -> bool:
    """Whether a version can be used. Lost files of its model are logged again."""
    if version is None:
        return False
    logged_id = registry.logged_model(version)
    if not context.tracker.holds_model(logged_id):
        context.console.warn(f"the logged model of version {version} was deleted: it is registered again")
        return False
    _restore(context, logged_id)
    return True


def _restore(context: StageContext, logged_id: str) -> None:
    """Log lost files of a model again; raise `InputError` if the model cannot be loaded then."""
    folder = context.input("deliver", "model")
    lost = context.tracker.lost_files(logged_id, folder)
    if lost:
        context.console.warn(f"of the logged model {lost[0]} was gone or changed (files: {len(lost)}); logged again")
        context.tracker.restore_model(logged_id, folder)
    load_pyfunc(f"models:/{logged_id}", model_config={"device": "cpu"})


def _logged_model(context: StageContext, model_id: str) -> tuple[str, str]:
    """The model's id in this store, and its run. A reused result may have been logged to another store."""
    if context.tracker.holds_model(model_id):
        _restore(context, model_id)
        return model_id, context.inputs["deliver"].run_id
    folder = context.input("deliver", "model")
    return context.tracker.log_model(context.run, folder, name="model", params={}), context.run.id


def _set_alias(registry: Registry, version: str, champion: str | None, *, passed: bool) -> str:
    """Set and return the alias of the version. An existing champion keeps its alias: only a person demotes it."""
    if version == champion:
        return CHAMPION
    if not passed:
        registry.set_alias(CHALLENGER, version)
        return CHALLENGER
    registry.set_alias(CHAMPION, version)
    if registry.version_with_alias(CHALLENGER) == version:
        registry.remove_alias(CHALLENGER)
    return CHAMPION


def _compare(
    context: StageContext, registry: Registry, champion: str, *, seed: int, data: DataConfig, settings: PromoteConfig
) -> dict[str, Any] | None:
    """Compare both models on the test images that the champion has not seen; None if one makes no decisions."""
    predictions = pd.read_parquet(context.input("evaluate", "test_predictions.parquet"))
    if "decision" not in predictions:
        return None
    folder = registry.download(champion)
    try:
        card = read_card(folder)
        seen = read_seen_images(folder)
    except InputError as error:
        raise ModelError(str(error)) from error
    if not card.good_classes:
        return None
    tested = worst_per_file(predictions)
    fresh = tested[~tested["sha256"].str[:SEEN_PREFIX_LENGTH].isin(seen)].reset_index(drop=True)
    files = list_images(data, context.storage).files
    decisions = _champion_decisions(context, folder, files, fresh["path"].tolist())
    result = non_inferiority(
        fresh["decision"].to_numpy() == "reject",
        decisions != "accept",
        fresh["is_defect"].to_numpy(dtype=bool),
        fresh["group"].to_numpy(),
        margin_escape=settings.escape_margin,
        margin_overkill=settings.overkill_margin,
        confidence=settings.confidence,
        bootstrap_samples=settings.bootstrap_samples,
        seed=seed,
    )
    return {
        **result,
        "champion": card.summary,
        "images": len(fresh),
        "left_out_as_seen_by_champion": len(tested) - len(fresh),
    }


def _champion_decisions(context: StageContext, folder: Path, files: Files, paths: list[str]) -> np.ndarray:
    """(N,) str: accept, reject or review, of each file in order."""
    missing = [path for path, stamp in zip(paths, files.stamps(paths), strict=True) if stamp is None]
    if missing:
        gone = counted(len(missing), "test image is", "test images are")
        raise InputError(f"data.source: {gone} gone from {files.uri}, for instance {missing[0]}; restore them")
    model = load_pyfunc(
        str(folder), model_config={"batch_size": BATCH, "device": driver_compute(context.compute).device}
    )
    decisions: list[str] = []
    with context.console.bar("champion on the same images", len(paths)) as advance:
        for start in range(0, len(paths), BATCH):
            batch = [_read(files, path) for path in paths[start : start + BATCH]]
            decisions += model.predict(pd.DataFrame({"image": batch}))["decision"].tolist()
            advance(len(batch))
    return np.array(decisions, dtype=object)


def _read(files: Files, path: str) -> bytes:
    try:
        return files.read(path)
    except OSError as error:
        raise InputError(f"data.source: the test image {path} in {files.uri} cannot be read: {error}") from error


def _reason(gates: list[GateResult], version: str, champion: str | None) -> str:
    failed = [gate.name for gate in gates if not gate.passed]
    if version == champion:
        return "this model is already the champion" + (f"; it now fails: {', '.join(failed)}" if failed else "")
    return f"fails: {', '.join(failed)}" if failed else "passes every gate"


def _say(context: StageContext, decision: dict[str, Any]) -> None:
    for gate in decision["gates"]:
        mark, style = ("pass", "green") if gate["passed"] else ("FAIL", "red")
        context.console.say(f"  {mark}  {gate['name']}: {gate['reason']}", style)
    context.console.say(
        f"  {decision['model_name']} version {decision['version']} is {decision['alias']}: {decision['reason']}"
    )
    context.console.say(f"  it is made of {decision['model']}")

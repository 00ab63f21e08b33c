"""The lines of the design that imports could cross: floors, ground-floor folders, and one door to each big library."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROUND_FLOOR = ("data", "models", "optim", "evaluation", "report")
MIDDLE_FLOOR = ("training", "search", "serving")
FILES = sorted(p for top in ("components", "pipeline") for p in (ROOT / top).rglob("*.py"))
COMPONENTS = [path for path in FILES if path.is_relative_to(ROOT / "components")]

#: Sub-packages of `pipeline` that serve one stage each; no other may import them, but for that stage and its report.
PARTS = {
    "embedding": "embed",
    "range_test": "lr_range_test",
    "comparison": "compare_lr",
    "search": "search",
    "confirmation": "confirm",
}
#: The other sub-packages, and what they may import of their siblings. A part may import all of these but `reports`.
SHARED: dict[str, set[str]] = {
    "sections": set(),
    "compute": {"sections"},
    "training": {"sections", "compute"},
    "data": {"sections", "compute"},
    "checks": {"sections", "compute", "training", "data", "stages"},
    "reports": {"sections", "compute", "training", "data"},
    "delivery": {"sections", "compute", "training"},
    "init": {"sections", "compute", "data"},
}
PACKAGES = {*PARTS, *SHARED, "stages"}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def imported(path: Path, *, typing_too: bool = False) -> frozenset[str]:
    """Dotted names of the modules that a file imports anywhere in it, `from a import b` giving `a` and `a.b`."""
    found: set[str] = set()
    for node in walk(parsed(path), typing_too=typing_too):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative import"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def walk(node: ast.AST, *, typing_too: bool) -> Iterator[ast.AST]:
    """Every node, without the bodies of `if TYPE_CHECKING`."""
    yield node
    for child in ast.iter_child_nodes(node):
        guarded = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if guarded and not typing_too:
            continue
        yield from walk(child, typing_too=typing_too)


def importers(module: str, files: list[Path], *, typing_too: bool = False) -> set[str]:
    """Files that import a module or something in it."""
    return {
        name_of(path)
        for path in files
        if any(n == module or n.startswith(f"{module}.") for n in imported(path, typing_too=typing_too))
    }


def siblings(path: Path) -> set[str]:
    """The other sub-packages of `pipeline` that a file in one of them imports."""
    own = path.relative_to(ROOT / "pipeline").parts[0]
    names = [name.split(".") for name in imported(path, typing_too=True)]
    return {parts[1] for parts in names if parts[0] == "pipeline" and parts[1:2] and parts[1] in PACKAGES} - {own}


def callers(dotted: str) -> set[str]:
    return {
        name_of(path)
        for path in FILES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == dotted
    }


def test_components_never_import_the_pipeline() -> None:
    assert importers("pipeline", COMPONENTS, typing_too=True) == set()


def test_no_part_of_the_pipeline_imports_a_sibling_but_through_what_they_share() -> None:
    found = set()
    for path in (ROOT / "pipeline").glob("*/*.py"):
        package = path.parent.name
        if package in PARTS:
            allowed = set(SHARED) - {"reports"}
        elif package == "stages":
            allowed = set(SHARED) | {part for part, stage in PARTS.items() if stage == path.stem}
        elif package == "reports":
            allowed = SHARED["reports"] | {part for part in PARTS if part == path.stem}
        else:
            allowed = SHARED.get(package, set())
        found |= {(sibling, name_of(path)) for sibling in siblings(path) - allowed}
    assert found == set()


@pytest.mark.parametrize(
    ("folder", "faces"),
    [("optim.monitor", {"monitor"}), ("optim.range_test", {"bounds", "divergence", "weight_decay"})],
)
def test_a_folder_of_many_files_is_used_through_few_of_them(folder: str, faces: set[str]) -> None:
    inside = ROOT / "components" / Path(*folder.split("."))
    outside = [path for path in FILES if not path.is_relative_to(inside)]
    files = {path.stem for path in inside.glob("*.py")} - faces - {"__init__"}
    used = {name: importers(f"components.{folder}.{name}", outside, typing_too=True) for name in files}
    assert {name: by for name, by in used.items() if by} == {}


@pytest.mark.parametrize("folder", GROUND_FLOOR)
def test_a_ground_floor_folder_imports_no_other_folder_and_no_tracker(folder: str) -> None:
    files = sorted((ROOT / "components" / folder).rglob("*.py"))
    assert files
    others = {*GROUND_FLOOR, *MIDDLE_FLOOR, "tracking", "cluster"} - {folder}
    for module in [*(f"components.{other}" for other in others), "mlflow", "ray"]:
        assert importers(module, files, typing_too=True) == set(), module


def test_the_middle_floor_knows_neither_the_tracker_nor_the_cluster() -> None:
    files = [path for folder in MIDDLE_FLOOR for path in (ROOT / "components" / folder).rglob("*.py")]
    assert importers("components.tracking", files) | importers("components.cluster", files) == set()


def test_mlflow_has_two_doors() -> None:
    store = {"components/tracking_store.py", "components/tracking.py"}
    assert importers("mlflow", FILES) == store | {"components/serving/pyfunc.py"}


def test_ray_is_started_and_stopped_in_one_file() -> None:
    assert callers("ray.init") == {"components/cluster.py"}
    assert callers("ray.shutdown") == {"components/cluster.py"}


#: What asks Ray's schedulers, what runs in a worker, what runs Tune.
TUNE_DOORS = {f"components/search/{name}.py" for name in ("rungs", "trainable", "tuner")}


def test_ray_tune_has_three_doors_and_components_know_ray_in_few_files() -> None:
    assert importers("ray.tune", FILES) == TUNE_DOORS
    doors = {"components/cluster.py", "components/training/distributed.py"}
    assert importers("ray", COMPONENTS) <= TUNE_DOORS | doors


def test_tune_runs_in_one_place() -> None:
    assert callers("tune.run") == {"components/search/tuner.py"}
    assert callers("tune.Tuner") == callers("tune.report") == set()


def test_what_chooses_trials_and_what_is_known_of_them_can_do_without_ray() -> None:
    """A simulation replaces Tune; what it shares with it imports no door but the rule's."""
    apart = ["trial", "space", "journal", "state", "analysis", "importance"]
    files = [ROOT / "components" / "search" / f"{name}.py" for name in apart]
    files += sorted((ROOT / "components" / "search" / "samplers").rglob("*.py"))
    for door in TUNE_DOORS:
        assert importers(door.removesuffix(".py").replace("/", "."), files, typing_too=True) == set(), door


def test_a_worker_of_the_search_knows_nothing_of_its_state() -> None:
    worker = [ROOT / "components" / "search" / "trainable.py", ROOT / "pipeline" / "search" / "trial.py"]
    for name in ("state", "journal", "tuner", "checkpoints", "samplers"):
        assert importers(f"components.search.{name}", worker) == set(), name
    for module in ("mlflow", "components.tracking", "pipeline.search.runs", "pipeline.training.placement"):
        assert importers(module, worker) == set(), module


@pytest.mark.parametrize("module", ["matplotlib", "jinja2"])
def test_drawing_and_html_are_made_in_the_report_folder_alone(module: str) -> None:
    assert all(name.startswith("components/report/") for name in importers(module, FILES))


def test_figures_keep_clear_of_the_global_state_of_pyplot() -> None:
    assert importers("matplotlib.pyplot", FILES, typing_too=True) == set()


def test_the_engine_knows_neither_the_tracker_nor_ray() -> None:
    engine = [ROOT / "components" / "training" / "engine.py"]
    for module in ("mlflow", "ray", "components.tracking", "components.cluster"):
        assert importers(module, engine, typing_too=True) == set()


@pytest.mark.parametrize(
    ("file", "allowed"),
    [
        ("data/decode.py", {"numpy", "PIL"}),
        ("data/framing.py", {"numpy", "PIL"}),
        ("models/forward.py", {"torch", "timm"}),
        ("evaluation/decision.py", {"numpy"}),
    ],
)
def test_what_is_copied_into_every_model_imports_only_what_a_served_model_has(file: str, allowed: set[str]) -> None:
    names = imported(ROOT / "components" / file, typing_too=True)
    assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, *allowed}


def test_the_way_from_logits_to_a_decision_stands_once() -> None:
    """Where a threshold is applied or a logit becomes log-odds, `decision.py` is asked."""
    users = importers("components.evaluation.decision", FILES)
    for name in ("components/evaluation/calibration.py", "components/evaluation/objectives.py"):
        assert name in users
    assert {path.name for path in FILES if "logaddexp.reduce" in path.read_text(encoding="utf-8")} == {"decision.py"}


def test_components_take_their_tunables_as_required_arguments() -> None:
    """A default stands once, in the configuration: no parameter named like one of its keys has another."""
    from pipeline.config import Config

    keys = {key for section in Config().model_dump().values() if isinstance(section, dict) for key in section}
    with_default = set()
    for path in COMPONENTS:
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.FunctionDef):
                continue
            arguments, given = [*node.args.posonlyargs, *node.args.args], node.args.defaults
            pairs = [*zip(arguments[len(arguments) - len(given) :], given, strict=True)]
            pairs += [(a, d) for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True) if d]
            with_default |= {f"{name_of(path)}:{node.name}:{a.arg}" for a, _ in pairs if a.arg in keys}
    assert with_default == set()


def test_nothing_prints_or_reaches_for_a_global_generator() -> None:
    assert callers("print") == set()
    for dotted in ("np.random.seed", "random.seed", "torch.seed"):
        assert callers(dotted) == set()


def test_every_file_opens_with_what_it_is_for() -> None:
    silent = {name_of(path) for path in FILES if not ast.get_docstring(parsed(path))}
    assert silent == set()


@pytest.mark.parametrize("module", ["pipeline.cli", "pipeline.config", "pipeline.stages", "pipeline.stage"])
def test_the_command_line_and_the_architecture_load_without_anything_heavy(module: str) -> None:
    code = (
        f"import sys, {module}; "
        "print(*sorted({'torch', 'ray', 'mlflow', 'pandas', 'timm', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""

"""Python processes without the seconds that each would spend on importing torch, timm, MLflow and Ray.

As a script, this is a process that has imported them and forks once per line of its standard input. A process that is
made so has its own session, directory, environment and outputs, and ends by the interpreter's rules. `Preloaded` is the
tests' side of it, and `Forked` stands for one of its processes as `subprocess.Popen` does.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

#: What this project's modules import only once it is needed.
LATE = ("albumentations", "matplotlib.backends.backend_agg", "mlflow.store.tracking.sqlalchemy_store")


class Forked:
    """A process that was forked. Its session and its process group are its own."""

    def __init__(self, pid: int, folder: Path) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._folder = folder

    def poll(self) -> int | None:
        """The exit code, negative where a signal ended it; None while it goes on."""
        if self.returncode is None and (self._folder / "code").exists():
            self.returncode = int((self._folder / "code").read_text())
        return self.returncode

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return (self._folder / "stderr").read_text()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end. Returns standard output and standard error."""
        until = time.monotonic() + (timeout or float("inf"))
        while self.poll() is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            time.sleep(0.005)
        return (self._folder / "stdout").read_text(), self.stderr


class Preloaded:
    """The process that has imported everything. It ends with its owner's standard input."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="esc-runs-"))
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, text=True, env={**environment}, cwd=self._folder
        )
        self._count = 0

    def start(self, words: Sequence[str], *, cwd: Path, environment: Mapping[str, str]) -> Forked:
        """Run `python` with these words: a script, or `-m` and a module, and its arguments."""
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        line = {"words": words, "cwd": str(cwd), "environment": {**environment}, "folder": str(folder)}
        self._requests.write(json.dumps(line) + "\n")
        self._requests.flush()
        while not (folder / "pid").exists():
            assert self._process.poll() is None, "the process that others are forked from has ended"
            time.sleep(0.002)
        return Forked(int((folder / "pid").read_text()), folder)

    def close(self) -> None:
        self._requests.close()
        self._process.wait()
        shutil.rmtree(self._folder)

    @property
    def _requests(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin


def _serve() -> None:
    """One process per line."""
    import gc
    import importlib
    import pkgutil
    import signal

    import components
    import pipeline

    own = [
        module.name
        for package in (components, pipeline)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not module.name.endswith("__main__")
    ]
    for name in (*own, *LATE):
        importlib.import_module(name)
    gc.freeze()  # so that a collection does not copy every page
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the wardens
    for line in sys.stdin:
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _guard(json.loads(line))


def _guard(request: dict[str, Any]) -> None:
    """Fork the process, wait for its end and write down how it ended."""
    folder = Path(request["folder"])
    pid = os.fork()
    if pid == 0:
        os.setsid()
        _write(folder / "pid", os.getpid())
        _become(request, folder)
    _, status = os.waitpid(pid, 0)
    _write(folder / "code", os.waitstatus_to_exitcode(status))
    os._exit(0)


def _write(path: Path, number: int) -> None:
    """At once or not at all."""
    whole = path.with_suffix(".tmp")
    whole.write_text(str(number))
    whole.replace(path)


def _become(request: dict[str, Any], folder: Path) -> None:
    """Be `python` with the words of the request, from its first line to its last."""
    import atexit
    import runpy
    import threading
    import traceback

    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, path, mode in ((0, os.devnull, "r"), (1, folder / "stdout", "w"), (2, folder / "stderr", "w")):
        with open(path, mode) as opened:  # noqa: PTH123
            os.dup2(opened.fileno(), number)
    first, *rest = request["words"]
    code: Any = 0
    try:
        if first == "-m":
            module, *arguments = rest
            sys.path[0], sys.argv = request["cwd"], [module, *arguments]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            sys.path[0], sys.argv = str(Path(first).parent), [first, *rest]
            runpy.run_path(first, run_name="__main__")
    except SystemExit as end:
        code = end.code
        if not isinstance(code, int | None):
            print(code, file=sys.stderr)
    except BaseException:  # noqa: BLE001 - the interpreter would do no other
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    _serve()

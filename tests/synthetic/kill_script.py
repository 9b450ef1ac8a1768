"""Kills a save before every line that it runs, and looks at what is left.

Run by `test_kill.py` in a process of its own, which forks: JAX must not have started
its threads. Prints what was found after each kill, as JSON.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from ddjax import synthetic
from ddjax.synthetic import encoding
from tests.synthetic.problems import distilled_set

OLD, NEW, NOTHING = 1, 2, 3

_TRACED = (
    os.path.join("synthetic", "files.py"),
    os.path.join("storage", "atomic.py"),
)


def _kill_before_line(number: int) -> None:
    seen = 0

    def trace_line(frame, event, argument):
        nonlocal seen
        if event == "line":
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1
        return trace_line

    def trace_call(frame, event, argument):
        return trace_line if frame.f_code.co_filename.endswith(_TRACED) else None

    sys.settrace(trace_call)


def _in_child(work) -> int:
    """Exit code of a forked child that runs `work` and exits with what it returns."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _left_over(path: Path, new, digests: dict[str, int]) -> int:
    """What is at the path; then saves once more, which must leave nothing else."""
    found = NOTHING
    if os.path.lexists(path):
        found = digests[synthetic.digest(synthetic.load(path))]
    synthetic.save(path, new)
    assert digests[synthetic.digest(synthetic.load(path))] == NEW
    assert os.listdir(path.parent) == [path.name]
    assert path.is_file() or len(os.listdir(path)) == 2
    return found


def kills(folder: Path, form: str, start: str) -> list[int]:
    """What is found after a save over `start` was killed before each line in turn."""
    prepared, path = folder / "prepared", folder / "work" / form
    old, new = distilled_set(seed=0), distilled_set(seed=1)
    digests = {synthetic.digest(old): OLD, synthetic.digest(new): NEW}
    prepared.mkdir(parents=True)
    if start == "old":
        synthetic.save(prepared / form, old)
    # What touches no file is done once, and not under the trace.
    encode, encoded = encoding.encode, encoding.encode(new)
    encoding.encode = lambda distilled: encoded

    def save():
        _kill_before_line(len(found))
        synthetic.save(path, new)
        return 0

    found = []
    while True:
        shutil.rmtree(path.parent, ignore_errors=True)
        shutil.copytree(prepared, path.parent)
        code = _in_child(save)
        if code == 0:
            encoding.encode = encode
            return found
        assert code == -signal.SIGKILL, code
        found.append(_left_over(path, new, digests))


def main(folder: str) -> None:
    """Both forms; lazy imports are paid for once, before the forks."""
    synthetic.load(synthetic.save(Path(folder, "warm"), distilled_set()))
    result = {}
    # One file takes the place of another as it takes that of none.
    for name in ("folder over nothing", "folder over old", "a.safetensors over old"):
        form, _, start = name.split()
        result[name] = kills(Path(folder, name), form, start)
    print(json.dumps(result))


if __name__ == "__main__":
    main(sys.argv[1])

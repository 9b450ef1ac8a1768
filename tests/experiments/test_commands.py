import json
import subprocess
import sys
from pathlib import Path

import experiments

FOLDER = Path(experiments.__file__).parent
COMMANDS = sorted(
    ".".join(path.relative_to(FOLDER.parent).with_suffix("").parts)
    for path in FOLDER.rglob("*.py")
    if "__main__" in path.read_text(encoding="utf-8")
)

# One process imports JAX; each command then runs in a fork of it, because absl's flags
# are one set a process.
RUN_ALL = """
import contextlib, io, json, multiprocessing, runpy, sys
import jax, ddjax.methods

def helped(module, queue):
    sys.argv = [module, "--help"]
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit:
            pass
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=output)
    queue.put((module, output.getvalue()))

context = multiprocessing.get_context("fork")
queue = context.Queue()
found = {}
for module in sys.argv[1:]:
    process = context.Process(target=helped, args=(module, queue))
    process.start()
    name, text = queue.get(timeout=120)
    found[name] = text
    process.join()
print(json.dumps(found))
"""


def test_every_command_says_what_it_does():
    assert len(COMMANDS) > 10
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN_ALL, *COMMANDS],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert set(found) == set(COMMANDS)
    for command, text in found.items():
        assert f"python -m {command}" in text, (command, text)
        assert "Error:" not in text and "--" in text, (command, text)

"""Fails when a package and its public modules take too long to import beside jax.

Both are timed by turns, each in a process of its own, best of a few: a ratio says the
same on a slow machine and on a fast one.
"""

import argparse
import subprocess
import sys

_MEASURE = """
import importlib, pkgutil, time
start = time.perf_counter()
package = importlib.import_module({package!r})
if {modules}:
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module({package!r} + "." + module.name)
print(time.perf_counter() - start)
"""


def _seconds(package: str, modules: bool) -> float:
    code = _MEASURE.format(package=package, modules=modules)
    return float(subprocess.check_output([sys.executable, "-c", code], text=True))


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("package")
parser.add_argument("--times", type=float, required=True, help="of importing jax")
parser.add_argument("--tries", type=int, default=5)
arguments = parser.parse_args()

package, jax = float("inf"), float("inf")
for _ in range(arguments.tries):
    package = min(package, _seconds(arguments.package, True))
    jax = min(jax, _seconds("jax", False))
    if package < arguments.times * jax:
        break
print(
    f"import {arguments.package}: {package:.2f} s; jax alone: {jax:.2f} s "
    f"(allowed {arguments.times:g} times as long)"
)
sys.exit(package >= arguments.times * jax)

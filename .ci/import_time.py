"""Fails when a package and its public modules import too slowly, best of a few."""

import argparse
import subprocess
import sys

_MEASURE = """
import importlib, pkgutil, time
start = time.perf_counter()
package = importlib.import_module({package!r})
for module in pkgutil.iter_modules(package.__path__):
    if not module.name.startswith("_"):
        importlib.import_module({package!r} + "." + module.name)
print(time.perf_counter() - start)
"""

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("package")
parser.add_argument("--seconds", type=float, required=True)
parser.add_argument("--tries", type=int, default=5)
arguments = parser.parse_args()

code = _MEASURE.format(package=arguments.package)
best = float("inf")
for _ in range(arguments.tries):
    output = subprocess.check_output([sys.executable, "-c", code], text=True)
    best = min(best, float(output))
    if best < arguments.seconds:
        break
print(f"import {arguments.package}: {best:.2f} s (allowed {arguments.seconds:g} s)")
sys.exit(best >= arguments.seconds)

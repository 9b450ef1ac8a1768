"""Executes every notebook under colabs/ in its smoke mode (DDJAX_SMOKE=1)."""

import os
import sys
import time
from pathlib import Path

import nbclient
import nbformat

os.environ["DDJAX_SMOKE"] = "1"
# They compile more than they compute.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
root = Path(__file__).resolve().parent.parent
notebooks = sorted((root / "colabs").glob("*.ipynb"))
if not notebooks:
    print("no notebooks under colabs/")
for path in notebooks:
    start = time.perf_counter()
    client = nbclient.NotebookClient(
        nbformat.read(path, as_version=4),
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(root)}},
    )
    try:
        client.execute()
    except nbclient.exceptions.CellExecutionError as error:
        sys.exit(f"{path.relative_to(root)} failed:\n{error}")
    print(f"{path.relative_to(root)}: {time.perf_counter() - start:.0f} s")

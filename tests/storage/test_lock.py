"""The lock: one process at a time, and nobody waits for the dead."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ddjax.storage.lock import WorkdirInUse, exclusive

_HOLDER = """
import sys, time, importlib.util
spec = importlib.util.spec_from_file_location("lock", sys.argv[1])
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
with lock.exclusive(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_is_refused_and_first_frees(tmp_path):
    with exclusive(tmp_path):
        with pytest.raises(WorkdirInUse, match=f"in use by process {os.getpid()} on"):
            with exclusive(tmp_path):
                pass
    with exclusive(tmp_path):
        pass


def test_killed_holder_blocks_nobody(tmp_path):
    from ddjax.storage import lock

    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, lock.__file__, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WorkdirInUse, match=f"process {holder.pid} on"):
            with exclusive(tmp_path):
                pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        deadline = time.monotonic() + 10
        while True:
            try:
                with exclusive(tmp_path):
                    break
            except WorkdirInUse:
                assert time.monotonic() < deadline
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()

"""The lock: one process at a time, and nobody waits for the dead."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ddjax.storage.lock import WorkdirInUse, exclusive
from tests.storage.waiting import held_until_waited_for

_HOLDER = """
import sys, time, importlib.util
spec = importlib.util.spec_from_file_location("lock", sys.argv[1])
lock = importlib.util.module_from_spec(spec)
spec.loader.exec_module(lock)
with lock.exclusive(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


def _in_another_thread(folder):
    """Takes the lock in a thread and returns what that raised."""
    raised = []

    def work():
        try:
            with exclusive(folder):
                pass
        except WorkdirInUse as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return raised


def test_second_is_refused_and_first_frees(tmp_path):
    (tmp_path / "other").mkdir()
    with exclusive(tmp_path):
        (error,) = _in_another_thread(tmp_path)
        assert f"in use by process {os.getpid()} on" in str(error)
        assert not _in_another_thread(tmp_path / "other")
    assert not _in_another_thread(tmp_path)


def test_blocks_of_one_thread_may_be_nested(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to("run")
    with exclusive(tmp_path / "run"):
        for name in ("run", "link"):
            with exclusive(tmp_path / name):
                assert _in_another_thread(tmp_path / "run")
            # Held until the outermost block ends.
            assert _in_another_thread(tmp_path / "run")
        with pytest.raises(KeyError), exclusive(tmp_path / "run"):
            raise KeyError
        assert _in_another_thread(tmp_path / "run")
    assert not _in_another_thread(tmp_path / "run")


def test_waiting_says_for_whom_and_goes_on(tmp_path, monkeypatch):
    def second():
        with exclusive(tmp_path, wait=True):
            return (tmp_path / ".lock").read_text()

    (said,), holder = held_until_waited_for(monkeypatch, tmp_path, second)
    assert f"{tmp_path} is in use by process {os.getpid()} on " in said
    assert " since 2" in said and "waiting" in said
    assert holder.startswith(f"process {os.getpid()} on ")
    assert not _in_another_thread(tmp_path)


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

"""Two that want one folder: a test holds it until the other one waits."""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

from ddjax.storage import exclusive, lock


def held_until_waited_for(monkeypatch, folder, work):
    """Holds `folder` until `work`, in another thread, waits for it.

    Returns:
      What was said while waiting, and what `work` returned once the folder was free.
    """
    said, waiting = [], threading.Event()

    def warn(message, **_):
        said.append(message)
        waiting.set()

    with monkeypatch.context() as patched, ThreadPoolExecutor(1) as pool:
        patched.setattr(lock, "warnings", SimpleNamespace(warn=warn))
        # Another thread, for the one that holds a folder may take it again.
        with exclusive(folder):
            result = pool.submit(work)
            assert waiting.wait(60)
            assert not result.done()
        return said, result.result()

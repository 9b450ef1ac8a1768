"""A save that is really killed leaves the old set or the new one."""

import json
import subprocess
import sys

from tests.synthetic.kill_script import NEW, NOTHING, OLD


def test_killed_before_every_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.synthetic.kill_script", tmp_path],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert len(result) == 3
    for name, found in result.items():
        before = OLD if name.endswith("over old") else NOTHING
        assert len(found) > 20, name
        # First the old state, from one line on the new one, and nothing else.
        assert set(found) == {before, NEW}, (name, found)
        assert found == sorted(found, key=[before, NEW].index), (name, found)

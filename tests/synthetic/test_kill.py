"""A save that is really killed leaves the old set or the new one."""

import json

from tests.processes import python
from tests.synthetic.kill_script import NEW, NOTHING, OLD


def test_killed_before_every_line(tmp_path):
    result = json.loads(python("-m", "tests.synthetic.kill_script", tmp_path))
    assert len(result) == 3
    for name, found in result.items():
        before = OLD if name.endswith("over old") else NOTHING
        assert len(found) > 20, name
        # First the old state, from one line on the new one, and nothing else.
        assert set(found) == {before, NEW}, (name, found)
        assert found == sorted(found, key=[before, NEW].index), (name, found)

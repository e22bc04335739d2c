# SPDX-License-Identifier: Apache-2.0
"""Does the data plane's library outlive the thread that loaded it?"""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import threading

def ask():
    from pylae import _core
    assert _core.check_expression('http.path ^= "/a"') is None

for _ in range(4):
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
"""


def test_the_thread_that_loaded_it_may_end() -> None:
    """An allocator that belongs to the first thread would bring down the second."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")

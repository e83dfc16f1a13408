"""Looking at the frames of threads while the garbage collector lets other threads go on."""

from __future__ import annotations

import gc
import subprocess
import sys

from unitofwork.core.frames import current_frames

# Each thread that waits costs a new frame object when it is first looked at. The garbage collection
# that these set off starts a thread, as the finaliser of anything or another thread might.
LOOKS = """
import gc, threading
from unitofwork.core.frames import current_frames

done = threading.Event()
for _ in range(60):
    threading.Thread(target=done.wait).start()

def start_a_thread(phase, info):
    threading.Thread(target=int).start()

gc.callbacks.append(start_a_thread)
gc.set_threshold(10)
seen = current_frames()
gc.callbacks.clear()
done.set()
print(len(seen) > 60)
"""


def test_a_collection_in_the_middle_does_not_stop_the_process() -> None:
    """https://github.com/python/cpython/issues/106883, which Python 3.11.9 has mended."""
    run = subprocess.run(
        [sys.executable, "-c", LOOKS], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout == "True\n"


def test_the_collector_is_left_as_it_was() -> None:
    """Who has switched it off finds it off."""
    was = gc.isenabled()
    try:
        gc.enable()
        current_frames()
        assert gc.isenabled()
        gc.disable()
        current_frames()
        assert not gc.isenabled()
    finally:
        (gc.enable if was else gc.disable)()

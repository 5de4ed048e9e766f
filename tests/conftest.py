"""What every test needs: few threads, set before torch is imported, and the same examples of properties."""

import os

from hypothesis import settings

# Tests run in several processes on few cores: threads that wait for each other cost more than they give.
os.environ["OMP_NUM_THREADS"] = "1"

# On every machine and under any load the same; a stall is no failure.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")

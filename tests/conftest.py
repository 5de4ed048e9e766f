"""Settings that every test needs before torch is imported."""

import os

# Tests run in several processes on few cores: threads that wait for each other cost more than they give.
os.environ["OMP_NUM_THREADS"] = "1"

"""The programs of benchmarks/ find each other as they do when one of them is started."""

import sys

from pipeline.parameters import ROOT

sys.path.append(str(ROOT / "benchmarks"))

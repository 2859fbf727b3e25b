"""From a regressed model to a verified fair sparse one, step by step: `python walk.py [FOLDER]`.

Real handwritten digits, pruned so hard that one digit suffers far more than the others. Half of the rows are for
training, half for the verdict; nothing that repair chooses ever looks at the second half.
"""

import sys
from pathlib import Path
from tempfile import mkdtemp

from fairguard.checking import check
from fairguard.demo import digits
from fairguard.repair import repair

folder = Path(sys.argv[1] if len(sys.argv) > 1 else mkdtemp())
folder.mkdir(exist_ok=True)
digits.make(folder)
dense, pruned, fair = folder / "dense.pt", folder / "pruned.pt", folder / "fair.pt"
train, test = folder / "train.parquet", folder / "test.parquet"

# The margin is what some 90 rows a digit can carry; see the demo's fairguard.toml.
how = {"model": digits.build, "label": "digit", "groups": ("class",), "margin": 0.1, "device": "cpu"}

before = check(dense, pruned, test, **how)
print("1. pruned:  ", before.outcome, "-", before.headline)

report = repair(dense, pruned, fair, train=train, data=test, **how)
print("2. repaired:", report.result, "- exit code", report.exit_code)
print(report.to_text())

after = check(dense, fair, test, **how)
print("3. fair:    ", after.outcome, "-", after.headline)
print("   everything that was tried:", f"{fair}.report.html", "and", f"{fair}.report.json")

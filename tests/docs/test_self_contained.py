import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def test_no_path_of_this_machine_stands_in_the_repo() -> None:
    here = [f"{folder}/" for folder in (ROOT, Path.home()) if str(folder) != "/"]
    texts = {
        path: path.read_text(encoding="utf-8", errors="replace") for path in files() if path.suffix not in (".safetensors", ".parquet")
    }
    assert [str(path) for path, text in texts.items() if any(folder in text for folder in here)] == []


def test_locks_name_no_place_to_download_from() -> None:
    for lock in (ROOT / "locks").glob("*.lock"):
        assert re.findall(r"https?://|file:|--(?:extra-)?index-url|--find-links|--trusted-host", lock.read_text()) == [], lock.name

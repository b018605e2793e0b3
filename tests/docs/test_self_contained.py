import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOREIGN = re.compile(r"/work/|/root/|/tmp/models|pypi\.org|files\.pythonhosted|download\.pytorch\.org")


def test_no_path_of_a_machine_and_no_registry_stands_in_the_repo() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split("\0")
    found = []
    for name in listed:
        path = ROOT / name
        if name and path.is_file() and path.suffix not in (".safetensors", ".parquet", ".png") and path != Path(__file__):
            text = path.read_text(encoding="utf-8", errors="replace")
            found += [f"{name}: {match[0]}" for match in FOREIGN.finditer(text)]
    assert found == []

"""A live endpoint, the page of examples, and how the tools of others are run on both."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from experts.models import cache_dir

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "use-it-from.md"
OURS = Path(sys.executable).parent
THEIRS = ROOT / ".venv-conformance" / "bin"
DOCUMENTED = "http://127.0.0.1:8000"


@dataclass(frozen=True)
class Live:
    """A mixture of real models, served to those who have a key, and how the tools of others are run on it."""

    url: str
    key: str

    def run(self, command: list[str], folder: Path, where: Path = THEIRS) -> str:
        """Runs a command with the programs of an environment, and gives what it prints."""
        unset = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "PYTHON", "VIRTUAL_ENV"))}
        env = unset | {
            "OPENAI_API_KEY": self.key,
            "PATH": f"{where}{os.pathsep}{os.environ['PATH']}",
            "HF_HUB_OFFLINE": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "OMP_NUM_THREADS": "1",
            "COUNTERPOINT_CACHE": str(cache_dir()),
        }
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    def follow(self, title: str, folder: Path, where: Path = THEIRS) -> str:
        """Does what a section of the page says: writes its files, runs its commands, and gives what they print."""
        files, commands = section(title)
        for name, text in files.items():
            (folder / name).write_text(text.replace(DOCUMENTED, self.url), encoding="utf-8")
        return self.run(["bash", "-euo", "pipefail", "-c", commands.replace(DOCUMENTED, self.url)], folder, where)


def sections() -> list[str]:
    """Titles of the page's sections."""
    return re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def section(title: str) -> tuple[dict[str, str], str]:
    """Files and commands of a section; a block of code that names a file is one."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    blocks = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", rest.partition("\n## ")[0], re.MULTILINE | re.DOTALL)
    commands = [text for language, name, text in blocks if language == "sh" and not name]
    return {name: text for _, name, text in blocks if name}, "\n".join(commands)


def wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Waits until the endpoint is ready."""
    deadline = time.monotonic() + 400
    while True:
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)

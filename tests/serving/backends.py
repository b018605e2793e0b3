"""Where stores are kept in tests: SQLite always, PostgreSQL where there is one."""

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

BACKENDS = ("sqlite", "postgresql")
NAMED = "COUNTERPOINT_POSTGRES_URL"
"""Variable with the URL of a database on a server; each store of the tests is a schema in it, dropped afterwards."""
NONE = f"no PostgreSQL: neither {NAMED} nor initdb under /usr/lib/postgresql/*/bin (Debian's package postgresql)"


def programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(found, key=lambda path: float(path.parent.name), default=None)


@contextmanager
def private_server(bin: Path) -> Iterator[str]:
    """A server in a folder of its own, on no port, that ends with the block; gives its URL."""
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    folder = Path(tempfile.mkdtemp(prefix="counterpoint-pg-", dir="/tmp"))  # a socket's path may not be long
    data = folder / "data"
    if user is not None:
        shutil.chown(folder, user)
    make = [bin / "initdb", "-D", data, "-U", "counterpoint", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
    # the kernel keeps what is written while it runs, so only a power cut would tell fsync; it takes most of the time
    run = [bin / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
    try:
        subprocess.run(make, user=user, cwd=folder, check=True, capture_output=True, timeout=120)
        with (folder / "log").open("w") as log:
            server = subprocess.Popen(run, user=user, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            for _ in range(300):
                ready = subprocess.run([bin / "pg_isready", "-h", folder, "-t", "1", "-q"], timeout=60)
                if ready.returncode == 0 or server.poll() is not None:
                    break
            if ready.returncode != 0:
                raise RuntimeError(f"PostgreSQL does not start: {(folder / 'log').read_text()}")
            yield f"postgresql://counterpoint@/postgres?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # it ends the connections that are left
            server.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def schemas(server: str) -> Iterator[list[str]]:
    """A list of schemas that are dropped when the block ends."""
    made: list[str] = []
    yield made
    for name in made:
        execute(server, f"DROP SCHEMA {name} CASCADE")


def new_schema(server: str, made: list[str]) -> str:
    """Make a schema, as a store of its own, and give its URL."""
    made.append(name := f"t{uuid.uuid4().hex}")
    execute(server, f"CREATE SCHEMA {name}")
    url = make_url(server).update_query_dict({"options": f"-c search_path={name}", "application_name": name})
    return url.render_as_string(hide_password=False)


def execute(url: str, statement: str) -> list[tuple[object, ...]]:
    """Execute one statement beside the store, as another program would, and give its rows."""
    read = make_url(url)
    engine = create_engine(read.set(drivername="postgresql+psycopg") if read.drivername == "postgresql" else read)
    try:
        with engine.begin() as connection:
            done = connection.exec_driver_sql(statement)
            return [tuple(row) for row in done] if done.returns_rows else []
    finally:
        engine.dispose()


def kept_bytes(url: str) -> bytes:
    """All that a store's files hold, deleted or not; of one on a server, all that its rows hold."""
    if url.startswith("sqlite:///"):
        file = Path(url.removeprefix("sqlite:///"))
        return b"\n".join(path.read_bytes() for path in file.parent.glob(f"{file.name}*"))
    read = make_url(url)
    plain = read.update_query_dict({"options": f"{read.query['options']} -c bytea_output=escape"}).render_as_string(hide_password=False)
    tables = execute(url, "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()")
    return "\n".join(str(row[0]) for (table,) in tables for row in execute(plain, f"SELECT t::text FROM {table} t")).encode()

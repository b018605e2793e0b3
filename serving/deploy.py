"""The mixture as an application that a config of Ray Serve can name, for `serve run`, `serve deploy` and KubeRay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from serving import endpoint
from serving.config import ConfigError, load_config


def app(args: dict[str, Any]) -> Any:
    """Make the application, as `import_path: serving.deploy:app` with `args: {config: /path/of/mixture.yaml}` asks for it.

    The address is Serve's own then (`http_options`). Of the mixture's `serving`, only this remains: with a host of the loopback,
    requests for other host names are refused.

    Args:
        args: `config`, where the mixture's YAML lies on the machine that builds the application.

    Raises:
        ConfigError: There is no `config`, something else beside it, or the mixture cannot be used.
    """
    if set(args) != {"config"} or not isinstance(args["config"], str):
        raise ConfigError(f"wanted args with config, the path of the mixture's YAML, and nothing else; they are {args!r}")
    return endpoint.application(load_config(Path(args["config"])))


def serve_config(mixture: Path, host: str, port: int) -> dict[str, Any]:
    """What Ray's own `serve run` and `serve deploy` take to serve a mixture.

    Args:
        mixture: The mixture's YAML, which must lie there on the machine that builds the application.
        host: Address to listen on.
        port: Port.

    Example:
        >>> serve_config(Path("/etc/mixture.yaml"), "127.0.0.1", 8000)["applications"][0]["import_path"]
        'serving.deploy:app'
    """
    application = {
        "name": "counterpoint",
        "route_prefix": "/",
        "import_path": "serving.deploy:app",
        "args": {"config": str(mixture.resolve())},
    }
    return {"http_options": {"host": host, "port": port}, "applications": [application]}

"""The endpoint as a whole: the gateway as a Ray Serve application, started, given another config, ended."""

from __future__ import annotations

import logging
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

from data.records import CounterpointError
from experts.shared import SharedPool
from experts.slot import start_ray
from serving.config import ConfigError, MixtureConfig, expert_specs
from serving.control import Control
from serving.gateway import Gateway
from serving.keys import Key
from serving.listener import Listener
from serving.routes import make_app


class GatewayReplica:
    """A gateway in a process of its own, as Ray Serve starts and ends it.

    Args:
        config: The mixture, as JSON.
        listens: Whether it listens on the config's address itself; else Serve's proxies bring it the requests.
    """

    async def __init__(self, config: dict[str, Any], listens: bool) -> None:  # type: ignore[misc]  # Serve awaits it
        mixture = MixtureConfig.model_validate(config)
        alone = mixture.serving.gateways == 1
        if not alone:
            mixture = MixtureConfig.model_validate(await _control().config.remote(config))
        pool = None if alone else SharedPool(expert_specs(mixture), mixture.pool.build(), _control)
        self.gateway = Gateway(mixture, pool, None if alone else _tell_all)
        self.web = make_app(self.gateway)
        await self.gateway.start()
        serving = mixture.serving
        self.listener = Listener(self.web, serving.host, serving.port, serving.drain_s) if listens else None
        if self.listener is not None:
            await self.listener.start()

    def __serve_build_asgi_app__(self) -> FastAPI:  # Serve's own name
        """What answers the requests that Serve's proxies bring."""
        return self.web

    async def begin_reload(self, config: dict[str, Any]) -> str:
        """Go by another config from now on."""
        said = await self.gateway.begin_reload(config)
        if self.gateway.peers is not None and said.startswith("reloaded"):
            await _control().remember.remote(self.gateway.config.model_dump(exclude_unset=True))  # its own door, whatever was sent
        return said

    async def end_reload(self) -> None:
        """Let go what the config does not have."""
        await self.gateway.end_reload()

    async def learn_here(self, request_id: str, score: float) -> bool:
        """Learn how good an answer of this gateway was."""
        return self.gateway.pipeline.learn(request_id, score)

    async def samples_here(self) -> list[Any]:
        """What this gateway has counted."""
        return self.gateway.samples_here()

    async def cancel_here(self, key: Key, id: str) -> None:
        """End a batch that this gateway is at."""
        jobs = self.gateway.jobs
        if jobs is not None and jobs.has(key, id):
            await jobs.cancel(key, id)

    async def __del__(self) -> None:  # Serve awaits it, once no request of its own is under way
        if self.listener is not None:
            await self.listener.stop()
        await self.gateway.stop()


def _control() -> Any:
    """The handle of what the gateways share."""
    from ray import serve

    return serve.get_deployment_actor("control")


async def _tell_all(method: str, *args: Any) -> list[Any]:
    """Call a method of every gateway."""
    from ray import serve

    gateways = serve.get_deployment_handle("gateway", serve.get_replica_context().app_name)
    said = await gateways.broadcast(method, *args).results_async(return_exceptions=True, timeout_s=30)
    return [each for each in said if not isinstance(each, Exception)]  # one that has just died says nothing


def application(config: MixtureConfig, *, listens: bool = False) -> Any:
    """Make the Ray Serve application of a mixture.

    Args:
        config: The mixture.
        listens: Whether its replicas listen on the config's address themselves, which spares every request the way through a proxy.
    """
    import ray
    from ray import serve
    from ray.serve.config import DeploymentActorConfig

    settings = {"num_cpus": 0, "max_concurrency": 10_000}
    shared = DeploymentActorConfig(name="control", actor_class=ray.remote(Control), actor_options=settings)
    deployment = serve.deployment(
        name="gateway",
        num_replicas=config.serving.gateways,
        max_ongoing_requests=10_000,
        graceful_shutdown_timeout_s=config.serving.drain_s + 10.0,
        ray_actor_options={"num_cpus": 0},
        deployment_actors=[shared] if config.serving.gateways > 1 else [],
    )(serve.ingress()(GatewayReplica))
    return deployment.bind(config.model_dump(exclude_unset=True), listens)


def check_port(host: str, port: int) -> None:
    """See that the port is free.

    Raises:
        ConfigError: It is not, or the host is not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror}; choose another by --port") from error


def start(config: MixtureConfig) -> str:
    """Start the endpoint in the background and give its address.

    Raises:
        CounterpointError: The port is taken, or the mixture cannot start.
    """
    host, port = config.serving.host, config.serving.port
    check_port(host, port)
    dashboard = start_ray(dashboard=config.serving.dashboard)
    if dashboard is not None:
        logging.getLogger(__name__).warning("Ray's dashboard is at %s", dashboard)
    from ray import serve
    from ray.exceptions import RayError

    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # the import sets it to INFO
    try:
        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})  # the replicas listen themselves
        serve.run(application(config, listens=True), route_prefix="/", name="counterpoint")
    except (RuntimeError, RayError) as error:
        lines = [line for line in str(error).splitlines() if "Error" in line] or [str(error)]
        raise CounterpointError(f"the endpoint cannot start: {lines[-1].strip()}") from error
    return f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}"


def reload(config: MixtureConfig) -> str:
    """Have the running endpoint take over another config; give its word on what came and went."""
    from ray import serve

    gateways = serve.get_app_handle("counterpoint")
    said: list[str] = gateways.broadcast("begin_reload", config.model_dump(exclude_unset=True)).results()
    refused = [word for word in said if not word.startswith("reloaded")]
    if not refused:
        gateways.broadcast("end_reload").results()
    return (refused or said)[0]


def wait_for_end(page: subprocess.Popen[bytes] | None = None, on_hangup: Callable[[], None] | None = None) -> None:
    """Return when the process is asked to end by Ctrl-C or SIGTERM, or when the page that runs beside it has ended.

    Args:
        page: The page's process.
        on_hangup: What to do on SIGHUP.
    """
    ended = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: ended.set())
    hung_up = threading.Event()
    if on_hangup is not None:
        signal.signal(signal.SIGHUP, lambda *_: hung_up.set())
    while not ended.wait(0.5):
        if on_hangup is not None and hung_up.is_set():
            hung_up.clear()
            on_hangup()
        if page is not None and page.poll() is not None:
            raise CounterpointError(f"the page has ended with exit code {page.returncode}")


def stop() -> None:
    """End the endpoint, and the Ray that this process started or joined."""
    import ray
    from ray import serve

    serve.delete("counterpoint")
    ray.shutdown()  # a cluster of our own ends with it, Serve's other actors included

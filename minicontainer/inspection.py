"""All about a container or an image, in the shape of Docker's `inspect`.

Layer: engine. Source: ContainerInspect and ImageInspect of the Docker Engine API, version 1.41.
"""

from __future__ import annotations

import os

from .engine import Engine
from .runtime.state import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NEVER = "0001-01-01T00:00:00Z"


def inspect_container(engine: Engine, identifier: str) -> dict[str, Any]:
    """A container in Docker's words. Raises ContainerNotFound."""
    state, spec = engine.state_of(identifier), engine.spec_of(identifier)
    process, bundle = spec["process"], engine.bundles.folder(identifier)
    return {
        "Id": identifier,
        "Created": state["created"],
        "Path": process["args"][0],
        "Args": process["args"][1:],
        "State": _state(state),
        "Image": state["imageId"],
        "ResolvConfPath": os.path.join(bundle, "resolv.conf"),
        "HostnamePath": os.path.join(bundle, "hostname"),
        "HostsPath": os.path.join(bundle, "hosts"),
        "LogPath": os.path.join(bundle, "log.jsonl"),
        "Name": f"/{state['name']}",
        "Driver": "overlay2",
        "Platform": "linux",
        "GraphDriver": {"Name": "overlay2", "Data": _overlay(engine, state, bundle)},
        "HostConfig": _host_config(state, spec),
        "Config": {
            "Hostname": spec["hostname"],
            "User": f"{process['user']['uid']}:{process['user']['gid']}",
            "Tty": state["tty"],
            "OpenStdin": state["openStdin"],
            "Env": process["env"],
            "Cmd": process["args"],
            "Image": state["image"],
            "WorkingDir": process["cwd"],
            "Labels": state["labels"],
        },
        "NetworkSettings": {"Networks": {state["network"]: {}}},
    }


def _state(state: State) -> dict[str, Any]:
    running = state["status"] == "running"
    return {
        "Status": state["status"],
        "Running": running,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": state["oomKilled"],
        "Dead": False,
        "Pid": state["first"][0] if running else 0,
        "ExitCode": state["exitCode"],
        "Error": state["error"],
        "StartedAt": state["startedAt"] or _NEVER,
        "FinishedAt": state["finishedAt"] or _NEVER,
    }


def _overlay(engine: Engine, state: State, bundle: str) -> dict[str, str]:
    return {
        "LowerDir": ":".join(os.path.join(engine.paths.layers, layer) for layer in state["layers"]),
        "UpperDir": os.path.join(bundle, "upper"),
        "WorkDir": os.path.join(bundle, "work"),
        "MergedDir": os.path.join(bundle, "merged"),
    }


def _host_config(state: State, spec: dict[str, Any]) -> dict[str, Any]:
    resources = spec["linux"]["resources"]
    memory, cpu = resources.get("memory", {}), resources.get("cpu", {})
    quota, period = cpu.get("quota", 0), cpu.get("period", 0)
    return {
        "AutoRemove": state["autoRemove"],
        "NetworkMode": state["network"],
        "ReadonlyRootfs": spec["root"]["readonly"],
        "Memory": memory.get("limit", 0),
        "MemorySwap": memory.get("swap", 2 * memory.get("limit", 0)),
        "NanoCpus": quota * 1_000_000_000 // period if period else 0,
        "CpuShares": cpu.get("shares", 0),
        "CpusetCpus": cpu.get("cpus", ""),
        "CpusetMems": cpu.get("mems", ""),
        "PidsLimit": resources.get("pids", {}).get("limit"),
        "SecurityOpt": ["no-new-privileges"] if spec["process"]["noNewPrivileges"] else None,
        "MaskedPaths": spec["linux"]["maskedPaths"],
        "ReadonlyPaths": spec["linux"]["readonlyPaths"],
    }


def inspect_image(engine: Engine, name: str) -> dict[str, Any]:
    """An image in Docker's words. Raises ImageNotFound."""
    image = engine.store.resolve(name)
    names = [entry.reference for entry in engine.store.list() if entry.id == image.id and entry.reference]
    return {
        "Id": image.id,
        "RepoTags": names,
        "RepoDigests": [],
        "Created": image.created,
        "Architecture": image.config.get("architecture", ""),
        "Os": image.config.get("os", ""),
        "Size": image.size,
        "Config": image.config.get("config", {}),
        "RootFS": {"Type": "layers", "Layers": list(image.diff_ids)},
    }

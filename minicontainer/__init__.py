"""A small, real container engine to learn from.

    from minicontainer import Engine
    engine = Engine()
    print(engine.containers.run("busybox", ["echo", "hello"]).decode())

The table of contents is `engine.py`; `step.py` has the idea that holds it together.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .engine import Engine

__version__ = "0.1.0"
__all__ = ["Engine", "__version__"]


def __getattr__(name: str) -> object:
    """Import the engine when it is first asked for: a subcommand that needs none doesn't pay for it (PEP 562)."""
    if name == "Engine":
        from .engine import Engine

        return Engine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

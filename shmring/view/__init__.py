"""Live frames in a browser: what ``shmring view`` serves, for an ASGI application of your own."""

try:
    import starlette as _starlette  # noqa: F401
except ModuleNotFoundError as _error:
    if _error.name != "starlette":
        raise
    raise ModuleNotFoundError(
        'shmring.view needs starlette: pip install "shmring[view]"', name="starlette"
    ) from None

from shmring.view._app import View, app

__all__ = ["app", "View"]

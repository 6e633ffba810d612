"""crest's engine under other servers' ASGI applications: Starlette, FastAPI, Django, Quart, Litestar."""

from crest.asgi.uvicorn import WebSocketProtocol

__all__ = ["WebSocketProtocol"]

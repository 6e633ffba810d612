"""Asks an app for a page."""

from crest import App
from support.client import Answer, request, tcp


async def get(app: App, path: str = "/", method: str = "GET", **headers: str) -> Answer:
    """The app's answer to one request."""
    async with app.listening() as server, tcp(server) as client:
        await client.send(request(path, {"Host": "test", **headers}, method))
        return await client.answer(head_only=method == "HEAD")

"""Pages that are no response."""

from types import MappingProxyType

from multidict import MultiDictProxy

from crest import App, Request, Response

app = App()


@app.get("/status")  # refused
def status(request: Request) -> int:
    return 200


@app.get("/none")  # refused
def nothing(request: Request) -> None: ...


@app.get("/perhaps")  # refused
async def perhaps(request: Request) -> str | None:
    return None


@app.get("/pair")  # refused
async def pair(request: Request) -> tuple[str, int]:
    return "not found", 404


@app.get("/list")  # refused
def items(request: Request) -> list[str]:
    return ["JSON is sent of a dict"]


@app.get("/class")  # refused
def response(request: Request) -> type[Response]:
    return Response


@app.get("/constant")  # refused
def constant(request: Request) -> MappingProxyType[str, int]:
    return MappingProxyType({"one": 1})


@app.get("/query")  # refused
def query(request: Request) -> MultiDictProxy[str]:
    return request.query


app.run()

"""docs/slow-consumers.md: its policies, and what an application does about slow peers."""

from support.client import Server, connect
from support.snippets import Checks, Stage

check = Checks()


@check("slow-consumers#policies")
def policies(stage: Stage) -> None:
    hub = stage.execute()["ws"]._hub
    assert (hub.on_backlog, hub.max_backlog) == ("drop-oldest", 256 * 1024)


@check("slow-consumers#all-of-them-together")
def all_of_them_together(stage: Stage) -> None:
    assert stage.execute()["app"].max_backlog_total == 1 << 29


@check("slow-consumers#state-instead-of-history")
def state_instead_of_history(stage: Stage) -> None:
    stage.answers(stage.execute()["app"], "AAPL 101", "AAPL 101")


@check("slow-consumers#state-instead-of-history/2")
def state_in_rooms(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            await client.send("AAPL")
            answers = [await client.recv() for _ in range(3)]
            assert answers == ["1 traders", "trading: AAPL", "your last: AAPL"]

    stage.serve(stage.execute()["app"], scenario)


@check("slow-consumers#going-on-when-there-is-room")
def going_on(stage: Stage) -> None:
    async def scenario(server: Server) -> None:
        async with connect(server) as client:
            for number in range(100):
                assert str(await client.recv()).startswith(f"part {number} ")

    stage.serve(stage.fragment()["app"], scenario)


test_snippet = check.test()

"""A price ticker with a page for the browser: start it and open http://localhost:8000/.

Prices are state, not history: a client that reads too slowly gets the newest price of each symbol once it reads again,
and none of those in between. Each price has the time of its trade, so that the page can show which are old. HOST and
PORT in the environment say where it listens; PORT=0 takes any free port, which the log then names.
"""

import json
import os
import random
import threading
import time
from pathlib import Path

from crest import App, Request, WebSocketConnection, WebSocketServer

INTERVAL = 0.05  # seconds between two prices

app = App()
ws = WebSocketServer(on_backlog="latest")
opened = {"AAPL": 230.0, "AMZN": 215.0, "BRK.A": 741000.0, "GOOG": 190.0, "MSFT": 440.0, "NVDA": 135.0}
activity = {"AAPL": 60, "AMZN": 40, "BRK.A": 1, "GOOG": 40, "MSFT": 50, "NVDA": 80}  # BRK.A: every 14 seconds or so
prices = dict(opened)
traded = dict.fromkeys(opened, time.time())


def quote(symbol: str) -> str:
    price, open_price = round(prices[symbol], 2), opened[symbol]
    return json.dumps({"symbol": symbol, "price": price, "open": open_price, "time": round(traded[symbol], 3)})


def trade() -> None:
    """One price after the other, from a thread of its own: broadcast may be called from any."""
    while True:
        [symbol] = random.choices(list(activity), list(activity.values()))
        prices[symbol] *= random.uniform(0.999, 1.001)
        traded[symbol] = time.time()
        ws.broadcast(quote(symbol), key=symbol)
        time.sleep(INTERVAL)


@ws.on_connect
def connected(conn: WebSocketConnection) -> None:
    for symbol in prices:
        conn.send(quote(symbol))


@app.get("/")
def page(request: Request) -> str:
    return Path(__file__).with_name("ticker.html").read_text(encoding="utf-8")


threading.Thread(target=trade, daemon=True).start()
app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))

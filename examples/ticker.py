"""A price ticker with a page for the browser: start it and open http://localhost:8000/.

Prices are state, not history: a client that reads too slowly gets the newest price of each symbol once it reads again,
and none of those in between. HOST and PORT in the environment say where it listens; PORT=0 takes any free port, which
the log then names.
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
prices = {"AAPL": 230.0, "AMZN": 215.0, "GOOG": 190.0, "MSFT": 440.0, "NVDA": 135.0}


def quote(symbol: str) -> str:
    return json.dumps({"symbol": symbol, "price": round(prices[symbol], 2)})


def trade() -> None:
    """One price after the other, from a thread of its own: broadcast may be called from any."""
    while True:
        symbol = random.choice(list(prices))
        prices[symbol] *= random.uniform(0.999, 1.001)
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

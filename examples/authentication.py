"""Who it is, known before the WebSocket is accepted: by a bearer token, a signed cookie, or a one-time ticket.

Programs send the token. Browsers can not send headers of their own with a WebSocket: the page at / has a cookie, which
/login gives. A page of another origin has none here. Its own server, a program that has the token, fetches a ticket for
its user from /ticket?user=bob and puts it into the page, which opens ws://.../ws?ticket=... within half a minute.

ORIGINS in the environment lists the other origins whose pages may connect, "https://a.example https://b.example".
Without it only this server's own may: browsers say from which page they come, and a ticket does not change that.

TOKEN, PASSWORD and SECRET are the program's token, alice's password, and what cookies are signed with; without them
they are made up, and the first two printed. HOST and PORT say where it listens.
"""

import hashlib
import hmac
import os
import secrets
import time
from base64 import b64encode

from crest import App, Reject, Request, Response, WebSocketConnection, WebSocketServer

TOKEN = os.environ.get("TOKEN") or secrets.token_urlsafe(16)
PASSWORD = os.environ.get("PASSWORD") or secrets.token_urlsafe(16)
SECRET = os.environ.get("SECRET", "").encode() or secrets.token_bytes(32)
BASIC = "Basic " + b64encode(f"alice:{PASSWORD}".encode()).decode()

PROGRAM = "program"

SESSION_LASTS = 8 * 3600  # seconds
TICKET_LASTS = 30

PAGE = """<!DOCTYPE html>
<meta charset="utf-8">
<title>crest: authentication</title>
<p id="status">Not connected: <a href="/login">sign in</a></p>
<script>
const ws = new WebSocket(`${location.protocol.replace('http', 'ws')}//${location.host}/ws`);
ws.onmessage = (event) => { document.getElementById('status').textContent = event.data; };
</script>
"""

app = App()
ws = WebSocketServer(origins=["same", *os.environ.get("ORIGINS", "").split()])
tickets: dict[str, tuple[str, float]] = {}  # ticket -> (user, when it expires), the oldest first


def same(given: str, expected: str) -> bool:
    """Compare in a time that does not tell how much of it is right."""
    return hmac.compare_digest(given.encode(), expected.encode())


# ---- A signed cookie: nothing to look up, and nothing that a client could change ------------------------------------


def signature_of(text: str) -> str:
    return hmac.new(SECRET, text.encode(), hashlib.sha256).hexdigest()


def session_for(user: str) -> str:
    text = f"{user}.{int(time.time()) + SESSION_LASTS}"
    return f"{text}.{signature_of(text)}"


def user_of_session(session: str) -> str | None:
    text, _, signature = session.rpartition(".")
    if not same(signature, signature_of(text)):
        return None
    user, _, expires = text.rpartition(".")
    return user if time.time() < int(expires) else None


# ---- A ticket: worth nothing to whoever finds it in a log later -----------------------------------------------------


def ticket_for(user: str) -> str:
    now = time.time()
    for ticket, (_, expires) in list(tickets.items()):
        if now < expires:
            break
        del tickets[ticket]
    ticket = secrets.token_urlsafe(16)
    tickets[ticket] = user, now + TICKET_LASTS
    return ticket


def user_of_ticket(ticket: str) -> str | None:
    user, expires = tickets.pop(ticket, (None, 0))
    return user if time.time() < expires else None


# ---- Who it is -------------------------------------------------------------------------------------------------------


def user_of(request: Request) -> str | None:
    if same(request.headers.get("Authorization", ""), f"Bearer {TOKEN}"):
        return PROGRAM
    return user_of_session(request.cookies.get("session", ""))


@ws.on_upgrade
def authenticate(request: Request) -> str:
    user = user_of(request) or user_of_ticket(request.query.get("ticket", ""))
    if user is None:
        raise Reject(401, "sign in first", headers={"WWW-Authenticate": "Bearer"})
    return user


@ws.on_connect
def connected(conn: WebSocketConnection) -> None:
    conn.send(f"Hello, {conn.user}!")


@app.get("/login")
def login(request: Request) -> Response:
    if not same(request.headers.get("Authorization", ""), BASIC):
        return Response("Who are you?\n", 401, {"WWW-Authenticate": 'Basic realm="crest"'}, "text/plain")
    # Add "; Secure" where it is served over https.
    cookie = f"session={session_for('alice')}; Path=/; Max-Age={SESSION_LASTS}; HttpOnly; SameSite=Strict"
    return Response("", 303, {"Location": "/", "Set-Cookie": cookie, "Cache-Control": "no-store"})


@app.get("/ticket")
def ticket(request: Request) -> Response:
    user = user_of(request)
    if user is None:
        return Response("sign in first\n", 401, {"WWW-Authenticate": "Bearer"}, "text/plain")
    if user == PROGRAM:  # which answers for its own users
        user = request.query.get("user", PROGRAM)
    return Response(ticket_for(user), headers={"Cache-Control": "no-store"}, content_type="text/plain")


@app.get("/")
def page(request: Request) -> str:
    return PAGE


for name, value in (("TOKEN", TOKEN), ("PASSWORD", PASSWORD)):
    if name not in os.environ:
        print(f"{name}={value}", flush=True)
app.run(os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))

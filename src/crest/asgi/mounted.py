"""The opening of a connection that an ASGI framework has routed to a `WebSocketServer`.

Another server has read its request, and the framework's middleware has seen it. What is left are the WebSocketServer's
own decisions: origins, limits, `on_upgrade`. So this is an `Opening` that begins with those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Any

from crest.admission.acceptance import Accept
from crest.admission.proxies import Client
from crest.exceptions import HandshakeError
from crest.io.life.protocol import Protocol
from crest.io.net.peer import client_address
from crest.opening.opening import Opening, Welcome
from crest.opening.site import Site
from crest.server import WebSocketServer
from crest.wire.head import RequestHead


class MountedOpening(Opening):
    """Decides about one request that has been routed.

    Args:
        site: What the mounted servers of this loop share.
        protocol: The connection's.
        scope: As the framework has left it, which may know the client and the user better.
        tell: Is called with what has become of the request, for the ASGI server's log.
        limits: In place of those of the server, and of `on_upgrade`; by the names that `Accept` has for them.
    """

    __slots__ = ("_limits", "_params", "_scheme", "_state", "_tell", "_user")

    def __init__(
        self,
        site: Site,
        protocol: Protocol,
        scope: Mapping[str, Any],
        tell: Callable[[str], None],
        limits: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(site, protocol, _client_of(scope, client_address(protocol.transport)))
        self._user = scope.get("user")
        self._state = scope.get("state")
        self._params = scope.get("path_params")
        self._scheme = "https" if scope.get("scheme") in ("wss", "https") else "http"  # a proxy may have ended TLS
        self._tell = tell
        self._limits = limits or {}

    def begin(self, server: WebSocketServer, head: RequestHead, early: bytes) -> None:
        """Decide; or begin to, if that takes time.

        Args:
            server: To which the request was routed.
            head: Of the request.
            early: What the client has sent behind the request.
        """
        self._pending = early
        try:
            self._upgrade(server, head, self._scheme)
        except HandshakeError as error:
            self._refuse(error)

    def _let_in(self, server: WebSocketServer, welcome: Welcome, answer: Any) -> None:
        """Tell the connection what the framework knows, too. What `on_upgrade` says of the user comes first."""
        connection, user, limits = welcome[0], answer, dict(self._limits)
        if isinstance(answer, Accept):
            user, limits = answer.user, {**answer.limits, **limits}
        if user is None and getattr(self._user, "is_authenticated", self._user is not None):
            user = self._user
        if self._state:
            vars(connection.state).update(self._state)
        if self._params:
            connection.state.path_params = self._params
        self._tell("[accepted]")
        super()._let_in(server, welcome, Accept(user, **limits) if limits else user)

    def _refuse(self, error: HandshakeError) -> None:
        self._tell(str(error.status))
        super()._refuse(error)


def _client_of(scope: Mapping[str, Any], peer: Client | None) -> Client | None:
    """Find the client, if it is not the peer: a proxy's, as the ASGI server or a middleware has found out."""
    host, port = scope.get("client") or ("", 0)
    client = host, int(port or 0)  # granian's port is a text
    return None if not host or client == peer else client


def run_beside(transport: Any, function: Callable[..., object], *arguments: object) -> None:
    """Call a function in the context of a connection's callbacks, with the variables of this one: what a middleware has
    set is seen by all handlers. Only crest's own transports have such a context."""
    context = transport.get_extra_info("context")
    if context is None:
        function(*arguments)
        return
    for variable, value in copy_context().items():
        context.run(variable.set, value)
    context.run(function, *arguments)

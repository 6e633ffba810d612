"""`App`: what is served where, and running it."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal, NoReturn, Unpack, cast
from weakref import ref

from crest.attachment import Attachable, app_made, mounted, origin_of, servers_for
from crest.cluster.enlisted import Enlisted, count_call, enlisted
from crest.cluster.processors import workers_of
from crest.exceptions import ConfigurationError, ListenError
from crest.handlers import LifetimeHandler, Page, check_handler, registering, written
from crest.http.pages import Pages
from crest.lifetime import Lifetime
from crest.listening.binding import Binding, check_binding, takes_binding
from crest.listening.certificate import certificate_of
from crest.listening.endpoint import AnyAddress, addresses_of
from crest.listening.listener import Listener
from crest.listening.signals import handling
from crest.log import set_up_log
from crest.opening.opening import Opening
from crest.opening.site import Site
from crest.options import check_path, check_seconds
from crest.running import Run, loop_factory
from crest.server import WebSocketServer
from crest.serving import Serving


class App(Serving):
    """What one program serves: WebSocketServers, and the few plain HTTP pages beside them.

    Args:
        open_timeout: Seconds that a client has to send a request, from the moment it connects; and to take some more of
            a response. A client that has begun a request by then gets 408.
        keep_alive_timeout: Seconds after a response in which the next request of the connection must begin, or it is
            closed without a word. Should be more than proxies keep their connections for, by default 60.
        shutdown_timeout: Seconds that a shutdown may take: closing all connections takes up to half of it, and clients
            and handlers have the rest to end.
        close_rate: Connections that a shutdown closes in a second; more, if half of shutdown_timeout would not do.
            None: all at once.
        retry_after: Seconds after a shutdown, up to twice that, until clients should come back, and are told so. None:
            it is no restart, and they are told nothing.
        close_codes: "registered": a shutdown closes with 1012, and a client that is too slow, or too much for the
            memory, with 1013. Both codes are registered but not in RFC 6455. "rfc6455": 1001 instead of both, for
            clients that take those for an error; the reasons stay.
        keep_listening: True: clients that come while connections are being closed are told to come back later. False:
            the listening sockets are closed first.
        max_header_size: Bytes that the head of a request may have; a longer one gets 431.
        max_headers: Header fields that a request may have; more get 431.
        hosts: The hosts that requests may be for, others get 421: "example.com", "*.example.com" for all names below
            it, "127.0.0.1", "[::1]", each at any port or with one ("localhost:8000"). None: any.
        page_timeout: Seconds that an async page of `get` may take; then it is cancelled and the client gets 503. The
            default is as long as proxies wait by default. None: any number.
        max_sockets_per_ip: TCP connections, WebSockets or not, that one IPv4 address or IPv6 network of 64 bits may
            have; more are closed as they are accepted. Those of trusted proxies do not count. None: any number.
        max_tls_handshakes: TLS handshakes that may be in progress at a time; more connections are closed. None: any
            number.
        max_tls_handshakes_per_ip: The same for one such address or network.
        max_backlog_total: Bytes of memory that waiting data may take: data that clients have yet to read, and data
            that has come and waits for handlers. Past it, the connections with most of it are closed with 1013. None:
            any number.
        trusted_proxies: Addresses and networks of proxies whose word on the client's address is taken, and "unix" for
            those that connect by a Unix socket.
        forwarded_header: The header that these proxies write, "X-Forwarded-For" or "Forwarded" (RFC 7239).
        proxy_protocol: True: each connection of these proxies begins with a header of the PROXY protocol (version 1 or
            2), or is dropped.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        self._pages = Pages()
        self._mounts: list[tuple[str, WebSocketServer]] = []
        self._refusal_counts: Counter[str] = Counter()
        self._listener: Listener | None = None
        self._was_run = False
        self._lifetime = Lifetime()
        self._module, self._made_at = origin_of(self)
        self._kept: list[Attachable] = []  # servers that may be this app's, until it starts
        app_made(self)

    def __repr__(self) -> str:
        return f"<App made at {self._made_at}>"

    # ---- What is served ------------------------------------------------------------------------------------------

    def mount(self, path: str, server: WebSocketServer) -> None:
        """Serve a WebSocketServer at a path, whatever its own path is; from now on if the app runs already.

        Raises:
            TypeError, ValueError: No path, or no WebSocketServer.
            ConfigurationError: Only while the app runs: it is shutting down, this is not the thread of its loop,
                another server has that path, or another app serves this one.
        """
        if not isinstance(server, WebSocketServer):
            raise TypeError(f"mount() takes a WebSocketServer, not {type(server).__name__}")
        check_path(path)
        if self._listener is not None and self._is_running():
            self._check_mount(self._listener.servers, path, server)
            self._listener.mount(path, server)
            server._served_by = ref(self)
        self._mounts.append((path, server))
        mounted(server)

    @written('@app.get("/path")')
    def get(self, path: str) -> Callable[[Page], Page]:
        """Register, as a decorator, the handler of plain GET and HEAD requests for a path.

        The handler, plain or async, takes the `Request` and returns `str` (sent as HTML), `bytes`, a `dict` (sent as
        JSON) or a `Response`. Registering a path again replaces its handler.

        Raises:
            TypeError, ValueError: `path` is no path. The decorator raises TypeError for what is no handler.
        """
        if callable(path):
            raise TypeError('get registers a function for a path: write @app.get("/path")')
        check_path(path)

        def register(handler: Page) -> Page:
            check_handler("get", handler)
            self._pages.add(path, handler)
            return handler

        return register

    def static(self, prefix: str, directory: str | os.PathLike[str]) -> None:
        """Serve the files below a directory, by GET and HEAD; handlers of `get` go first.

        Raises:
            ValueError: `directory` is no directory.
        """
        self._pages.add_files(check_path(prefix), directory)

    @property
    def refused(self) -> dict[str, int]:
        """Count by kind the refusals since the app was made that no server counts; a new dict.

        Connections: "max_sockets_per_ip"; "max_tls_handshakes"; "max_tls_handshakes_per_ip"; "tls": a TLS handshake
        failed or took too long; "proxy_protocol": no header of it; "response": the client took nothing of one in time;
        "transport": the connection had ended already. Requests for pages: "host"; "page_timeout"; "shutdown".
        """
        return dict(self._refusal_counts)

    @property
    def worker(self) -> int:
        """The number of this process among the workers of the program, from 1; 1 without workers."""
        part = enlisted()
        return 1 if part is None else part.number

    # ---- Start and stop ------------------------------------------------------------------------------------------

    @registering("app")
    def on_start(self, handler: LifetimeHandler) -> LifetimeHandler:
        """Register `handler()`, plain or async: the app starts, and no client is let in before it has returned.

        Several are called in the order in which they were registered. What one raises ends the start: `run`, `serve`
        and `listening` raise it. The addresses are bound by then.

        Raises:
            ConfigurationError: The app runs already.
        """
        self._register(self._lifetime.on_start, "on_start", handler)
        return handler

    @registering("app")
    def on_stop(self, handler: LifetimeHandler) -> LifetimeHandler:
        """Register `handler()`, plain or async: the app has stopped, all connections have ended.

        Several are called in reverse order: what was started last stops first. An async one may take
        `shutdown_timeout`, then it is cancelled. What one raises is logged. None is called if `on_start` has raised.
        """
        self._lifetime.on_stop.append(handler)
        return handler

    @registering("app")
    def once(self, handler: LifetimeHandler) -> LifetimeHandler:
        """Register `handler()`, plain or async, for what the app does once, however many processes serve it: a ticker
        for one.

        It is called when the app has started, and is cancelled when it begins to stop. If it raises, that is logged,
        and it is called again: after a second, and up to 30 if it goes on to fail. If it returns, it is not.

        Raises:
            ConfigurationError: The app runs already.
        """
        self._register(self._lifetime.once, "once", handler)
        return handler

    def _register(self, handlers: list[Callable[[], object]], name: str, handler: Callable[[], object]) -> None:
        if self._is_running():
            raise ConfigurationError(f"{self!r} runs already: {name} comes too late")
        handlers.append(handler)

    # ---- Running -------------------------------------------------------------------------------------------------

    @takes_binding
    def run(
        self,
        host: str | None = "127.0.0.1",
        port: int = 8000,
        *,
        workers: int | Literal["auto"] = 1,
        loop: Literal["auto", "uvloop", "asyncio"] = "auto",
        log_level: int | str = "INFO",
        **binding: Unpack[Binding],
    ) -> None:
        """Serve until SIGINT or SIGTERM, then shut down gracefully. Blocks.

        Logs to stderr, unless the program has set up logging itself. If it can not listen it says so in one line and
        exits with code 1.

        Args:
            host: Address or name to listen on; None for all interfaces.
            port: Port to listen on; 0 for any that is free.
            workers: Processes that serve. With more than one, each runs the program anew, up to this call, and this
                process looks after them. "auto": one for each processor that this process may use.
            listen: In place of host and port, one or several of: "host:port", which may begin with "http://" or
                "https://"; "unix:path"; "systemd" or "systemd:name"; sockets.
            unix: In place of host and port, or beside `listen`: the path of a Unix socket.
            unix_mode: Permissions of Unix sockets; None: what the umask leaves.
            certfile, keyfile: PEM files for TLS, read again at SIGHUP; without `keyfile`, the key is in `certfile`.
            ssl: For TLS, an SSLContext instead of these files.
            open_timeout, shutdown_timeout: Instead of the App's own.
            loop: "uvloop", "asyncio", or "auto": uvloop where it is installed.
            log_level: Of the `crest` logger, if logging was not set up.
        """
        check_binding("run", binding)
        count = workers_of(workers)
        part = None
        if count > 1:
            call = count_call()
            part = enlisted()
            if part is not None and part.run != call:
                return  # the supervisor has been here: this worker is for a later call
        set_up_log(log_level, None if part is None else part.number)
        factory = loop_factory(loop)
        try:
            if count > 1 and part is None:
                self._supervise(count, call, host, port, binding)
                return
            gc.collect()
            gc.freeze()  # the collector need not look again and again at what the program consists of
            with asyncio.Runner(loop_factory=factory) as runner:
                if part is None:
                    runner.run(self.serve(host, port, **binding))
                else:
                    runner.run(self._work(part, binding))
                    sys.exit()  # what follows is the supervisor's
        except ListenError as error:
            _give_up(str(error))

    def _supervise(self, count: int, call: int, host: str | None, port: int, binding: Binding) -> None:
        """Have workers serve. Exits if the first of them can not start."""
        from crest.cluster.supervisor import supervise  # only where there are workers: it takes time to import

        addresses = addresses_of(host, port, binding.get("listen"), binding.get("unix"), binding.get("unix_mode"))
        certified = binding.get("certfile") is not None or binding.get("ssl") is not None
        timeout = binding.get("shutdown_timeout")
        timeout = 2 * (self.shutdown_timeout if timeout is None else timeout)  # for connections, and for on_stop
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            code = runner.run(supervise(count, call, addresses, certified, list(self._servers()), timeout))
        if code:
            sys.exit(code)

    async def _work(self, part: Enlisted, binding: Binding) -> None:
        """Serve as a worker, until the supervisor says that it is enough."""
        from crest.cluster.worker import reporting

        run = Run(self._lifetime)
        passed = part.open()
        with (
            reporting(part, run, self._lifetime, passed.endpoints) as reporter,
            handling({signal.SIGTERM: run.stop}),
        ):
            await run.serve(self._listening([passed], True, binding, reporter.bound), reporter.ready)

    @takes_binding
    async def serve(
        self,
        host: str | None = "127.0.0.1",
        port: int = 8000,
        **binding: Unpack[Binding],
    ) -> None:
        """Serve as `run` does, inside a loop that already runs. Cancelling it shuts down gracefully too.

        Raises:
            ListenError: An address can not be bound, or the certificate can not be used.
        """
        check_binding("serve", binding)
        run = Run(self._lifetime)
        actions: dict[int, Callable[[], None]] = {signal.SIGINT: run.stop, signal.SIGTERM: run.stop}
        if binding.get("certfile") is not None and hasattr(signal, "SIGHUP"):
            actions[signal.SIGHUP] = run.reload
        with handling(actions):
            await run.serve(self.listening(host, port, **binding))

    @asynccontextmanager
    @takes_binding
    async def listening(
        self,
        host: str | None = "127.0.0.1",
        port: int = 0,
        *,
        direct: bool = True,
        **binding: Unpack[Binding],
    ) -> AsyncIterator[Listener]:
        """Serve while the context lasts. It gives a `Listener`, whose `host` and `port` are the bound address.

        Args:
            direct: False uses the event loop's transports, as always on Windows, and not crest's own.
            The rest is as in `run`.

        Raises:
            ListenError: An address can not be bound, or the certificate can not be used.
            ConfigurationError: Two servers have one path; a server runs in another app already, or this app does; or a
                server was never mounted, and several apps may be meant.
        """
        check_binding("listening", binding)
        addresses = addresses_of(host, port, binding.get("listen"), binding.get("unix"), binding.get("unix_mode"))
        async with self._listening(addresses, direct, binding) as listener:
            self._lifetime.take_once()
            yield listener

    @asynccontextmanager
    async def _listening(
        self,
        addresses: Sequence[AnyAddress],
        direct: bool,
        binding: Binding,
        bound: Callable[[Listener], None] | None = None,
    ) -> AsyncIterator[Listener]:
        """Serve while the context lasts.

        Args:
            bound: Is called when the sockets are open, and no client is let in yet.
        """
        if self._is_running():
            raise ConfigurationError(f"{self!r} runs already")
        open_timeout, shutdown_timeout = binding.get("open_timeout"), binding.get("shutdown_timeout")
        open_timeout = check_seconds("open_timeout", self.open_timeout if open_timeout is None else open_timeout)
        shutdown_timeout = check_seconds(
            "shutdown_timeout", self.shutdown_timeout if shutdown_timeout is None else shutdown_timeout, zero=True
        )
        certificate = certificate_of(binding.get("certfile"), binding.get("keyfile"), binding.get("ssl"))
        servers = self._servers()
        listener = Listener(
            self,
            Site(self, servers, self._pages, self._refusal_counts, open_timeout, Opening),
            shutdown_timeout,
            direct=direct,
        )
        for server in servers.values():
            server._served_by = ref(self)
        self._listener, self._was_run = listener, True
        try:
            await listener.bind(addresses, certificate)
            if bound is not None:
                bound(listener)
            await self._lifetime.start()
            await listener.start()
            yield listener
        finally:
            try:
                if not listener.loop.is_closed():
                    await self._end(listener, shutdown_timeout)
            finally:
                self._ended(listener)

    async def _end(self, listener: Listener, shutdown_timeout: float) -> None:
        async with AsyncExitStack() as stack:  # the last comes first, and each comes, even if this is cancelled
            stack.push_async_callback(listener.close)
            stack.push_async_callback(self._lifetime.stop, shutdown_timeout)
            stack.push_async_callback(listener.stop)
            stack.push_async_callback(self._lifetime.leave_once)

    def _servers(self) -> dict[str, WebSocketServer]:
        """Find the WebSocketServer of each path; those that were never mounted are this app's from now on."""
        fresh = [(server.path, server) for server in cast(list[WebSocketServer], servers_for(self))]
        found: dict[str, WebSocketServer] = {}
        for path, server in [*self._mounts, *fresh]:
            self._check_mount(found, path, server)
            found[path] = server
        for path, server in fresh:
            self._mounts.append((path, server))
            mounted(server)
        return found

    def _check_mount(self, servers: Mapping[str, WebSocketServer], path: str, server: WebSocketServer) -> None:
        """Check that a server can be served at a path, beside these.

        Raises:
            ConfigurationError: Another has that path, or another app serves it.
        """
        other = servers.get(path, server)
        if other is not server:
            raise ConfigurationError(f"two servers at {path!r}: {other!r} and {server!r}")
        app = None if server._served_by is None else server._served_by()
        if app is not None and app is not self and app._is_running():
            raise ConfigurationError(f"{server!r} runs in {app!r} already, and not in {self!r} as well")

    def _is_running(self) -> bool:
        """True if a loop serves this app. A closed loop does not, whatever it has left behind."""
        if self._listener is not None and self._listener.loop.is_closed():
            self._ended(self._listener)
        return self._listener is not None

    def _has_ended(self) -> bool:
        """True if this app has run, and does not run now."""
        return self._was_run and not self._is_running()

    def _ended(self, listener: Listener) -> None:
        """Make the app ready to run again, unless another listener has begun since."""
        if self._listener is listener:
            self._listener = None
            for server in listener.servers.values():
                server._served_by = None
            if listener.loop.is_closed():
                listener.abandon()


def _give_up(reason: str) -> NoReturn:
    print(f"crest: {reason}", file=sys.stderr)
    sys.exit(1)

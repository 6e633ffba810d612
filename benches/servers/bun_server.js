// A Bun server for `load`: `bun bun_server.js PORT rooms`.
//
// uWebSockets in C++ under JavaScript; rooms are its topics, and a message goes to one by `publish`.

const port = Number(Bun.argv[2]);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port,
  fetch(request, server) {
    const rooms = new URL(request.url).searchParams.get("rooms").split(",");
    if (!server.upgrade(request, { data: { rooms, published: 0 } })) return new Response(null, { status: 400 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    maxPayloadLength: 64 << 20,
    backpressureLimit: 64 << 20,
    open(ws) {
      for (const room of ws.data.rooms) ws.subscribe(room);
    },
    message(ws, message) {
      const { rooms } = ws.data;
      server.publish(rooms[ws.data.published++ % rooms.length], message);
    },
  },
});

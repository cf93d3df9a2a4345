"""uvicorn's WebSockets, which end where uvicorn would leave a connection as it is, with nobody to hear of it."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """One connection."""

    def data_received(self, data: bytes) -> None:
        """As asyncio has it."""
        try:
            super().data_received(data)
        except Exception:  # noqa: BLE001 - of what is parsed; what the application raises does not come here
            self.transport.abort()
        if not self.handshake_initiated and self.conn.handshake_exc is not None:
            # websockets has bounds of its own, and refuses this head: its answer is ready, and uvicorn does not send it
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.transport.close()

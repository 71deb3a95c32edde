"""As much of gRPC as a load generator needs: one call at a time on a connection, in clear text.

Headers are literals that touch no dynamic table (RFC 7541, 6.2.2), so a request is the same bytes
each time but for its stream's number. A reply counts as good if it carries a message before its
stream ends: failures are trailers only.
"""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
FRAME_HEAD_BYTES = 9
# A connection's window starts at 65,535 bytes and may grow to 2^31 - 1 (RFC 9113, 6.9).
WINDOW_GROWTH = 2**31 - 1 - 65535
METHOD = "/inference.GRPCInferenceService/ModelInfer"


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Returns an HTTP/2 frame (RFC 9113, 4.1)."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: str, value: str) -> bytes:
    """Returns a header without indexing and without Huffman coding; both parts under 127 bytes."""
    parts = [name.encode(), value.encode()]
    return b"\0" + b"".join(bytes([len(part)]) + part for part in parts)


def varint(value: int) -> bytes:
    """Returns a number as Protocol Buffers write it."""
    found = b""
    while value > 127:
        found += bytes([value & 127 | 128])
        value >>= 7
    return found + bytes([value])


def field(number: int, content: bytes) -> bytes:
    """Returns a length-delimited field."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def infer_message(model: str, name: str, shape: list[int], datatype: str, raw: bytes) -> bytes:
    """Returns a `ModelInferRequest` with one raw input."""
    extents = b"".join(varint(extent) for extent in shape)
    tensor = field(1, name.encode()) + field(2, datatype.encode()) + field(3, extents)
    return field(1, model.encode()) + field(5, tensor) + field(7, raw)


class GrpcConnection:
    """One connection with at most one call open."""

    def __init__(self, address: tuple[str, int], messages: list[bytes]) -> None:
        """Connects and sends the preface."""
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = PREFACE + frame(SETTINGS, 0, 0, b"")
        self.socket.sendall(hello + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW_GROWTH)))
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", METHOD),
            (":authority", f"{address[0]}:{address[1]}"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        ]
        self.headers = b"".join(literal(*header) for header in headers)
        self.messages = [struct.pack(">BI", 0, len(m)) + m for m in messages]
        self.stream = -1
        self.has_message = False
        self.buffer = b""

    def send(self, index: int) -> None:
        """Starts a call."""
        self.stream += 2
        self.has_message = False
        message = self.messages[index % len(self.messages)]
        head = frame(HEADERS, END_HEADERS, self.stream, self.headers)
        self.socket.sendall(head + frame(DATA, END_STREAM, self.stream, message))

    def receive(self) -> bool:
        """Reads what has arrived; whether the call's reply is complete."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.buffer += data
        is_complete = False
        at = 0
        while len(self.buffer) - at >= FRAME_HEAD_BYTES:
            length = int.from_bytes(self.buffer[at : at + 3], "big")
            end = at + FRAME_HEAD_BYTES + length
            if len(self.buffer) < end:
                break
            kind, flags = self.buffer[at + 3], self.buffer[at + 4]
            is_complete |= self.take(kind, flags, self.buffer[at + FRAME_HEAD_BYTES : end])
            at = end
        self.buffer = self.buffer[at:]
        return is_complete

    def take(self, kind: int, flags: int, payload: bytes) -> bool:
        """Acts on one frame; whether it ends the call."""
        if kind == DATA:
            self.has_message |= len(payload) > 0
        elif kind == SETTINGS and not flags & ACK:
            self.socket.sendall(frame(SETTINGS, ACK, 0, b""))
        elif kind == PING and not flags & ACK:
            self.socket.sendall(frame(PING, ACK, 0, payload))
        elif kind in (RST_STREAM, GOAWAY):
            raise ConnectionError(f"the server ended the call: frame {kind}, {payload!r}")
        if kind not in (DATA, HEADERS) or not flags & END_STREAM:
            return False
        if not self.has_message:
            raise ConnectionError("the call failed")
        return True

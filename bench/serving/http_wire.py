"""As much of HTTP/1.1 as a load generator needs: one request at a time on a kept connection."""

import socket

HEAD_END = b"\r\n\r\n"


def post(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Returns a whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + HEAD_END + body


def reply_bytes(buffer: bytes) -> int:
    """Returns the length of the whole reply, or 0 if its head is not complete."""
    end = buffer.find(HEAD_END)
    if end < 0:
        return 0
    head = buffer[:end].lower()
    at = head.find(b"\r\ncontent-length:")
    if at < 0:
        raise ConnectionError(f"a reply without Content-Length: {head[:200]!r}")
    length = head[at + 17 :].split(b"\r\n", 1)[0]
    return end + len(HEAD_END) + int(length)


class HttpConnection:
    """One connection with at most one request open."""

    def __init__(self, address: tuple[str, int], requests: list[bytes]) -> None:
        """Connects."""
        self.socket = socket.create_connection(address, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.requests = requests
        self.buffer = b""

    def send(self, index: int) -> None:
        """Sends a request."""
        self.socket.sendall(self.requests[index % len(self.requests)])

    def receive(self) -> bool:
        """Reads what has arrived; whether the reply is complete."""
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        buffer = self.buffer + data if self.buffer else data
        length = reply_bytes(buffer)
        if length == 0 or len(buffer) < length:
            self.buffer = buffer
            return False
        if not buffer.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"not 200: {buffer[:300]!r}")
        if len(buffer) > length:
            raise ConnectionError("more than one reply")
        self.buffer = b""
        return True


def exchange(address: tuple[str, int], request: bytes, limit_s: float) -> bytes:
    """Sends one request on a connection of its own and returns the reply's body.

    Raises `OSError` where nobody listens or the answer is not 200.
    """
    with socket.create_connection(address, timeout=limit_s) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(request)
        buffer = b""
        while (length := reply_bytes(buffer)) == 0 or len(buffer) < length:
            data = connection.recv(1 << 16)
            if not data:
                raise ConnectionError("the server closed the connection")
            buffer += data
    if not buffer.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(f"not 200: {buffer[:300]!r}")
    return buffer.split(HEAD_END, 1)[1]

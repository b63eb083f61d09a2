"""Peers in front of the real ones that let a test decide: a gRPC node, a mirror, any HTTP server."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc

FORWARD_TIMEOUT_S = 10.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True, slots=True)
class NodeCall:
    """One gRPC call that a node got."""

    method: str
    """`/proto.ConsensusService/submitMessage`."""
    request: bytes
    forward: Callable[[], bytes]
    """Makes the call at the real node and returns its answer."""
    context: grpc.ServicerContext

    def fail(self, code: grpc.StatusCode) -> bytes:
        """End the call with an error of the transport."""
        self.context.abort(code, "made to fail")
        raise AssertionError("abort raises")


@contextmanager
def node_in_front(address: str, behave: Callable[[NodeCall], bytes], threads: int = 8) -> Iterator[str]:
    """A node that lets `behave` decide what to do with a call; yields its `host:port`."""
    with grpc.insecure_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:

        class AnyCall(grpc.GenericRpcHandler):  # type: ignore[type-arg]
            def service(self, handler_call_details: Any) -> Any:
                method = handler_call_details.method
                real = channel.unary_unary(method, bytes, bytes)

                def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
                    forward = lambda: real(request, timeout=FORWARD_TIMEOUT_S)  # noqa: E731
                    return behave(NodeCall(method, request, forward, context))

                return grpc.unary_unary_rpc_method_handler(answer)

        server = grpc.server(ThreadPoolExecutor(threads, thread_name_prefix="node-in-front"))
        server.add_generic_rpc_handlers((AnyCall(),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


@dataclass(frozen=True, slots=True)
class HttpReply:
    """What to answer; `promised` is the Content-Length, where it shall not be the truth."""

    data: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    promised: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def http_peer(answer: Callable[[str, bytes], HttpReply | None]) -> Iterator[str]:
    """An HTTP server that answers as it pleases, from path and body; None: it hangs up without a word."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            reply = answer(self.path, self.rfile.read(int(self.headers["Content-Length"] or 0)))
            if reply is None:
                self.close_connection = True
                return
            with suppress(OSError):  # whoever asked may have given up
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                length = len(reply.data) if reply.promised is None else reply.promised
                self.send_header("Content-Length", str(length))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.data)
                self.close_connection |= reply.promised is not None

        do_POST = do_GET  # noqa: N815 - the name that the server looks for

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """A client that went away is its own affair."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="http-peer")
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def forwarded(url: str, body: bytes = b"", content_type: str = "") -> HttpReply | None:
    """What the real server answers, whatever its status; None where it does not answer."""
    headers = {"Content-Type": content_type} if content_type else {}
    request = urllib.request.Request(url, data=body or None, headers=headers)
    try:
        with _DIRECT.open(request, timeout=FORWARD_TIMEOUT_S) as response:
            return HttpReply(response.read(), response.status, response.headers.get_content_type())
    except urllib.error.HTTPError as error:
        with error:
            return HttpReply(error.read(), error.code, error.headers.get_content_type())
    except OSError:
        return None


@contextmanager
def mirror_in_front(url: str, alter: Callable[[str, Any], Any]) -> Iterator[str]:
    """A mirror that alters the real one's answers; bytes are sent as they are, an int as a status."""

    def answer(path: str, _body: bytes) -> HttpReply | None:
        real = forwarded(url + path)
        if real is None or real.status != 200:
            return real
        altered = alter(path, json.loads(real.data))
        if isinstance(altered, int):
            return HttpReply(b"{}", altered)
        return HttpReply(altered if isinstance(altered, bytes) else json.dumps(altered).encode())

    with http_peer(answer) as address:
        yield address

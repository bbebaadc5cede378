"""Addresses at which nobody listens."""

import socket


def free_addresses(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return tuple(f"localhost:{port}" for port in ports)


def is_free(port):
    try:
        socket.create_server(("localhost", port)).close()
    except OSError:
        return False
    return True

"""Lost TCP segments without a firewall: a socket filter of the kernel's that drops what arrives by chance.

A segment dropped on one of our own sockets is as lost as one the network drops: it is not acknowledged, and the other
end sends it again after its time-out. Needs no privilege and touches nobody else's connections.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h
_RANDOM: Final = (0x20, 0, 0, 0xFFFFF000 + 56)  # linux/filter.h: A = a random word (SKF_AD_OFF + SKF_AD_RANDOM)
_AT_LEAST, _RETURN = 0x35, 0x06  # A >= k: skip 0, else 1; return k bytes of the segment
_TOTAL_RETRANS: Final = 100  # tcpi_total_retrans in linux/tcp.h's tcp_info


def lose(one: socket.socket, chance: float) -> None:
    """Drop each segment that arrives at a socket by this chance from now on, 0: none."""
    program = [
        _RANDOM,
        (_AT_LEAST, 0, 1, min(int(chance * 2**32), 2**32 - 1)),
        (_RETURN, 0, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, 0),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in program))
    one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(code)))


def sent_again(one: socket.socket) -> int:
    """How many segments a socket had to send again so far."""
    facts = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TOTAL_RETRANS + 4)
    return int(struct.unpack_from("I", facts, _TOTAL_RETRANS)[0])

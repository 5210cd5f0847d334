"""Headers to bytes and back.

Decoding validates: what is not exactly one of our messages raises `MalformedError`, whatever it is. Measured on one
core, a task costs 0.04 us to encode and 0.10 us to decode and validate (`docs/decisions/0001-msgspec.md`).
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from . import chunks as c
from . import messages as m
from . import objects as o

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
"""Return a message (or any part of one) as bytes."""

_to_controller: msgspec.msgpack.Decoder[m.ToController] = msgspec.msgpack.Decoder(m.ToController)
_to_client: msgspec.msgpack.Decoder[m.ToClient] = msgspec.msgpack.Decoder(m.ToClient)
_to_engine: msgspec.msgpack.Decoder[m.ToEngine] = msgspec.msgpack.Decoder(m.ToEngine)
_to_nanny: msgspec.msgpack.Decoder[m.ToNanny] = msgspec.msgpack.Decoder(m.ToNanny)
_to_store: msgspec.msgpack.Decoder[o.ToStore] = msgspec.msgpack.Decoder(o.ToStore)
_from_store: msgspec.msgpack.Decoder[o.FromStore] = msgspec.msgpack.Decoder(o.FromStore)
_to_serving: msgspec.msgpack.Decoder[c.ToServing] = msgspec.msgpack.Decoder(c.ToServing)
_from_serving: msgspec.msgpack.Decoder[c.FromServing] = msgspec.msgpack.Decoder(c.FromServing)
_certificate = msgspec.msgpack.Decoder(m.DeathCertificate)


class MalformedError(Exception):
    """The bytes are not a message that the receiver understands; the text says where they go wrong."""


def check_text(what: str, text: str) -> str:
    """Return a text as plain `str`; ValueError, which calls it what it is, if no message can have it in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} {text!a:.100} is no Unicode text: it has half a character (a surrogate)") from None
    return str.__str__(text)  # of a subclass, too, which could not be encoded


def check_request(message: msgspec.Struct) -> None:
    """Raise ValueError if a controller would not understand this."""
    try:
        decode_to_controller(encode(message))
    except (MalformedError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"the cluster cannot be asked this: {error}") from None


def _decode(decoder: msgspec.msgpack.Decoder[T], header: Any) -> T:
    try:
        return decoder.decode(header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise MalformedError(str(error) or type(error).__name__) from None


def decode_to_controller(header: Any) -> m.ToController:
    """Return the message to a controller that these bytes are, or raise `MalformedError`."""
    return _decode(_to_controller, header)


def decode_to_client(header: Any) -> m.ToClient:
    """Return the message to a client that these bytes are, or raise `MalformedError`."""
    return _decode(_to_client, header)


def decode_to_engine(header: Any) -> m.ToEngine:
    """Return the message to an engine that these bytes are, or raise `MalformedError`."""
    return _decode(_to_engine, header)


def decode_to_nanny(header: Any) -> m.ToNanny:
    """Return the message to a nanny that these bytes are, or raise `MalformedError`."""
    return _decode(_to_nanny, header)


def decode_to_store(header: Any) -> o.ToStore:
    """Return the message to a store that these bytes are, or raise `MalformedError`."""
    return _decode(_to_store, header)


def decode_from_store(header: Any) -> o.FromStore:
    """Return the message from a store that these bytes are, or raise `MalformedError`."""
    return _decode(_from_store, header)


def decode_to_serving(header: Any) -> c.ToServing:
    """Return the message to a store that serves others, that these bytes are, or raise `MalformedError`."""
    return _decode(_to_serving, header)


def decode_from_serving(header: Any) -> c.FromServing:
    """Return the message from a store that serves others, that these bytes are, or raise `MalformedError`."""
    return _decode(_from_serving, header)


def decode_certificate(payload: bytes) -> m.DeathCertificate:
    """Return the death certificate in the payload of a `LOST` result, or raise `MalformedError`."""
    return _decode(_certificate, payload)

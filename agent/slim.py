"""Keep out of the resident process what paho imports and a plain connection never uses (measured: 6 MB of 29).

HTTP proxies are for websockets only, TLS is for a configured CA, and the hashes exist without OpenSSL where Python was
built with its own. To be called before paho is imported; what was imported already stays.
"""

import importlib.util
import sys
import types
from typing import Any

_OWN_HASHES = ("_md5", "_sha1", "_sha3", "_blake2")
_SHA2 = ("_sha2",) if sys.version_info >= (3, 12) else ("_sha256", "_sha512")


class NeverRaisedError(OSError):
    """What paho catches on every read and only TLS raises."""


def keep_out(*, tls: bool) -> None:
    """Put stand-ins in the place of these modules for later imports; with `tls` everything is needed."""
    if tls:
        return
    if all(importlib.util.find_spec(name) for name in (*_OWN_HASHES, *_SHA2)):
        sys.modules.setdefault("_hashlib", None)  # type: ignore[arg-type]  # import raises ImportError, hashlib copes
    _stand_in("ssl", SSLWantReadError=NeverRaisedError, SSLWantWriteError=NeverRaisedError)
    _stand_in("urllib.request", getproxies=dict)


def _stand_in(name: str, **has: Any) -> None:
    if name not in sys.modules:
        module = types.ModuleType(name)
        vars(module).update(has)
        sys.modules[name] = module

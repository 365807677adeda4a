"""A session with one Redfish service through sushy's connector: documents, errors as one line, never another host."""

import contextlib
import re
from typing import Any, cast

import msgspec
from sushy import connector, exceptions  # type: ignore[import-untyped]

from pollers.bmc_job import Job
from pollers.redfish_parse import ROOT, Document, at, link
from pollers.target import DeviceError

CONNECT_S, READ_S = 5, 15
MAX_REQUESTS = 600  # of one poll
SCHEMES = {"verify": "https", "insecure": "https", "none": "http"}
SESSIONS = f"{ROOT}/SessionService/Sessions"
_PATH = re.compile(r"/redfish/[!-~]{0,400}")


class Session:
    """One service; `token` and `session` outlive the process, so that the next poll needs no login."""

    def __init__(self, job: Job, token: str = "", session: str = "") -> None:
        host = f"[{job.address}]" if ":" in job.address else job.address
        self._job = job
        self._left = MAX_REQUESTS
        self._door: Any = connector.Connector(
            f"{SCHEMES[job.tls]}://{host}:{job.port}",
            verify=job.tls == "verify",
            server_side_retries=1,
            server_side_retries_delay=1,
            default_request_timeout=READ_S,
            connect_timeout=CONNECT_S,
        )
        self.token, self.session = token, session
        self.logins = 0
        if token:
            self._door.set_http_session_auth(token)

    def get(self, path: str) -> Document | None:
        """A document, None when it is not there or is none; logs in when it must. Raises DeviceError."""
        answer = self._request("GET", path)
        return _document(answer.content) if answer is not None else None

    def must_get(self, path: str) -> Document:
        """A document without which nothing goes; raises DeviceError."""
        found = self.get(path)
        if found is None:
            raise DeviceError(f"no Redfish resource at {path}")
        return found

    def act(self, method: str, path: str, body: Document) -> None:
        """POST or PATCH; raises DeviceError when it is refused."""
        answer = self._request("GET", path) if method == "PATCH" else None
        tag = str(answer.headers.get("ETag", "")) if answer is not None else ""
        try:
            if method == "PATCH":
                self._checked(path)
                self._door.patch(path, data=body, etag=tag or None, allow_redirects=False)
            else:
                self._request("POST", path, body)
        except exceptions.HTTPError as error:
            raise DeviceError(f"{method} {path} was refused: HTTP {_code(error)}") from None
        except exceptions.SushyError as error:
            raise DeviceError(f"{method} {path}: {type(error).__name__}") from None

    def close(self) -> None:
        """Log out."""
        if self.session:
            with contextlib.suppress(exceptions.SushyError, DeviceError):
                self._checked(self.session)
                self._door.delete(self.session, allow_redirects=False)
            self.token = self.session = ""

    def log_in(self) -> None:
        """A new session, or where the service has none basic authentication; raises DeviceError."""
        self.token = self.session = ""
        self.logins += 1
        if self.logins > 1:
            raise DeviceError("cannot log in: the service forgets its own session")
        self._door._session.headers.pop("X-Auth-Token", None)  # it has no way to forget it
        root = self._ask("GET", f"{ROOT}/")
        where = link(_document(root.content) if root is not None else None, "Links", "Sessions") or SESSIONS
        body = {"UserName": self._job.username, "Password": self._job.password}
        try:
            answer = self._ask("POST", where, body)
        except exceptions.AccessError:
            raise DeviceError("cannot log in: the user name or password is wrong") from None
        except exceptions.HTTPError as error:
            if _code(error) not in (404, 405, 501):
                raise DeviceError(f"cannot log in: HTTP {_code(error)}") from None
            answer = None
        token = answer.headers.get("X-Auth-Token") if answer is not None else None
        if token:
            self.token, self.session = str(token), _path(str(answer.headers.get("Location", "")) if answer else "")
            self._door.set_http_session_auth(self.token)
        else:
            self._door.set_http_basic_auth(self._job.username, self._job.password)

    def _request(self, method: str, path: str, body: Document | None = None) -> Any:
        """The answer; None when the resource is not there. A session that has ended is begun again, once."""
        try:
            return self._ask(method, path, body)
        except exceptions.AccessError:
            self.log_in()
        except exceptions.HTTPError:
            if method != "GET":
                raise
            return None
        try:
            return self._ask(method, path, body)
        except exceptions.AccessError:
            if method != "GET":
                raise DeviceError(f"{path}: the user is not allowed to") from None
            return None
        except exceptions.HTTPError:
            if method != "GET":
                raise
            return None

    def _ask(self, method: str, path: str, body: Document | None = None) -> Any:
        self._checked(path)
        ask = {"GET": self._door.get, "POST": self._door.post}[method]
        try:
            answer = ask(path, data=body, allow_redirects=False)
            if answer.is_redirect and (to := _path(str(answer.headers.get("Location", "")))):
                answer = ask(to, data=body, allow_redirects=False)
        except exceptions.ConnectionError as error:
            raise DeviceError(f"no answer from Redfish: {_why(str(error))}") from None
        return answer

    def _checked(self, path: str) -> None:
        self._left -= 1
        if self._left < 0:
            raise DeviceError(f"over {MAX_REQUESTS} resources to read")
        if not _path(path):
            raise DeviceError("a link that leads out of the service")


def _code(error: Any) -> int:
    return int(error.status_code or 0)


def _path(said: str) -> str:
    """The path of a Location that may be a whole URL; "" for what is none of the service's."""
    path = re.sub(r"^https?://[^/]+", "", said)
    return path if _PATH.fullmatch(path) and "//" not in path else ""


def _document(content: bytes) -> Document | None:
    try:
        found: object = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return cast("Document", found) if isinstance(found, dict) else None


_REASONS = (
    *(("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"), ("SSL", "it does not speak TLS properly")),
    *(("refused", "connection refused"), ("Name or service", "unknown host name"), ("timed out", "timed out")),
    *(("unreachable", "unreachable"), ("reset by peer", "connection reset"), ("RemoteDisconnected", "it hung up")),
)


def _why(said: str) -> str:
    """The reason in a few words: the library's own text is a page of nested objects."""
    return next((words for mark, words in _REASONS if mark in said), "the connection failed")


def expandable(root: Document) -> bool:
    """Whether collections come with their members."""
    return at(root, "ProtocolFeaturesSupported", "ExpandQuery", "NoLinks") is True

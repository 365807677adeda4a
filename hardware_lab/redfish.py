"""A Redfish service on loopback, from a mockup: sessions, ETags, PATCH and ComputerSystem.Reset that are remembered.

What is answered to a request is decided by `Service`, without a network; `Server` puts it behind HTTP.
"""

import base64
import binascii
import contextlib
import hashlib
import secrets
import socket
import tarfile
import threading
import time
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import uvicorn
from litestar import HttpMethod, Litestar, Request, Response, route

from hardware_lab.failure import LabError

LOOPBACK = "127.0.0.1"
START_S = 20.0
MAX_SESSIONS = 16
MAX_BODY = 1024 * 1024
ROOT = "/redfish/v1"
SESSIONS = f"{ROOT}/SessionService/Sessions"
OPEN = ("/redfish", ROOT, f"{ROOT}/odata", f"{ROOT}/$metadata")  # readable by anybody (DSP0266 13.3)
RESETS = {
    "On": "On",
    "ForceOn": "On",
    "ForceOff": "Off",
    "GracefulShutdown": "Off",
    "PushPowerButton": "",  # the other state
    "GracefulRestart": "On",
    "ForceRestart": "On",
    "PowerCycle": "On",
    "Nmi": "On",
}

Document = dict[str, Any]


class Call(NamedTuple):
    """A request: headers have lower-case names."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


class Answer(NamedTuple):
    """What is said to a request."""

    status: int
    body: Document | None = None
    headers: dict[str, str] = {}


class Reset(NamedTuple):
    """A system was told to go on, off or through a reset."""

    system: str  # its path
    kind: str  # ResetType


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The request is not done; holds the HTTP status."""

    def __init__(self, status: HTTPStatus, text: str) -> None:
        super().__init__(text)
        self.status = status


def read_mockup(path: Path) -> dict[str, Document]:
    """Resources by path, from a folder or .tar.gz in DMTF's form (an index.json each) or of single files that say where
    they belong (@odata.id). Raises LabError when there is none.
    """
    found: dict[str, Document] = {}
    try:
        for name, content in _files(path):
            document = _document(content)
            if document is not None and (where := _place(name, document)):
                found[where] = document
    except (OSError, tarfile.TarError) as error:
        raise LabError(f"{path}: {error}") from None
    if not found:
        raise LabError(f"{path}: no Redfish resource in it")
    _complete(found)
    return found


def _files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name (relative, in folders) and content of every JSON file."""
    if path.is_dir():
        for file in sorted(path.rglob("*.json")):
            yield file.relative_to(path).as_posix(), file.read_bytes()
        return
    with tarfile.open(path) as packed:
        for member in packed:
            content = packed.extractfile(member) if member.isfile() and member.name.endswith(".json") else None
            if content is not None:
                yield member.name, content.read()


def _document(content: bytes) -> Document | None:
    try:
        document: object = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return cast("Document", document) if isinstance(document, dict) else None


def _place(name: str, document: Document) -> str:
    """Where a document is served: where it says, else where it lies below the folder that holds the service root."""
    said = document.get("@odata.id")
    if isinstance(said, str) and said.startswith("/redfish"):
        return said.partition("#")[0].rstrip("/")
    folder, _, file = name.rpartition("/")
    top = ("", "redfish/v1")
    return f"{ROOT}/{folder}".rstrip("/") if file == "index.json" and not folder.startswith(top[1]) else ""


def _complete(found: dict[str, Document]) -> None:
    """What every service has and not every mockup: a root, the collections it leads to, and sessions."""
    root = found.setdefault(ROOT, {"@odata.type": "#ServiceRoot.v1_5_0.ServiceRoot", "Id": "RootService"})
    root.setdefault("@odata.id", f"{ROOT}/")
    root.setdefault("RedfishVersion", "1.6.0")
    root.setdefault("Name", "Root Service")
    for name in ("Systems", "Chassis", "Managers"):
        if f"{ROOT}/{name}" in found:
            root.setdefault(name, {"@odata.id": f"{ROOT}/{name}"})
    root.setdefault("SessionService", {"@odata.id": f"{ROOT}/SessionService"})
    root.setdefault("Links", {})["Sessions"] = {"@odata.id": SESSIONS}
    found["/redfish"] = {"v1": f"{ROOT}/"}
    service = found.setdefault(f"{ROOT}/SessionService", {"@odata.type": "#SessionService.v1_1_8.SessionService"})
    service.update({"@odata.id": f"{ROOT}/SessionService", "Id": "SessionService", "Name": "Session Service"})
    service.update({"ServiceEnabled": True, "SessionTimeout": 1800, "Sessions": {"@odata.id": SESSIONS}})
    for stale in [path for path in found if path.startswith(f"{SESSIONS}/")]:
        del found[stale]
    found[SESSIONS] = {
        "@odata.id": SESSIONS,
        "@odata.type": "#SessionCollection.SessionCollection",
        "Name": "Session Collection",
        "Members": [],
        "Members@odata.count": 0,
    }


class Service:
    """The resources of one service and what was done to them; calls may come from several threads."""

    def __init__(self, resources: dict[str, Document], user: str = "admin", password: str = "labpass") -> None:  # noqa: S107
        self.user = user
        self.password = password
        self.resets: list[Reset] = []
        self._resources = resources
        self._names = {path.lower(): path for path in resources}  # BMCs link to themselves in any case
        self._tokens: dict[str, str] = {}  # token -> session's path
        self._sessions = 0
        self._lock = threading.Lock()

    def answer(self, call: Call) -> Answer:
        """Do what is asked, and say what came of it; never raises."""
        with self._lock:
            try:
                return self._answer(call)
            except Refused as refused:
                return _error(refused.status, str(refused))

    def resource(self, path: str) -> Document:
        """A resource as it is now, to look at or to change (a sensor's reading, say); raises LabError."""
        document = self._find(path)
        if document is None:
            raise LabError(f"no resource {path}")
        return document

    def _answer(self, call: Call) -> Answer:
        path = call.path.rstrip("/") or "/"
        if call.method == "POST" and path.lower() in (SESSIONS.lower(), f"{SESSIONS}/Members".lower()):
            return self._log_in(call)
        if not (call.method == "GET" and path in OPEN):
            self._admit(call)
        if call.method == "POST":
            return self._act(path, call)
        document = self._find(path)
        if document is None:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no resource {path}")
        return {"GET": self._get, "PATCH": self._patch, "DELETE": self._delete}[call.method](document, call)

    def _find(self, path: str) -> Document | None:
        return self._resources.get(self._names.get(path.rstrip("/").lower(), ""))

    # -- who asks ------------------------------------------------------------------------------------------------------

    def _admit(self, call: Call) -> None:
        """Raises Refused for a stranger."""
        scheme, _, told = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "basic" and _is(_decoded(told), f"{self.user}:{self.password}"):
            return
        if call.headers.get("x-auth-token", "") not in self._tokens:
            raise Refused(HTTPStatus.UNAUTHORIZED, "no valid session and no valid credentials")

    def _log_in(self, call: Call) -> Answer:
        wanted = _body(call)
        name, password = str(wanted.get("UserName", "")), str(wanted.get("Password", ""))
        if not (_is(name, self.user) and _is(password, self.password)):
            raise Refused(HTTPStatus.UNAUTHORIZED, "the user name or password is wrong")
        if len(self._tokens) >= MAX_SESSIONS:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"all {MAX_SESSIONS} sessions are in use")
        self._sessions += 1
        path, token = f"{SESSIONS}/{self._sessions}", secrets.token_hex(16)
        session = {"@odata.id": path, "@odata.type": "#Session.v1_6_0.Session", "Id": str(self._sessions)}
        session |= {"Name": "User Session", "UserName": name}
        self._resources[path], self._names[path.lower()] = session, path
        self._tokens[token] = path
        self._count_sessions()
        return Answer(HTTPStatus.CREATED, session, {"Location": path, "X-Auth-Token": token})

    def _delete(self, document: Document, _call: Call) -> Answer:
        path = str(document.get("@odata.id", ""))
        if path not in self._tokens.values():
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "only sessions can be deleted")
        self._tokens = {token: session for token, session in self._tokens.items() if session != path}
        del self._resources[path], self._names[path.lower()]
        self._count_sessions()
        return Answer(HTTPStatus.NO_CONTENT)

    def _count_sessions(self) -> None:
        members = [{"@odata.id": path} for path in self._tokens.values()]
        self._resources[SESSIONS] |= {"Members": members, "Members@odata.count": len(members)}

    # -- what is asked -------------------------------------------------------------------------------------------------

    def _get(self, document: Document, call: Call) -> Answer:
        tag = etag(document)
        if call.headers.get("if-none-match") == tag:
            return Answer(HTTPStatus.NOT_MODIFIED, None, {"ETag": tag})
        return Answer(HTTPStatus.OK, document, {"ETag": tag, "OData-Version": "4.0"})

    def _patch(self, document: Document, call: Call) -> Answer:
        if call.headers.get("if-match", "*") not in ("*", etag(document)):
            raise Refused(HTTPStatus.PRECONDITION_FAILED, "the resource has another ETag")
        wanted = _body(call)
        unknown = [name for name in wanted if name not in document or name.startswith("@")]
        if unknown:
            raise Refused(HTTPStatus.BAD_REQUEST, f"properties that cannot be written: {', '.join(sorted(unknown))}")
        _merge(document, wanted)
        return Answer(HTTPStatus.OK, document, {"ETag": etag(document)})

    def _act(self, path: str, call: Call) -> Answer:
        system, _, action = path.partition("/Actions/")
        document = self._find(system)
        if document is None or not action:
            raise Refused(HTTPStatus.NOT_FOUND, f"there is no action {path}")
        if action.lower() != "computersystem.reset":
            raise Refused(HTTPStatus.NOT_IMPLEMENTED, f"the lab does not do {action}")
        kind = str(_body(call).get("ResetType", "On"))
        if kind not in self._allowed(document):
            raise Refused(HTTPStatus.BAD_REQUEST, f"ResetType {kind!r}: {', '.join(self._allowed(document))}")
        self.resets.append(Reset(str(document.get("@odata.id", system)), kind))
        other = "Off" if document.get("PowerState") == "On" else "On"
        document["PowerState"] = RESETS[kind] or other
        return Answer(HTTPStatus.NO_CONTENT)

    def _allowed(self, document: Document) -> list[str]:
        """The reset types a system takes: as it says, or its ActionInfo, else all."""
        action = document.get("Actions", {}).get("#ComputerSystem.Reset", {})
        said = action.get("ResetType@Redfish.AllowableValues")
        info = self._find(str(action.get("@Redfish.ActionInfo", ""))) or {}
        for parameter in info.get("Parameters", []):
            if parameter.get("Name") == "ResetType":
                said = said or parameter.get("AllowableValues")
        return [kind for kind in said or RESETS if kind in RESETS]


def etag(document: Document) -> str:
    """Changes when the content does; weak, as most BMCs' are."""
    return f'W/"{hashlib.sha256(msgspec.json.encode(document)).hexdigest()[:16]}"'


def _merge(document: Document, wanted: Document) -> None:
    """RFC 7396, but nothing is removed: null is a value."""
    for name, value in wanted.items():
        inner = document.get(name)
        if isinstance(value, dict) and isinstance(inner, dict):
            _merge(cast("Document", inner), cast("Document", value))
        else:
            document[name] = value


def _body(call: Call) -> Document:
    document = _document(call.body or b"{}") if len(call.body) <= MAX_BODY else None
    if document is None:
        raise Refused(HTTPStatus.BAD_REQUEST, "the body is no JSON object")
    return document


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _is(told: str, right: str) -> bool:
    return secrets.compare_digest(told.encode(), right.encode())


def _error(status: HTTPStatus, text: str) -> Answer:
    """DSP0266 8.6."""
    info = {"@odata.type": "#Message.v1_1_1.Message", "MessageId": "Base.1.0.GeneralError", "Message": text}
    body = {"error": {"code": "Base.1.0.GeneralError", "message": text, "@Message.ExtendedInfo": [info]}}
    headers = {"WWW-Authenticate": 'Basic realm="lab"'} if status is HTTPStatus.UNAUTHORIZED else {}
    return Answer(status, body, headers)


def application(service: Service) -> Litestar:
    """The service behind HTTP."""
    methods = [HttpMethod.GET, HttpMethod.PATCH, HttpMethod.POST, HttpMethod.DELETE]

    @route(["/", "/{path:path}"], http_method=methods, status_code=200)
    async def serve(request: "Request[Any, Any, Any]") -> Response[bytes]:
        body = await request.body()
        said = service.answer(Call(request.method, request.url.path, dict(request.headers), body))
        content = b"" if said.body is None else msgspec.json.encode(said.body)
        headers = {"content-type": "application/json"} | said.headers if content else said.headers
        return Response(content, status_code=said.status, headers=headers)

    return Litestar([serve], openapi_config=None)


class Server:
    """uvicorn in a thread of this process, on a loopback port that is taken before the start."""

    def __init__(self, service: Service, port: int = 0) -> None:
        self.service = service
        config = uvicorn.Config(application(service), log_level="critical", access_log=False, lifespan="off")
        self._server = uvicorn.Server(config)
        self._port = port
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="redfish", daemon=True)

    @property
    def url(self) -> str:
        """Where it is, after the start."""
        return f"http://{LOOPBACK}:{self._socket.getsockname()[1]}"

    def start(self) -> None:
        """Return when it answers; raises LabError for a port in use."""
        try:
            self._socket.bind((LOOPBACK, self._port))
            self._socket.listen()
        except (OSError, OverflowError) as error:
            self._socket.close()
            reason = error.strerror if isinstance(error, OSError) else "not a port number"
            raise LabError(f"Redfish cannot listen on {LOOPBACK}:{self._port}: {reason}") from None
        self._thread.start()
        deadline = time.monotonic() + START_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        """End it and wait for that; a second call does nothing."""
        self._server.should_exit = self._server.force_exit = True  # clients keep their connections open
        with contextlib.suppress(RuntimeError):  # it was never started
            self._thread.join(START_S)
        self._socket.close()

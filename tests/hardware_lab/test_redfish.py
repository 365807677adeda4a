"""The Redfish service over HTTP, to plain urllib and to sushy, from mockups of real BMCs."""

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sushy  # type: ignore[import-untyped]
from sushy import auth

from hardware_lab import redfish
from hardware_lab.failure import LabError
from hardware_lab.redfish import ROOT, SESSIONS, Call, Reset, Server, Service

USER, PASSWORD = "admin", "labpass"
MOCKUPS = ("dmtf/public-rackmount1", "cray-hpe-mockups/DL325", "cray-hpe-mockups/Gigabyte", "cray-hpe-mockups/EX235a")


def serve(path: Path) -> Iterator[Server]:
    server = Server(Service(redfish.read_mockup(path), USER, PASSWORD))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def dl325(data: Path) -> Iterator[Server]:
    yield from serve(data / "redfish/cray-hpe-mockups/DL325.tar.gz")


@pytest.fixture(params=MOCKUPS)
def any_server(data: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    yield from serve(data / f"redfish/{request.param}.tar.gz")


def ask(server: Server, path: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    """Status, JSON and headers of an answer."""
    content = None if body is None else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(server.url + path, content, names, method=method)  # noqa: S310 - http
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            text = answer.read()
            return answer.status, json.loads(text) if text else None, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            text = error.read()
            return error.code, json.loads(text) if text else None, error.headers


def log_in(server: Server) -> dict[str, str]:
    """The header of a new session."""
    status, _, headers = ask(server, SESSIONS, "POST", {"UserName": USER, "Password": PASSWORD})
    assert status == 201
    return {"X_Auth_Token": headers["X-Auth-Token"], "location": headers["Location"]}


def links(document: Any) -> set[str]:
    """Every path a document refers to."""
    if isinstance(document, list):
        return {link for item in document for link in links(item)}
    if not isinstance(document, dict):
        return set()
    own = {document["@odata.id"]} if isinstance(document.get("@odata.id"), str) else set()
    return own | {link for value in document.values() for link in links(value)}


def test_a_session_opens_the_whole_tree_and_its_end_closes_it(any_server: Server) -> None:
    assert ask(any_server, "/redfish")[1] == {"v1": f"{ROOT}/"}
    status, root, _ = ask(any_server, f"{ROOT}/")
    assert status == 200
    systems = root["Systems"]["@odata.id"]
    assert ask(any_server, systems)[0] == 401
    session = log_in(any_server)
    token = {"X_Auth_Token": session["X_Auth_Token"]}
    status, collection, _ = ask(any_server, systems, **token)
    assert (status, len(collection["Members"])) == (200, collection["Members@odata.count"])
    for member in links(collection["Members"]):
        assert ask(any_server, member, **token)[0] == 200
    assert ask(any_server, session["location"], "DELETE", **token)[0] == 204
    assert ask(any_server, systems, **token)[0] == 401


def test_every_resource_of_a_mockup_is_served_as_it_lies_there(any_server: Server) -> None:
    token = {"X_Auth_Token": log_in(any_server)["X_Auth_Token"]}
    resources = dict(any_server.service._resources)
    for path, document in resources.items():
        if path not in (SESSIONS, "/redfish"):
            status, said, _ = ask(any_server, path, **token)
            assert (status, said) == (200, document), path
    led_to = {link.partition("#")[0].rstrip("/").lower() for document in resources.values() for link in links(document)}
    there = {path.lower() for path in resources}
    assert len(led_to & there) > 10
    assert len(led_to - there) < len(led_to) / 3, sorted(led_to - there)


def test_a_stranger_a_wrong_password_and_a_second_spelling(dl325: Server) -> None:
    assert ask(dl325, SESSIONS, "POST", {"UserName": USER, "Password": "wrong"})[0] == 401
    assert ask(dl325, SESSIONS, "POST", {"UserName": "admin"})[0] == 401
    status, error, headers = ask(dl325, f"{ROOT}/Systems/1", X_Auth_Token="guess")
    assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="lab"')
    assert error["error"]["@Message.ExtendedInfo"][0]["Message"] == "no valid session and no valid credentials"
    basic = {"Authorization": "Basic YWRtaW46bGFicGFzcw=="}
    assert ask(dl325, f"{ROOT}/systems/1/", **basic)[1] == ask(dl325, f"{ROOT}/Systems/1", **basic)[1]
    assert ask(dl325, f"{ROOT}/Systems/2", **basic)[0] == 404
    assert ask(dl325, f"{ROOT}/Systems/1", **{"Authorization": "Basic !!!"})[0] == 401


def test_an_etag_guards_a_patch_that_is_remembered(dl325: Server) -> None:
    token, path = {"X_Auth_Token": log_in(dl325)["X_Auth_Token"]}, f"{ROOT}/Systems/1"
    _, before, headers = ask(dl325, path, **token)
    tag = headers["ETag"]
    assert ask(dl325, path, If_None_Match=tag, **token)[0] == 304
    wanted = {"AssetTag": "rack-7", "Boot": {"BootSourceOverrideTarget": "Pxe"}}
    assert ask(dl325, path, "PATCH", wanted, If_Match='W/"other"', **token)[0] == 412
    assert ask(dl325, path, **token)[1] == before
    assert ask(dl325, path, "PATCH", wanted, If_Match=tag, **token)[0] == 200
    _, after, headers = ask(dl325, path, **token)
    assert (after["AssetTag"], after["Boot"]["BootSourceOverrideTarget"]) == ("rack-7", "Pxe")
    assert after["Boot"]["BootSourceOverrideMode"] == before["Boot"]["BootSourceOverrideMode"]
    assert headers["ETag"] != tag
    assert ask(dl325, path, If_None_Match=tag, **token)[0] == 200
    assert ask(dl325, path, "PATCH", {"Nonsense": 1}, **token)[0] == 400
    assert ask(dl325, path, "PATCH", [1], **token)[0] == 400
    assert ask(dl325, path, "DELETE", **token)[0] == 405


def test_a_reset_is_remembered_and_an_unknown_one_refused(dl325: Server) -> None:
    token, path = {"X_Auth_Token": log_in(dl325)["X_Auth_Token"]}, f"{ROOT}/Systems/1"
    target = ask(dl325, path, **token)[1]["Actions"]["#ComputerSystem.Reset"]["target"]
    state = []
    for kind in ("ForceOff", "On", "PushPowerButton", "PushPowerButton", "ForceRestart"):
        assert ask(dl325, target, "POST", {"ResetType": kind}, **token)[0] == 204
        state.append(ask(dl325, path, **token)[1]["PowerState"])
    assert state == ["Off", "On", "Off", "On", "On"]
    assert dl325.service.resets[0] == Reset(path, "ForceOff")
    assert ask(dl325, target, "POST", {"ResetType": "PowerCycle"}, **token)[0] == 400  # not one of this BMC's
    assert ask(dl325, f"{path}/Actions/ComputerSystem.Explode", "POST", {}, **token)[0] == 501
    assert ask(dl325, target, "POST", {"ResetType": "On"})[0] == 401
    assert len(dl325.service.resets) == 5


def test_sushy_logs_in_looks_around_and_resets(any_server: Server) -> None:
    known = auth.SessionOrBasicAuth(username=USER, password=PASSWORD)
    bmc = sushy.Sushy(any_server.url, auth=known)
    try:
        [system, *_] = bmc.get_system_collection().get_members()
        assert bmc.get_chassis_collection().get_members()
        if "#ComputerSystem.Reset" in any_server.service.resource(system.path).get("Actions", {}):
            system.reset_system(sushy.RESET_FORCE_OFF)
            system.refresh(force=True)
            assert system.power_state is sushy.SYSTEM_POWER_STATE_OFF
            assert any_server.service.resets == [Reset(system.path, "ForceOff")]
    finally:
        known.close()  # else it tries for half a minute when it is collected


def test_single_files_that_say_where_they_belong_make_a_service(data: Path) -> None:
    service = Service(redfish.read_mockup(data / "redfish/sushy"))
    token = service.answer(Call("POST", SESSIONS, {}, b'{"UserName": "admin", "Password": "labpass"}')).headers
    admitted = {"x-auth-token": token["X-Auth-Token"]}
    assert service.answer(Call("GET", "/redfish/v1/Systems/437XR1138R2", admitted)).status == 200


def test_the_lab_changes_a_reading_behind_the_services_back(dl325: Server) -> None:
    token = {"X_Auth_Token": log_in(dl325)["X_Auth_Token"]}
    thermal = f"{ROOT}/Chassis/1/Thermal"
    dl325.service.resource(thermal)["Temperatures"][0]["ReadingCelsius"] = 99
    assert ask(dl325, thermal, **token)[1]["Temperatures"][0]["ReadingCelsius"] == 99
    with pytest.raises(LabError, match="no resource /redfish/v1/Nowhere"):
        dl325.service.resource(f"{ROOT}/Nowhere")


def test_sessions_run_out_and_come_back() -> None:
    service = Service(redfish_root())
    credentials = b'{"UserName": "admin", "Password": "labpass"}'
    opened = [service.answer(Call("POST", SESSIONS, {}, credentials)) for _ in range(redfish.MAX_SESSIONS)]
    assert {answer.status for answer in opened} == {201}
    assert service.answer(Call("POST", SESSIONS, {}, credentials)).status == 503
    first = {"x-auth-token": opened[0].headers["X-Auth-Token"]}
    assert service.answer(Call("DELETE", opened[0].headers["Location"], first)).status == 204
    assert service.answer(Call("POST", SESSIONS, {}, credentials)).status == 201


def redfish_root() -> dict[str, redfish.Document]:
    found: dict[str, redfish.Document] = {}
    redfish._complete(found)
    return found


def test_what_is_no_mockup_and_a_port_in_use_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="no Redfish resource"):
        redfish.read_mockup(tmp_path)
    with pytest.raises(LabError, match=r"none\.tar\.gz"):
        redfish.read_mockup(tmp_path / "none.tar.gz")
    with socket.socket() as taken:
        taken.bind((redfish.LOOPBACK, 0))
        taken.listen()
        server = Server(Service(redfish_root()), taken.getsockname()[1])
        with pytest.raises(LabError, match="Address already in use"):
            server.start()
        server.stop()

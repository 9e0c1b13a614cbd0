# SPDX-License-Identifier: Apache-2.0
"""The published interface says what the code does: names, fields, errors; and every reply agrees with it."""

import dataclasses
import re

import pytest
from support.icecored import ROOT, Icecored
from support.service_types import Sleepers

from icecore.daemon.report import Report
from icecore.daemon.service.api import INTERFACE, interface
from icecore.daemon.service.views import LAYER_FIELDS
from icecore.errors import NoSuchCheckpoint, UsageError
from icecore.storage.layer import LayerInfo
from icecore.varlink.errors import classes
from icecore.varlink.framing import JsonObject
from icecore.varlink.idl import parse
from icecore.varlink.interface import Struct
from icecore.varlink.validate import validate

DESCRIPTION = interface()


def fields(found: object) -> list[str]:
    assert isinstance(found, Struct)
    return [name for name, _ in found.fields]


def test_every_error_of_the_tree_is_declared_with_its_parameters() -> None:
    assert DESCRIPTION.errors.keys() == classes().keys()
    for name, kind in classes().items():
        assert fields(DESCRIPTION.errors[name]) == list(kind("").parameters()), name


def test_reports_and_layers_have_the_declared_fields() -> None:
    assert sorted(fields(DESCRIPTION.types["Report"])) == sorted(field.name for field in dataclasses.fields(Report))
    assert fields(DESCRIPTION.types["Layer"]) == list(LAYER_FIELDS)
    assert {field.name for field in dataclasses.fields(LayerInfo)} >= {*LAYER_FIELDS}


def test_every_method_and_error_is_documented() -> None:
    text = (ROOT / "docs" / "protocol.md").read_text()
    signatures = dict(re.findall(r"^    method (\w+)(.*)$", text, re.MULTILINE))
    published = {
        name: re.sub(r"\s+", " ", rest).replace("( ", "(").replace(" )", ")").strip()
        for name, rest in re.findall(r"^method (\w+)(\([^)]*\)\s*->\s*\([^)]*\))", DESCRIPTION.text, re.MULTILINE)
    }
    assert signatures == published
    for method in DESCRIPTION.methods:
        section = text.partition(f"\n## {method}\n")[2].partition("\n## ")[0]
        for heading in ("**Prerequisites.**", "**On success.**", "**On failure.**"):
            assert heading in section, method
    for error in DESCRIPTION.errors:
        assert f"`{error}" in text, error


def test_the_daemon_introduces_itself(daemon: Icecored) -> None:
    with daemon.client() as client:
        info = client.call("org.varlink.service.GetInfo")
        assert info["interfaces"] == ["org.varlink.service", INTERFACE]
        for name in ("org.varlink.service", INTERFACE):
            description = client.call("org.varlink.service.GetInterfaceDescription", interface=name)["description"]
            assert parse(str(description)).name == name
        assert client.call("org.varlink.service.GetInterfaceDescription", interface=INTERFACE) == {
            "description": DESCRIPTION.text
        }
        with pytest.raises(UsageError, match="InterfaceNotFound"):
            client.call("org.varlink.service.GetInterfaceDescription", interface="org.example")


def test_every_reply_agrees_with_the_description(daemon: Icecored, sleeper: Sleepers) -> None:
    victim, failing, dead = sleeper(), sleeper(), sleeper()

    def check(method: str, reply: JsonObject) -> JsonObject:
        validate(DESCRIPTION, DESCRIPTION.methods[method].result, reply)
        return reply

    with daemon.client() as client:
        check("Track", client.call("Track", pid=victim.pid, name="job", interval=50))
        check("Track", client.call("Track", pid=failing.pid, name="failing-one", interval=50, tracker="content"))
        check("Track", client.call("Track", pid=dead.pid, name="dead", ranges=[{"start": 4096, "end": 8192}]))
        daemon.wait_for("dead@1")
        dead.kill()
        daemon.wait_for("dead: process")
        check("List", client.call("List"))
        replies = list(client.call_more("Checkpoint", name="job"))
        for reply in replies:
            check("Checkpoint", reply)
        assert [*replies[-1]] == ["report"]
        check("List", client.call("List"))
        check("Show", client.call("Show", name="job"))
        for reply in client.call_more("Show", name="job"):
            check("Show", reply)
        with pytest.raises(NoSuchCheckpoint, match="no checkpoint 7"):
            client.call("Show", name="job", id=7)
        check("GetFeatures", client.call("GetFeatures"))
        check("Untrack", client.call("Untrack", name="job"))

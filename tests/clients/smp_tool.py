# SPDX-License-Identifier: Apache-2.0
"""Drives the Python clients of SMP; runs in the environment that `venv.sh smp` makes.

    smp_tool.py upload  PLACE IMAGE            smpclient: prints `offset N` for each answer
    smp_tool.py models  PLACE IMAGE            the models of the package smp, on every kind of answer
    smp_tool.py toolkit PLACE update IMAGE     mcumgr-toolkit: its whole update, up to the reset
    smp_tool.py toolkit PLACE confirm
    smp_tool.py client  PLACE COMMAND [IMAGE]  mcumgr-client: list, upload, test, reset, erase

PLACE is udp:HOST or serial:PATH. The exit code is 0 if all went well.
"""

import asyncio
import hashlib
import json
import socket
import sys

PORT = 1337


def check(condition, message):
    if not condition:
        sys.exit("failed: " + message)


async def upload(kind, place, path):
    from smpclient import SMPClient
    from smpclient.transport.serial import SMPSerialTransport
    from smpclient.transport.udp import SMPUDPTransport
    transport = SMPUDPTransport() if kind == "udp" else SMPSerialTransport()
    with open(path, "rb") as file:
        image = file.read()
    async with SMPClient(transport, place) as client:
        async for offset in client.upload(image):
            print("offset %u" % offset, flush=True)


def models(host, path):
    """Requests made by the models of `smp`, answers read by them: they refuse unknown keys and values out of range."""
    from smp import error, header, image_management, os_management
    with open(path, "rb") as file:
        image = file.read()
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.settimeout(5)
    link.connect((host, PORT))
    seen = []

    def exchange(request):
        link.send(bytes(request))
        answer = link.recv(4096)
        got = header.Header.loads(answer[:8])
        check((got.group_id, got.sequence, got.command_id) == (request.header.group_id, request.header.sequence,
                                                               request.header.command_id), "the answer is to another request")
        return answer

    def ask(request, model):
        got = model.loads(exchange(request))
        seen.append(model.__name__)
        return got

    def refuse(request, model):
        got = model.loads(exchange(request))
        seen.append(model.__name__)
        return got

    for text in ("", "x", "größer", "y" * 400):
        check(ask(os_management.EchoWriteRequest(d=text), os_management.EchoWriteResponse).r == text, "echo of %r" % text)
    parameters = ask(os_management.MCUMgrParametersReadRequest(), os_management.MCUMgrParametersReadResponse)
    check((parameters.buf_size, parameters.buf_count) >= (2048, 4), "parameters are %r" % parameters)
    for letters in (None, "s", "sv", "a"):
        ask(os_management.OSApplicationInfoReadRequest(format=letters), os_management.OSApplicationInfoReadResponse)
    check(ask(os_management.BootloaderInformationReadRequest(query=None),
              os_management.BootloaderInformationReadResponse).bootloader == "MCUboot", "another bootloader")
    states = ask(image_management.ImageStatesReadRequest(), image_management.ImageStatesReadResponse)
    check([one.slot for one in states.images] == [0], "a blank slot is listed")

    size, at = 1400, 0
    while at < len(image):
        first = {"len": len(image), "image": 0, "sha": hashlib.sha256(image).digest(), "upgrade": False} if at == 0 else {}
        answer = ask(image_management.ImageUploadWriteRequest(off=at, data=image[at:at + size], **first),
                     image_management.ImageUploadWriteResponse)
        check(answer.off == min(at + size, len(image)), "%u bytes from %u on were not taken whole" % (size, at))
        at = answer.off
    check(answer.match is True, "the last answer says match %r" % answer.match)
    states = ask(image_management.ImageStatesReadRequest(), image_management.ImageStatesReadResponse)
    check([one.slot for one in states.images] == [0, 1], "the uploaded image is not listed")
    new = states.images[1]
    states = ask(image_management.ImageStatesWriteRequest(hash=new.hash, confirm=False),
                 image_management.ImageStatesWriteResponse)
    check(states.images[1].pending and not states.images[1].permanent, "not pending after test")

    # Refusals of the group of images and of the protocol, in both versions.
    active = image_management.ImageStatesWriteRequest(hash=states.images[0].hash, confirm=False)
    got = refuse(active, image_management.ImageManagementErrorV2)
    check(got.err.rc == 33, "test of the active slot: %r" % got)
    v1 = image_management.ImageStatesWriteRequest(version=header.Version.V1, hash=states.images[0].hash, confirm=False)
    got = refuse(v1, image_management.ImageManagementErrorV1)
    check(got.rc == error.MGMT_ERR.EUNKNOWN, "the same in version 1: %r" % got)
    got = refuse(os_management.OSApplicationInfoReadRequest(format="x"), os_management.OSManagementErrorV2)
    check(got.err.rc == 2, "an unknown letter: %r" % got)
    got = refuse(os_management.DateTimeReadRequest(), os_management.OSManagementErrorV1)
    check(got.rc == error.MGMT_ERR.ENOTSUP, "the clock: %r" % got)
    # A pending slot is not erased; the request is taken back by the reset of the caller.
    got = refuse(image_management.ImageEraseRequest(slot=1), image_management.ImageManagementErrorV2)
    check(got.err.rc == 9, "erase of the pending slot: %r" % got)
    ask(os_management.ResetWriteRequest(), os_management.ResetWriteResponse)
    print("%u answers, %s" % (len(seen), ", ".join(sorted(set(seen)))))


def toolkit(kind, place, command, path=None):
    import mcumgr_toolkit
    client = (mcumgr_toolkit.MCUmgrClient.udp(place, PORT) if kind == "udp"
              else mcumgr_toolkit.MCUmgrClient.serial(place))
    client.use_auto_frame_size()
    check(client.os_echo("größer") == "größer", "echo")
    check(client.os_bootloader_info()["name"] == "MCUboot", "bootloader")
    slots = client.image_slot_info()[0].slots
    check([one.slot for one in slots] == [0, 1], "slots %r" % slots)
    if command == "update":
        with open(path, "rb") as file:
            client.firmware_update(file.read(), bootloader_type="MCUboot")
    elif command == "confirm":
        check(client.image_set_state(None, True)[0].confirmed, "not confirmed")
    else:
        sys.exit(__doc__)


def client(place, command, path=None):
    import mcumgr_client
    session = mcumgr_client.SerialSession(device=place, baudrate=115200)
    if command == "list":
        print(json.dumps([dict(one, hash=bytes(one["hash"]).hex()) for one in session.list()]))
    elif command == "upload":
        session.upload(path, progress=lambda at, _: print("offset %u" % at, flush=True))
    elif command == "test":
        [waiting] = [one for one in session.list() if one["slot"] == 1]
        session.test(bytes(waiting["hash"]), False)
    elif command == "reset":
        session.reset()
    elif command == "erase":
        session.erase()
    else:
        sys.exit(__doc__)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    what, (kind, _, place) = sys.argv[1], sys.argv[2].partition(":")
    if what == "upload":
        asyncio.run(upload(kind, place, sys.argv[3]))
    elif what == "models":
        models(place, sys.argv[3])
    elif what == "toolkit":
        toolkit(kind, place, *sys.argv[3:])
    elif what == "client":
        client(place, *sys.argv[3:])
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""SMP groups that bledfu does not serve: Zephyr's MCUmgr answers them over the same characteristic."""

from scenarios import Skipped, expect
from smp_phone import IMAGE, READ, V1, V2, WRITE, check_header, chunk, frame_of
from smp_scenarios import NOT_SUPPORTED, phone_with, scenario, update

FILES = 8
NO_MEMORY, BUSY = 2, 10
LOG = bytes((7 * i + 3) & 0xFF for i in range(5000))  # smp/src/groups.c
PIECE = 256  # it divides the block of the file system, see smp/src/groups.c
MANY = (2,), (3,), (12,)
REPORT_GROUP = 1959  # CONFIG_BLEDFU_SMP_REPORT_GROUP


def phone_of_the_product(context):
    """A phone on a device that has Zephyr's MCUmgr beside bledfu."""
    if not context.tools.has_groups:
        raise Skipped("no MCUmgr in this build")
    context.device.start()
    phone = phone_with(context, "medium-2.3.4")
    phone.connect()
    return phone


@scenario()
def smp_groups_of_the_product(context):
    """A product's own group, its shell and its statistics answer over the same characteristic, before and within an upload."""
    phone = phone_of_the_product(context)
    channel = phone.channel

    def ask():
        text = "dose " * 50
        for version in (V1, V2):
            answer = channel.exchange(frame_of(WRITE, 64, 0, {"text": text}, version, channel.next_sequence()))
            expect(answer == {"twice": 2 * text}, "the product's group answers %s" % answer)
        answer = channel.exchange(frame_of(WRITE, 9, 0, {"argv": ["valve", "open"]}, V2, channel.next_sequence()))
        expect(answer.get("o", "").strip() == "valve open" and not answer.get("ret"), "the shell answers %s" % answer)
        answer = channel.exchange(frame_of(READ, 2, 0, {"name": "doser"}, V2, channel.next_sequence()))
        expect(answer.get("fields", {}).get("doses", 0) >= 2, "the statistics are %s" % answer)
        answer = channel.exchange(frame_of(READ, 99, 0, {}, V2, channel.next_sequence()))
        expect(answer == NOT_SUPPORTED, "a group that nobody has answers %s" % answer)
        channel.echo()

    ask()
    answer = channel.exchange(frame_of(READ, REPORT_GROUP, 0, {}, V2, channel.next_sequence()))
    expect(answer == {"state": 1, "confirmed": 1, "version": 1, "refused": 0}, "the report is %s" % answer)
    # A test of an image that is not there is refused, and the report says so: 1 << 31, group, error.
    refused = channel.exchange(frame_of(WRITE, IMAGE, 0, {"hash": bytes(32), "confirm": False}, V2, channel.next_sequence()))
    expect(refused == {"err": {"group": IMAGE, "rc": 8}}, "a test of nothing: %s" % refused)
    answer = channel.exchange(frame_of(READ, REPORT_GROUP, 0, {}, V2, channel.next_sequence()))
    expect(answer["refused"] == 1 << 31 | IMAGE << 8 | 8, "the report is %s" % answer)
    image = phone.image
    answer = channel.exchange(chunk(image, 0, 2000, channel.next_sequence()).BYTES)
    expect(answer.get("off", 0) > 0, "the upload does not begin: %s" % answer)
    ask()
    answer = channel.exchange(chunk(image, answer["off"], 2000, channel.next_sequence()).BYTES)
    expect(answer.get("off", 0) > 2000, "the upload does not go on: %s" % answer)
    phone.link.close()
    update(context, "medium-2.3.4")


def read_file(name, offset, sequence):
    return frame_of(READ, FILES, 0, {"off": offset, "name": name}, V2, sequence)


def download(channel, name):
    """A whole file, in the pieces that the device chooses."""
    data, length = b"", None
    while length is None or len(data) < length:
        answer = channel.exchange(read_file(name, len(data), channel.next_sequence()))
        expect(answer.get("data") and answer["off"] == len(data), "at %u of %s: %s" % (len(data), name, answer))
        length = answer.get("len", length)
        data += answer["data"]
    return data


def expect_same(got, written, name):
    different = next((at for at, (one, other) in enumerate(zip(got, written)) if one != other), min(len(got), len(written)))
    expect(got == written, "%s has %u bytes of %u, and differs from byte %u on" % (name, len(got), len(written), different))


def answers_to(channel, frames):
    """Sends them all before it reads an answer: one to each, in any order, by sequence number."""
    waiting = {frame[6]: frame for frame in frames}
    for frame in frames:
        channel.send(frame)
    answers = {}
    while waiting:
        answer = channel.receive()
        expect(answer is not None, "no answer to %u of %u frames" % (len(waiting), len(frames)))
        expect(answer[6] in waiting, "a second answer, or one to nothing: %s" % answer.hex(" "))
        answers[answer[6]] = check_header(waiting.pop(answer[6]), answer)
    return answers


@scenario()
def smp_files_of_the_product(context):
    """Zephyr's file group downloads and takes a file, also within the upload of an image, which then goes on."""
    phone = phone_of_the_product(context)
    channel = phone.channel
    expect_same(download(channel, "/doser/log.bin"), LOG, "the file that the product wrote")
    answer = channel.exchange(chunk(phone.image, 0, 2000, channel.next_sequence()).BYTES)
    expect(answer.get("off", 0) > 0, "the upload does not begin: %s" % answer)
    recipe = bytes(range(256)) * 5
    for at in range(0, len(recipe), PIECE):
        piece = {"off": at, "data": recipe[at:at + PIECE], "name": "/doser/recipe.bin", **({"len": len(recipe)} if at == 0 else {})}
        told = channel.exchange(frame_of(WRITE, FILES, 0, piece, V2, channel.next_sequence()))
        expect(told.get("off") == at + len(piece["data"]), "a piece of the file at %u: %s" % (at, told))
    expect_same(download(channel, "/doser/recipe.bin"), recipe, "the file that was sent")
    told = channel.exchange(frame_of(READ, FILES, 0, {"off": 0, "name": "/doser/none"}, V2, channel.next_sequence()))
    expect("data" not in told and (told.get("err") or told.get("rc")), "a file that is not there: %s" % told)
    answer = channel.exchange(chunk(phone.image, answer["off"], 2000, channel.next_sequence()).BYTES)
    expect(answer.get("off", 0) > 2000, "the upload does not go on: %s" % answer)
    phone.link.close()
    update(context, "medium-2.3.4")


@scenario(*MANY)
def smp_many_requests_at_once(context, count):
    """Requests for MCUmgr that come faster than it answers are each answered once: with the bytes, or with "busy" or "no memory"."""
    phone = phone_of_the_product(context)
    channel = phone.channel
    frames = [read_file("/doser/log.bin", 100 * i, channel.next_sequence()) for i in range(count)]
    answers = list(answers_to(channel, frames).values())
    refused = [answer["rc"] for answer in answers if "rc" in answer]
    expect(set(refused) <= {NO_MEMORY, BUSY}, "some were refused with %s" % refused)
    expect(len(refused) < count, "none was answered")
    for answer in answers:
        if "rc" not in answer:
            expect_same(answer["data"], LOG[answer["off"]:answer["off"] + len(answer["data"])], "the piece at %u" % answer["off"])
    context.notes.append("%u of %u were refused" % (len(refused), count))
    expect_same(download(channel, "/doser/log.bin"), LOG, "the file afterwards")
    channel.echo()

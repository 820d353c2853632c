# SPDX-License-Identifier: Apache-2.0
"""SMP groups that bledfu does not serve: Zephyr's MCUmgr answers them over the same characteristic."""

from scenarios import Skipped, expect
from smp_phone import IMAGE, READ, V1, V2, WRITE, chunk, frame_of
from smp_scenarios import NOT_SUPPORTED, phone_with, scenario, update

REPORT_GROUP = 1959  # CONFIG_BLEDFU_SMP_REPORT_GROUP


@scenario()
def smp_groups_of_the_product(context):
    """A product's own group, its shell and its statistics answer over the same characteristic, before and within an upload."""
    if not context.tools.has_groups:
        raise Skipped("no MCUmgr in this build")
    context.device.start()
    phone = phone_with(context, "medium-2.3.4")
    phone.connect()
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

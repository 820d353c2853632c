// SPDX-License-Identifier: Apache-2.0
//! Secure DFU.

use super::Entry;

pub const ENTRIES: &[Entry] = &[
    Entry {
        id: "S1",
        title: "no receive buffer comes back",
        causes: &[
            "the end of a flash write is never reported, so its buffer is never freed: a store function for QSPI or SPI flash that \
             does not call the completion callback",
            "the queue of writes is never drained",
        ],
        checks: &[
            "RTT log of the device: \"acquired\" lines without \"Freeing buffer\" lines",
            "call the write callback when the DMA of the flash driver has ended, or write in a thread and wait",
        ],
        bledfu: "a packet is copied into a ring, so no driver can keep a buffer; a completion that never comes costs one time-out of \
                 the driver, and a dead flash is told as 0A at Create",
    },
    Entry {
        id: "S2",
        title: "packets dropped while flash was busy",
        causes: &[
            "packets that come during the erase of a page find no buffer",
            "the phone sends faster than the flash is written",
        ],
        checks: &[
            "an object delay of 300 to 400 ms in the phone's library, or receipts after at most 10 packets",
            "answer Create after the erase, or give the device more buffers",
        ],
        bledfu: "Create is answered when the flash is erased, and the ring holds a whole object",
    },
    Entry {
        id: "S3",
        title: "every byte arrived, and the CRC is wrong",
        causes: &[
            "the device computes the CRC over a buffer that it has freed already (nRF5 SDK 15.0)",
            "packets are doubled or out of order on the way",
            "an object was continued over the bytes of another image",
        ],
        checks: &[
            "the same wrong CRC in every attempt points to the device, changing ones to the link",
            "nRF5 SDK 15.3 or later; receipts after every packet; resuming switched off",
        ],
        bledfu: "the CRC is of the copy that is written, and the flash is read back before Execute is answered",
    },
    Entry {
        id: "S4",
        title: "receipts are switched on, and none comes",
        causes: &[
            "packets that the device drops are not counted, so its count never gets there (nRF5 SDK)",
            "the device does not send receipts",
            "its queue of notifications is full, and the receipt is lost",
        ],
        checks: &["switch receipts off in the client", "count every packet, and try a notification again"],
        bledfu: "every packet counts, and a notification that cannot be sent is tried again",
    },
    Entry {
        id: "S5",
        title: "a receipt tells less than was sent",
        causes: &[
            "the device's flash queue is full, and it leaves offset and CRC of the receipt at 0 (nRF5 SDK)",
            "packets were dropped during the erase of a page",
            "the receipt is a late one, of the connection before",
        ],
        checks: &[
            "receipts after every packet",
            "set the number of packets anew after each connection",
            "compare with packets times size: one packet or one object short tells which it is",
        ],
        bledfu: "a receipt is the checksum of its moment, true for the bytes that the device holds",
    },
    Entry {
        id: "S6",
        title: "the device fell silent",
        causes: &[
            "with Create open: the erase of a slot or page blocks the processor or its radio",
            "with Execute open: programming or hashing blocks it",
            "with data or Checksum open: the processor stopped (debugger, fault, watchdog)",
            "the device went out of range",
        ],
        checks: &[
            "a supervision time-out of at least 4 s",
            "erase sector by sector, in a thread that is not the radio's",
            "never halt in a debugger while a transfer runs; look for fault handlers and the reset cause",
        ],
        bledfu: "the Bluetooth thread never touches flash, each answer comes within a second at the maximum times of the flash, and \
                 after a lost link the transfer goes on behind the last executed object",
    },
    Entry {
        id: "S7",
        title: "the link was closed in the middle of the transfer",
        causes: &[
            "closed by the device (19): it was reset or gave up: assert, watchdog, inactivity timer",
            "closed by the phone (22): the app ended, Bluetooth was switched off, or a bond is known on one side only",
        ],
        checks: &[
            "RTT log and reset cause of the device at that time",
            "with a bond: forget the device on the phone, or keep the bond in the bootloader",
        ],
        bledfu: "closes the link only after its last answer, after Abort, or after 120 s without a word",
    },
    Entry {
        id: "S8",
        title: "the phone could not connect",
        causes: &[
            "after 30 s: nobody advertises with this address, or the phone does not know the kind of the address",
            "within 2 s: the bootloader advertises to one phone only (nRF5 SDK 8 to 11)",
            "right after a lost link: a consequence, not a cause",
        ],
        checks: &["scan before connecting, and wait for the reset", "bond again", "try another phone"],
        bledfu: "keeps its address and advertises to everybody",
    },
    Entry {
        id: "S9",
        title: "the link was lost, and the log does not say how",
        causes: &[
            "any lost link",
            "at 99 or 100 percent: the device was reset before its last answer was out",
            "the phone's system withdrew a permission",
        ],
        checks: &[
            "a log of nRF Connect: the status of the disconnection and the last request decide",
        ],
        bledfu: "keeps its progress over lost links and resets, and sends its last answer before it resets",
    },
    Entry {
        id: "S10",
        title: "no bootloader after the jump",
        causes: &[
            "the device restarts slowly, or not at all",
            "its bootloader does not advertise the service FE59",
            "the phone's scan finds nothing: screen off, filters, permissions for scan, connect or location",
            "the bootloader's address is not the application's plus one",
        ],
        checks: &[
            "advertise FE59, with the lowest byte of the address plus one",
            "a longer scan time-out in the library; the permissions of the app",
        ],
        bledfu: "there is no jump: the application itself takes the update",
    },
    Entry {
        id: "S11",
        title: "the device was reset without closing its link",
        causes: &["the reset comes at once, and the phone learns of it by the supervision time-out"],
        checks: &["disconnect with reason 13, then reset"],
        bledfu: "always closes the link before a reset",
    },
    Entry {
        id: "S12",
        title: "the update service is not found",
        causes: &[
            "the phone has remembered the services of the other mode: no Service Changed indication, or a bond without it",
            "it is another device",
            "the device does not offer FE59",
        ],
        checks: &[
            "switch Bluetooth off and on once",
            "Service Changed in application and bootloader; an address of its own for the bootloader",
        ],
        bledfu: "its table of services never changes",
    },
    Entry {
        id: "S13",
        title: "the client refused",
        causes: &[
            "the size of the image is not a multiple of 4",
            "a .bin or .hex file instead of a package",
            "a result code or an answer that the client does not know",
        ],
        checks: &["make the package anew", "answer only with results 01 to 05, 07, 08, 0A and 0B"],
        bledfu: "`bledfu package` pads the image, and each refusal is one of those",
    },
    Entry {
        id: "S14",
        title: "the init packet is not signed with the device's key",
        causes: &[
            "signed with another key, such as the example key of the SDK",
            "the init packet is damaged",
            "a package of nRF5 SDK 12",
        ],
        checks: &[
            "`bledfu inspect PACKAGE --public-key KEY` says whether the key fits",
            "compare the public key in the device with the one that signs",
        ],
        bledfu: "answers the same 05, and its log names the signature",
    },
    Entry {
        id: "S15",
        title: "an object is called invalid",
        causes: &[
            "nRF5 SDK: an erase could not be queued, or the address was bad",
            "at the last Execute: the signature of the boot validation",
        ],
        checks: &["length of the flash queue, layout of the banks, events of the SoftDevice"],
        bledfu: "tells a failed erase as 0A at Create; 05 is a bad type, or an init packet that cannot be decoded or is wrongly signed",
    },
    Entry {
        id: "S16",
        title: "the operation failed",
        causes: &[
            "nRF5 SDK 12 and 13: every check that failed, also version, SoftDevice and signature",
            "later: the settings page could not be written, or a flash operation failed",
            "of the buttonless service: the jump or the name was refused",
        ],
        checks: &["which request it answers", "the parameters of the package", "a newer SDK tells more"],
        bledfu: "0A means that the flash failed, at a second attempt, too",
    },
    Entry {
        id: "S17",
        title: "not permitted now",
        causes: &[
            "Execute of an object that is not complete, after dropped packets",
            "Execute on resuming, after a Create that was lost (nRF5 SDK 15 to 17)",
            "data without an init packet, or behind the end of the image",
        ],
        checks: &["a Checksum before the Execute", "Android-DFU-Library 1.11 or later", "start the device afresh"],
        bledfu: "resuming is clean; 08 means that the running image is not confirmed, an update waits, or the product refused",
    },
    Entry {
        id: "S18",
        title: "too large",
        causes: &[
            "the image is larger than the free bank; two banks need twice its size",
            "a merged hex file was packed",
            "an object larger than the device takes",
        ],
        checks: &["the size in the init packet against the bank", "pack the application alone"],
        bledfu: "answers the same 04",
    },
    Entry {
        id: "S19",
        title: "firmware version too low",
        causes: &[
            "the package has a lower firmware version than the one installed",
            "a bootloader of the same version again",
        ],
        checks: &["`--application-version` of nrfutil, `--fw-version` of bledfu", "`bledfu inspect PACKAGE` shows the version"],
        bledfu: "takes an equal version and refuses a lower one with the same 0B 05",
    },
    Entry {
        id: "S20",
        title: "for other hardware, or another SoftDevice",
        causes: &[
            "the hardware version of the package is not the device's",
            "its list of SoftDevices lacks the one that runs",
        ],
        checks: &["`bledfu inspect PACKAGE` shows both; compare with the device"],
        bledfu: "answers the same; how it treats the list of SoftDevices is an option",
    },
    Entry {
        id: "S21",
        title: "the init packet is incomplete",
        causes: &[
            "it is not signed",
            "type, size or SHA-256 is missing",
            "an unknown type of signature or hash",
        ],
        checks: &["make the package with a key, with nrfutil 6 or `bledfu package`"],
        bledfu: "answers the same",
    },
    Entry {
        id: "S22",
        title: "what is stored is not what was packed",
        causes: &[
            "the flash holds other bytes than arrived: a buffer used again too early, no erase, the wrong bank",
            "image and init packet of the package do not belong together",
            "a client that went on after dropped packets",
        ],
        checks: &[
            "read the bank back and compare",
            "`bledfu inspect PACKAGE` compares image and SHA-256",
        ],
        bledfu: "the hash is over what reads back from flash; the same code is also the answer to a wrong image key",
    },
    Entry {
        id: "S23",
        title: "the size of an object was refused",
        causes: &[
            "an old library creates the object with the lost bytes added",
            "the device tells another largest size than it takes",
        ],
        checks: &["Android-DFU-Library 1.5.1 or later", "tell one largest size, always"],
        bledfu: "has the same rule, and one largest size",
    },
    Entry {
        id: "S24",
        title: "the new advertising name was refused",
        causes: &["the device cannot change its name, or is reset by the attempt"],
        checks: &["switch the alternative advertising name off in the client", "answer 20 02 02"],
        bledfu: "has no buttonless characteristic",
    },
    Entry {
        id: "S25",
        title: "silence after a large MTU",
        causes: &[
            "a Bluetooth controller that fails with long packets",
            "the packet characteristic takes less than MTU minus 3",
            "more than 512 bytes in one write",
        ],
        checks: &["an MTU of 23 or 247", "the length of the packet characteristic"],
        bledfu: "takes every length up to 512 bytes",
    },
    Entry {
        id: "S26",
        title: "everything was sent, and the transfer does not end",
        causes: &[
            "the device forgets to close the link after its last answer",
            "it hashes, or writes its settings, for too long",
            "the answer was lost before the reset",
        ],
        checks: &["disconnect after the last answer", "hash while receiving"],
        bledfu: "hashes while it receives, answers, closes the link, and then resets",
    },
    Entry {
        id: "S27",
        title: "the update was received, and does not start",
        causes: &[
            "the settings page could not be written",
            "the image is not valid at the start: CRC, signature, address",
            "a watchdog resets the application",
        ],
        checks: &["RTT log of the next start: \"Boot validation failed\""],
        bledfu: "`bledfu_boot_report()` tells the application what the boot stage did and why",
    },
    Entry {
        id: "S28",
        title: "nrfutil got no answer",
        causes: &[
            "the wrong port, flow control, or the application runs instead of the bootloader",
            "an answer later than 1 s is taken for the next request's",
            "over Bluetooth: no connectivity board",
        ],
        checks: &["`-fc 0` and the right port", "erase in less than 1 s"],
        bledfu: "each answer comes within a second",
    },
];

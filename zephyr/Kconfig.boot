# SPDX-License-Identifier: Apache-2.0

menuconfig BLEDFU_BOOT
	bool "Boot stage (bledfu)"
	depends on !BLEDFU
	depends on FLASH
	depends on CPU_CORTEX_M
	select FLASH_MAP
	select FLASH_PAGE_LAYOUT
	select CRC
	select REBOOT
	help
	  For the application in boot/, not for products. It installs the update
	  that waits in slot 1, checks the image in slot 0 and starts it.

if BLEDFU_BOOT

config BLEDFU_BOOT_SIGNATURE
	bool "Require signed images"
	default y
	help
	  An image is installed and started only if it is signed with a key of
	  BLEDFU_IMAGE_KEY_FILE. Without this option a correct SHA-256 is enough.
	  That finds accidental damage, but anybody can make such an image.

config BLEDFU_BOOT_VALIDATE_PRIMARY
	bool "Check the image in slot 0 at every start" if BLEDFU_TRUST
	default y
	help
	  Check hash and signature at every start. Without this option, a start
	  that installs nothing looks only at the header and the TLV area, if
	  the trust area says that the image was checked completely after the
	  last write to slot 0. It is faster by the time to hash the image, but
	  later damage to slot 0 is not found.

choice BLEDFU_BOOT_DOWNGRADE
	prompt "Which update may replace the running image"
	default BLEDFU_BOOT_DOWNGRADE_VERSION if BLEDFU_TRUST
	default BLEDFU_BOOT_DOWNGRADE_ALLOWED
	help
	  Applies to updates. A revert to the previous image is always allowed.

config BLEDFU_BOOT_DOWNGRADE_ALLOWED
	bool "Any image"
	help
	  Older ones as well, if their signature is good.

config BLEDFU_BOOT_DOWNGRADE_VERSION
	bool "The same version or a later one"
	help
	  As MCUboot's BOOT_DOWNGRADE_PREVENTION. Compares major, minor and
	  revision; build numbers do not count. With a trust area, only the
	  image that ran before can come back, and nothing starts that is older
	  than the newest confirmed image. Without one, whoever can write the
	  external flash can make any signed image come back.

config BLEDFU_BOOT_DOWNGRADE_COUNTER
	bool "The same security counter or a higher one"
	help
	  As MCUboot's BOOT_DOWNGRADE_PREVENTION_SECURITY_COUNTER. The counter
	  comes from imgtool sign --security-counter. If the running image has
	  none, any update may replace it.

endchoice

config BLEDFU_BOOT_TRAILER_MCUBOOT_2_2
	bool "Write the trailer of MCUboot 2.2 (swap using offset)"
	depends on BLEDFU_INSTALL_SWAP_OFFSET
	help
	  MCUboot 2.3 added a field to this trailer. MCUboot 2.2 (Zephyr 4.1 and
	  4.2) cannot finish a swap that was begun with the newer trailer. Set
	  this only if MCUboot 2.2 may take over from this boot stage in the
	  middle of a swap. This boot stage finishes swaps that were begun with
	  either trailer.

config BLEDFU_BOOT_LOCK
	bool "Write-protect the boot stage and the trust area"
	default y
	depends on SOC_SERIES_NRF52X
	help
	  Before the application starts, until the next reset (ACL of the
	  nRF52833 and nRF52840). Nothing but the boot stage writes there,
	  and a faulty or hostile application cannot. No effect on parts
	  without an ACL.

config BLEDFU_BOOT_WATCHDOG_FEED
	bool "Feed a running watchdog"
	default y
	help
	  Feeds the watchdog with the devicetree alias watchdog0 between any two
	  flash operations. It is never started here. On nRF a watchdog keeps
	  running over a reset, with the reload registers that the application
	  enabled; all of those are fed.

endif # BLEDFU_BOOT

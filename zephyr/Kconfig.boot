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
	bool "Check the image in slot 0 at every start"
	default y
	help
	  Check hash and signature at every start. Without this option, a start
	  that installs nothing looks only at the header and the TLV area. It is
	  faster by the time to hash the image, but damage to slot 0 is not
	  found. It also opens an attack: whoever can rewrite the external flash
	  and cut the power during an install can start unsigned code.

choice BLEDFU_BOOT_DOWNGRADE
	prompt "Which update may replace the running image"
	default BLEDFU_BOOT_DOWNGRADE_ALLOWED
	help
	  Applies to updates only. A revert to the previous image is always
	  allowed.

config BLEDFU_BOOT_DOWNGRADE_ALLOWED
	bool "Any image"
	help
	  Older ones as well, if their signature is good.

config BLEDFU_BOOT_DOWNGRADE_VERSION
	bool "The same version or a later one"
	help
	  As MCUboot's BOOT_DOWNGRADE_PREVENTION. Compares major, minor and
	  revision; build numbers do not count.

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

config BLEDFU_BOOT_WATCHDOG_FEED
	bool "Feed a running watchdog"
	default y
	help
	  Feeds the watchdog with the devicetree alias watchdog0 between any two
	  flash operations. It is never started here. On nRF a watchdog keeps
	  running over a reset, with the reload registers that the application
	  enabled; all of those are fed.

endif # BLEDFU_BOOT

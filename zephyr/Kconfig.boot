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
	  For the application in boot/: installs what waits in slot 1, checks
	  the image in slot 0 and starts it.

if BLEDFU_BOOT

config BLEDFU_BOOT_SIGNATURE
	bool "Only signed images"
	default y
	help
	  An image is installed and started only with the signature of a key of
	  BLEDFU_IMAGE_KEY_FILE. Without this its SHA-256 is enough, which
	  protects from damage but from nobody.

config BLEDFU_BOOT_VALIDATE_PRIMARY
	bool "Check the image in slot 0 at every start" if BLEDFU_TRUST
	default y
	help
	  Hash and signature, every time. Without this, only the header is
	  looked at on starts that install nothing, and only if the trust
	  area says that the image was checked in full after the last write
	  to slot 0: a start is faster by the time it takes to hash the
	  image, and later damage to slot 0 goes unseen.

choice BLEDFU_BOOT_DOWNGRADE
	prompt "What may replace the running image"
	default BLEDFU_BOOT_DOWNGRADE_VERSION if BLEDFU_TRUST
	default BLEDFU_BOOT_DOWNGRADE_ALLOWED

config BLEDFU_BOOT_DOWNGRADE_ALLOWED
	bool "Any image"

config BLEDFU_BOOT_DOWNGRADE_VERSION
	bool "The same version or a later one"
	help
	  As in MCUboot's BOOT_DOWNGRADE_PREVENTION. The way back of an image
	  that does not confirm itself stays open. With a trust area only the
	  image that ran before can come back, and nothing starts that is
	  older than the newest image that was ever confirmed. Without one,
	  whoever writes the external flash can have any signed image come
	  back.

config BLEDFU_BOOT_DOWNGRADE_COUNTER
	bool "The same security counter or a higher one"
	help
	  As in MCUboot's BOOT_DOWNGRADE_PREVENTION_SECURITY_COUNTER
	  (imgtool sign --security-counter).

endchoice

config BLEDFU_BOOT_TRAILER_MCUBOOT_2_2
	bool "Trailer of swap using offset as MCUboot 2.2 has it"
	depends on BLEDFU_INSTALL_SWAP_OFFSET
	help
	  MCUboot 2.3 added a field to this trailer; 2.2 (Zephyr 4.1 and 4.2)
	  cannot finish a swap that was begun with it. Set this only if MCUboot
	  2.2 may take over from this boot stage in the middle of a swap. The
	  other way needs nothing: swaps begun with either trailer are finished.

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
	  The watchdog of the devicetree's alias watchdog0, between any two flash
	  operations. On nRF it goes on over a reset, with the reload registers
	  that the application enabled; all of those are fed. It is never
	  started here.

endif # BLEDFU_BOOT

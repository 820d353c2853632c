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
	# The symbol of this series has another name since 4.4.
	depends on SOC_SERIES = "nrf52"
	help
	  Before the application starts, until the next reset (ACL of the
	  nRF52833 and nRF52840). Nothing but the boot stage writes there,
	  and a faulty or hostile application cannot. No effect on parts
	  without an ACL.

config BLEDFU_BOOT_GUARD
	bool "Stack guard, and no code in RAM"
	default y if XIP
	depends on CPU_CORTEX_M_HAS_SPLIM || (CPU_HAS_ARM_MPU && ARMV7_M_ARMV8_M_MAINLINE)
	depends on !ARM_MPU
	help
	  While the boot stage works, an overflow of its stack and a jump into
	  RAM are faults: it stops, and a running watchdog resets. Cortex-M33
	  has a stack limit register, and gets the stack guard alone. Say n if
	  a flash driver runs from RAM (__ramfunc).

config BLEDFU_BOOT_WATCHDOG_FEED
	bool "Feed a running watchdog"
	default y
	help
	  Feeds the watchdog with the devicetree alias watchdog0 between any two
	  flash operations. It is never started here. On nRF a watchdog keeps
	  running over a reset, with the reload registers that the application
	  enabled; all of those are fed.

endif # BLEDFU_BOOT

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The smallest image a boot stage can start: it says its name and what the boot stage reported, and starts the boot stage
 * again. Not by a reset: at that, QEMU would load the simulated flash anew. Some confirm themselves, some take an update, one
 * wears out.
 */
#include <stddef.h>
#include <stdint.h>

#define UART   ((volatile uint32_t *)0x40004000) /* CMSDK: data, state, control, interrupts, divider */
#define VTOR   (*(volatile uint32_t *)0xe000ed08)
#define REPORT ((const volatile uint8_t *)(0x20400000 - 16)) /* boot/src/report.h */

static void put(char character)
{
	while ((UART[1] & 1) != 0) {
	}
	UART[0] = character;
}

static void say(const char *text)
{
	while (*text != '\0') {
		put(*text++);
	}
}

static void number(uint32_t value)
{
	char digits[10];
	int count = 0;

	do {
		digits[count++] = '0' + value % 10;
		value /= 10;
	} while (value != 0);
	while (count > 0) {
		put(digits[--count]);
	}
}

/* Bytes of the boot stage's stack that it never used: QEMU's RAM is zero at the start. */
static uint32_t unused_stack(void)
{
	const volatile uint8_t *stack = (const volatile uint8_t *)BOOT_STACK;
	uint32_t count = 0;

	while (count < BOOT_STACK_SIZE && stack[count] == 0) {
		count++;
	}
	return count;
}

#ifdef UPDATE_FROM
/* The next update arrives in PLACE, and is requested as an application does it. */
static void receive(void)
{
	static const uint8_t magic[] = {MAGIC};
	volatile uint32_t *place = (volatile uint32_t *)PLACE;
	const volatile uint32_t *update = (const volatile uint32_t *)UPDATE_FROM;

	for (size_t i = 0; i < PLACE_SIZE / 4; i++) {
		place[i] = i < UPDATE_SIZE / 4 ? update[i] : UINT32_MAX;
	}
	for (size_t i = 0; IS_REQUESTED && i < sizeof(magic); i++) {
		((volatile uint8_t *)PLACE)[PLACE_SIZE - sizeof(magic) + i] = magic[i];
	}
}
#endif

#ifdef DAMAGES_ITSELF
/* A cell of slot 0 that does not keep its value, from the second start on. RAM is zero at the start, and nobody else uses
 * this word.
 */
static void age(void)
{
	volatile uint32_t *starts = (volatile uint32_t *)0x20300000;
	extern uint32_t unused_word;

	*starts += 1;
	if (*starts > 1) {
		*(volatile uint32_t *)&unused_word ^= 1;
	}
}

__asm__(".section .text.unused_word,\"ax\"\n.balign 4\n.global unused_word\nunused_word: .word 0x5a5a5a5a\n.text");
#endif

__attribute__((noreturn)) void reset(void)
{
	UART[4] = 16;
	UART[2] = 1;
	say(NAME ": action ");
	number(REPORT[4]);
	say(" swap ");
	number(REPORT[5]);
	say(" reason ");
	number(REPORT[6]);
	say(" unused ");
	number(unused_stack());
	say("\n");
#ifdef CONFIRM_AT
	*(volatile uint8_t *)CONFIRM_AT = 1;
#endif
#ifdef UPDATE_FROM
	receive();
#endif
#ifdef DAMAGES_ITSELF
	age();
#endif
	VTOR = 0;
	__asm__ volatile("ldr r1, [%0]\n\t"
			 "ldr r2, [%0, #4]\n\t"
			 "msr msp, r1\n\t"
			 "bx r2"
			 :
			 : "r"(0 /* where the boot stage has its vectors */));
	__builtin_unreachable();
}

__attribute__((section(".vectors"), used)) static const struct {
	uint32_t stack;
	void (*entry)(void);
} vectors = {0x20300000, reset};

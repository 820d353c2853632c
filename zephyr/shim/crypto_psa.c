/* SPDX-License-Identifier: Apache-2.0 */
/* P-256 by the PSA Crypto implementation that the product links anyway: in software, or a driver of the chip's hardware. */
#include <string.h>
#include <psa/crypto.h>

#include "bledfu_shim.h"

#define HALF  32
#define P256_BITS 256
#define UNCOMPRESSED 0x04
#define ALGORITHM PSA_ALG_ECDSA(PSA_ALG_SHA_256)

int32_t bledfu_shim_verify(const uint8_t *key, const uint8_t *digest, const uint8_t *signature)
{
	psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
	uint8_t point[1 + 2 * HALF] = {UNCOMPRESSED};
	psa_key_id_t id = PSA_KEY_ID_NULL;
	psa_status_t status = psa_crypto_init();

	if (status != PSA_SUCCESS) {
		return BLEDFU_SHIM_UNAVAILABLE;
	}
	memcpy(point + 1, key, 2 * HALF);
	psa_set_key_type(&attributes, PSA_KEY_TYPE_ECC_PUBLIC_KEY(PSA_ECC_FAMILY_SECP_R1));
	psa_set_key_bits(&attributes, P256_BITS);
	psa_set_key_algorithm(&attributes, ALGORITHM);
	psa_set_key_usage_flags(&attributes, PSA_KEY_USAGE_VERIFY_HASH);
	status = psa_import_key(&attributes, point, sizeof(point), &id);
	if (status == PSA_SUCCESS) {
		status = psa_verify_hash(id, ALGORITHM, digest, HALF, signature, 2 * HALF);
		(void)psa_destroy_key(id);
	}
	if (status == PSA_SUCCESS) {
		return BLEDFU_SHIM_GOOD;
	}
	/* The second one is a key that is not a point of the curve. */
	if (status == PSA_ERROR_INVALID_SIGNATURE || status == PSA_ERROR_INVALID_ARGUMENT) {
		return BLEDFU_SHIM_BAD;
	}
	return BLEDFU_SHIM_UNAVAILABLE;
}

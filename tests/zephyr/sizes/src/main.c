/* SPDX-License-Identifier: Apache-2.0 */
/* A product that advertises. With CONFIG_SIZES_VERIFIES it also verifies a signature, of nothing. */
#include <zephyr/bluetooth/bluetooth.h>
#include <zephyr/bluetooth/uuid.h>
#include <zephyr/kernel.h>
#include <zephyr/logging/log.h>

LOG_MODULE_REGISTER(sizes, LOG_LEVEL_INF);

#ifdef CONFIG_SIZES_VERIFIES
#include <psa/crypto.h>

static bool verifies(void)
{
	static const uint8_t point[65] = {4};
	static const uint8_t text[1], signature[64];
	uint8_t digest[32];
	size_t length;
	psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
	psa_hash_operation_t hash = PSA_HASH_OPERATION_INIT;
	psa_key_id_t key;

	psa_set_key_type(&attributes, PSA_KEY_TYPE_ECC_PUBLIC_KEY(PSA_ECC_FAMILY_SECP_R1));
	psa_set_key_usage_flags(&attributes, PSA_KEY_USAGE_VERIFY_HASH);
	psa_set_key_algorithm(&attributes, PSA_ALG_ECDSA(PSA_ALG_SHA_256));
	return psa_crypto_init() == PSA_SUCCESS && psa_hash_setup(&hash, PSA_ALG_SHA_256) == PSA_SUCCESS &&
	       psa_hash_update(&hash, text, sizeof(text)) == PSA_SUCCESS &&
	       psa_hash_finish(&hash, digest, sizeof(digest), &length) == PSA_SUCCESS &&
	       psa_import_key(&attributes, point, sizeof(point), &key) == PSA_SUCCESS &&
	       psa_verify_hash(key, PSA_ALG_ECDSA(PSA_ALG_SHA_256), digest, length, signature, sizeof(signature)) ==
		       PSA_SUCCESS;
}
#else
static bool verifies(void)
{
	return false;
}
#endif

static const struct bt_data data[] = {
	BT_DATA_BYTES(BT_DATA_FLAGS, BT_LE_AD_GENERAL | BT_LE_AD_NO_BREDR),
	BT_DATA_BYTES(BT_DATA_UUID16_ALL, BT_UUID_16_ENCODE(0xFE59)),
};

int main(void)
{
	int err = bt_enable(NULL);

	if (err == 0) {
		err = bt_le_adv_start(BT_LE_ADV_CONN_FAST_1, data, ARRAY_SIZE(data), NULL, 0);
	}
	LOG_INF("advertising: %d, verified: %d", err, verifies());
	return 0;
}

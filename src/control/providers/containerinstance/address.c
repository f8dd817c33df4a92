/*
 * Which addresses of a pool are free. What counts is the claim in the store; this is a bitmap
 * beside it that makes the first guess a good one. It is seeded from the store, moves on through
 * the pool so that a released address rests before it is used again, and is seeded anew when it
 * believes that the pool is used up.
 */
#include <arpa/inet.h>
#include <pthread.h>

#include "control/providers/containerinstance/internal.h"

#define POOLS_MAX 8

struct pool_map {
	struct store *store;
	char cidr[32];
	uint32_t base, size; /* host order; size of the whole prefix */
	uint32_t cursor;
	uint8_t *taken; /* a bit for each address */
};

static struct pool_map pools[POOLS_MAX];
static pthread_mutex_t pools_lock = PTHREAD_MUTEX_INITIALIZER;

static bool bit_get(const struct pool_map *pool, uint32_t i)
{
	return pool->taken[i / 8] & (1u << (i % 8));
}

static void bit_set(struct pool_map *pool, uint32_t i)
{
	pool->taken[i / 8] |= (uint8_t)(1u << (i % 8));
}

static int cidr_parse(const char *cidr, uint32_t *ret_base, uint32_t *ret_size)
{
	char text[ADDRESS_MAX];
	const char *slash = strchr(cidr, '/');
	struct in_addr address;
	uint64_t bits;

	if (!slash || (size_t)(slash - cidr) >= sizeof(text))
		return -EINVAL;
	memcpy(text, cidr, (size_t)(slash - cidr));
	text[slash - cidr] = '\0';
	if (inet_pton(AF_INET, text, &address) != 1 || str_to_u64(slash + 1, 30, &bits) < 0 ||
		bits < 8)
		return -EINVAL;
	*ret_size = 1u << (32 - bits);
	*ret_base = ntohl(address.s_addr) & ~(*ret_size - 1);
	return 0;
}

/* The network's address, the first one (the bridge has it) and the broadcast address belong to no
 * group. */
static void pool_reserve(struct pool_map *pool)
{
	memset(pool->taken, 0, pool->size / 8 + 1);
	bit_set(pool, 0);
	bit_set(pool, 1);
	bit_set(pool, pool->size - 1);
}

static int pool_seed(struct pool_map *pool, struct err *err)
{
	_cleanup_(store_list_done) struct store_list list = {0};
	int r;

	r = store_list(pool->store, "ip/", NULL, 0, err, &list);
	if (r < 0)
		return r;
	pool_reserve(pool);
	for (size_t i = 0; i < list.n; i++) {
		struct in_addr address;

		if (inet_pton(AF_INET, list.entries[i].key + strlen("ip/"), &address) != 1)
			continue;
		if (ntohl(address.s_addr) - pool->base < pool->size)
			bit_set(pool, ntohl(address.s_addr) - pool->base);
	}
	return 0;
}

static int pool_get(struct store *store, const char *cidr, struct err *err, struct pool_map **ret)
{
	struct pool_map *pool = NULL;
	int r;

	for (size_t i = 0; i < POOLS_MAX && !pool; i++)
		if (!pools[i].store || (pools[i].store == store && str_eq(pools[i].cidr, cidr)))
			pool = &pools[i];
	assert(pool);
	if (!pool->store) {
		if (str_copy(pool->cidr, sizeof(pool->cidr), cidr) < 0 ||
			cidr_parse(cidr, &pool->base, &pool->size) < 0)
			return err_set(
				err, -EINVAL, "InternalError", "'%s' isn't an address pool", cidr);
		pool->taken = xcalloc(pool->size / 8 + 1, 1);
		pool->store = store;
		r = pool_seed(pool, err);
		if (r < 0) {
			free(pool->taken);
			*pool = (struct pool_map){0};
			return r;
		}
	}
	*ret = pool;
	return 0;
}

/* 0 and a free address after the cursor, which is marked; -ENOSPC. */
static int pool_next(struct pool_map *pool, uint32_t *ret)
{
	for (uint32_t n = 0; n < pool->size; n++) {
		uint32_t i = (pool->cursor + n) & (pool->size - 1);

		/* Whole bytes at once where the pool is full. */
		if (i % 8 == 0 && pool->taken[i / 8] == 0xff && n + 8 <= pool->size) {
			n += 7;
			continue;
		}
		if (bit_get(pool, i))
			continue;
		bit_set(pool, i);
		pool->cursor = (i + 1) & (pool->size - 1);
		*ret = pool->base + i;
		return 0;
	}
	return -ENOSPC;
}

int address_pick(struct store *store, const char *cidr, struct err *err, char ret[ADDRESS_MAX])
{
	struct pool_map *pool = NULL;
	struct in_addr address;
	uint32_t number = 0;
	int r;

	pthread_mutex_lock(&pools_lock);
	r = pool_get(store, cidr, err, &pool);
	if (r == 0) {
		r = pool_next(pool, &number);
		if (r == -ENOSPC) {
			r = pool_seed(pool, err);
			if (r == 0 && pool_next(pool, &number) < 0)
				r = err_set(err, -ENOSPC, "AddressesExhausted",
					"All addresses of the pool '%s' are in use. Delete container groups that are no "
					"longer needed.",
					cidr);
		}
	}
	pthread_mutex_unlock(&pools_lock);
	if (r < 0)
		return r;
	address.s_addr = htonl(number);
	inet_ntop(AF_INET, &address, ret, ADDRESS_MAX);
	return 0;
}

void address_forget(void)
{
	pthread_mutex_lock(&pools_lock);
	for (size_t i = 0; i < POOLS_MAX; i++)
		free(pools[i].taken);
	memset(pools, 0, sizeof(pools));
	pthread_mutex_unlock(&pools_lock);
}

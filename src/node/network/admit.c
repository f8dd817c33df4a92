#include <stdio.h>

#include "base/proc.h"
#include "node/network/admit.h"

#define NFT_PROGRAM "/usr/sbin/nft"
#define TIMEOUT_MS 10000
#define LIST_MAX ((size_t)4 << 20)

static const struct {
	const char *name;
	const char *matches[2];
} chains[] = {{"FORWARD", {"iifname", "oifname"}}, {"INPUT", {"iifname"}}};

/* The chain's rules with their handles, NULL when there is none. */
static int list_chain(const char *chain, char **ret, struct err *err)
{
	const char *const argv[] = {
		NFT_PROGRAM, "-a", "list", "chain", "ip", "filter", chain, NULL};
	_cleanup_free_ char *text = NULL;
	int r = proc_run(argv, TIMEOUT_MS, LIST_MAX, &text, err);

	if (r < 0)
		return r;
	*ret = r == 0 ? take_ptr(text) : NULL;
	return 0;
}

static void mark(const char *instance, char ret[32])
{
	snprintf(ret, 32, "\"berth_%s\"", instance);
}

static int insert(const char *chain, const char *match, const char *instance, const char *bridge,
	struct err *err)
{
	char comment[32];
	const char *const argv[] = {NFT_PROGRAM, "insert", "rule", "ip", "filter", chain, match,
		bridge, "counter", "accept", "comment", comment, NULL};
	_cleanup_free_ char *said = NULL;
	int r;

	mark(instance, comment);
	r = proc_run(argv, TIMEOUT_MS, 512, &said, err);
	if (r > 0)
		return err_set(err, -EIO, "InternalError", "nft insert in %s: %s", chain, said);
	return r;
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

/* Every line with the mark ends in "# handle N". */
static int remove_marked(const char *chain, char *text, const char *comment, struct err *err)
{
	char *line;

	while ((line = strsep(&text, "\n"))) {
		char *handle = strstr(line, comment) ? strstr(line, "# handle ") : NULL;
		const char *argv[] = {
			NFT_PROGRAM, "delete", "rule", "ip", "filter", chain, "handle", NULL, NULL};
		uint64_t number;
		int r;

		if (!handle || str_to_u64(handle + 9, UINT64_MAX, &number) < 0)
			continue;
		argv[7] = handle + 9;
		r = proc_run(argv, TIMEOUT_MS, 512, NULL, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int admit_chain(size_t i, const char *instance, const char *bridge, struct err *err)
{
	size_t n = chains[i].matches[1] ? 2 : 1;
	_cleanup_free_ char *text = NULL;
	char comment[32];
	int r = list_chain(chains[i].name, &text, err);

	mark(instance, comment);
	if (r < 0 || !text || count(text, comment) == n)
		return r;
	r = remove_marked(chains[i].name, text, comment, err);
	for (size_t m = 0; r == 0 && m < n; m++)
		r = insert(chains[i].name, chains[i].matches[m], instance, bridge, err);
	return r;
}

int admit_open(const char *instance, const char *bridge, struct err *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(chains); i++)
		r = admit_chain(i, instance, bridge, err);
	return r;
}

int admit_close(const char *instance, struct err *err)
{
	char comment[32];
	int r = 0;

	mark(instance, comment);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(chains); i++) {
		_cleanup_free_ char *text = NULL;

		r = list_chain(chains[i].name, &text, err);
		if (r == 0 && text)
			r = remove_marked(chains[i].name, text, comment, err);
	}
	return r;
}

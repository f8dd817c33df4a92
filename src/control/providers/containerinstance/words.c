#include "control/providers/containerinstance/words.h"

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Behind the opening quote; returns the position behind the closing one, NULL when there is none.
 */
static const char *single_quoted(const char *at, struct buf *word)
{
	const char *end = strchr(at, '\'');

	if (!end)
		return NULL;
	buf_add(word, at, (size_t)(end - at));
	return end + 1;
}

static const char *double_quoted(const char *at, struct buf *word)
{
	for (; *at && *at != '"'; at++) {
		/* 2.2.3: a backslash is one unless it stands before one of these. */
		if (*at == '\\' && at[1] == '\n') {
			at++;
			continue;
		}
		if (*at == '\\' && at[1] && strchr("$`\"\\", at[1]))
			at++;
		buf_addc(word, *at);
	}
	return *at ? at + 1 : NULL;
}

/* Reads one word; returns the position behind it, NULL when a quote isn't closed. */
static const char *read_word(const char *at, struct buf *word)
{
	while (at && *at && !is_blank(*at)) {
		if (*at == '\'') {
			at = single_quoted(at + 1, word);
		} else if (*at == '"') {
			at = double_quoted(at + 1, word);
		} else if (*at == '\\') {
			/* One at the very end stands for nothing: there is no next line. */
			if (at[1] && at[1] != '\n')
				buf_addc(word, at[1]);
			at += at[1] ? 2 : 1;
		} else {
			buf_addc(word, *at++);
		}
	}
	return at;
}

/* Blanks, and line breaks that a backslash takes away. */
static const char *skip_blanks(const char *at)
{
	while (is_blank(*at) || (at[0] == '\\' && at[1] == '\n'))
		at += *at == '\\' ? 2 : 1;
	return at;
}

int words_split(const char *text, struct err *err, json_t **ret)
{
	_cleanup_json_ json_t *words = json_array();
	_cleanup_buf_ struct buf word = BUF_MAX(WORDS_TEXT_MAX);

	if (strlen(text) > WORDS_TEXT_MAX)
		return err_set(err, -EINVAL, "InvalidCommand",
			"The command is longer than %zu bytes.", WORDS_TEXT_MAX);
	for (const char *at = skip_blanks(text); *at; at = skip_blanks(at)) {
		if (json_array_size(words) == WORDS_MAX)
			return err_set(err, -EINVAL, "InvalidCommand",
				"The command has more than %d words.", WORDS_MAX);
		buf_clear(&word);
		at = read_word(at, &word);
		if (!at)
			return err_set(err, -EINVAL, "InvalidCommand",
				"A quote in the command isn't closed. Words are quoted as in a POSIX shell.");
		json_array_append_new(words, json_string(buf_str(&word)));
	}
	if (json_array_size(words) == 0)
		return err_set(err, -EINVAL, "InvalidCommand", "The command is empty.");
	*ret = take_ptr(words);
	return 0;
}

#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <regex.h>
#include <stdatomic.h>

#include "base/json.h"
#include "control/arm/schema.h"

#define GENERIC_CODE "InvalidRequestContent"
#define PROPERTIES_MAX 64

/* Where the walk is. Frames live on the stack and become a path only when there is an error. */
struct frame {
	const struct frame *parent;
	const char *name; /* NULL: an element */
	size_t index;
};

struct walk {
	const struct schema_context *context;
	const char *container; /* name of the container that the walk is in; "" outside */
	bool secret;	       /* the value at hand is one that no message may quote */
	struct err *err;
};

/* --- regular expressions, compiled at first use and kept --- */

struct pattern {
	struct pattern *next;
	const char *text;
	regex_t regex;
};

static _Atomic(struct pattern *) patterns;
static pthread_mutex_t patterns_lock = PTHREAD_MUTEX_INITIALIZER;

static struct pattern *pattern_find(const char *text)
{
	struct pattern *p = atomic_load_explicit(&patterns, memory_order_acquire);

	while (p && p->text != text)
		p = p->next;
	return p;
}

static struct pattern *pattern_get(const char *text)
{
	struct pattern *p = pattern_find(text);
	_cleanup_free_ char *whole = NULL;
	int r;

	if (p)
		return p;
	pthread_mutex_lock(&patterns_lock);
	p = pattern_find(text);
	if (!p) {
		p = xnew(struct pattern);
		p->text = text;
		whole = xasprintf("^(%s)$", text);
		r = regcomp(&p->regex, whole, REG_EXTENDED | REG_NOSUB);
		assert(r == 0); /* the tables are ours */
		p->next = atomic_load_explicit(&patterns, memory_order_relaxed);
		atomic_store_explicit(&patterns, p, memory_order_release);
	}
	pthread_mutex_unlock(&patterns_lock);
	return p;
}

bool schema_matches(const char *pattern, const char *text)
{
	return regexec(&pattern_get(pattern)->regex, text, 0, NULL, 0) == 0;
}

/* --- api-versions --- */

/* Versions are dates; a preview and the stable version of one day count as equal. */
bool schema_version_has(const char *since, const char *last, const char *api_version)
{
	if (!api_version)
		return true;
	return (!since || strncmp(api_version, since, 10) >= 0) &&
	       (!last || strncmp(api_version, last, 10) <= 0);
}

/* --- errors --- */

static void path_write(struct buf *buf, const struct frame *frame)
{
	if (!frame)
		return;
	path_write(buf, frame->parent);
	if (frame->name)
		buf_printf(buf, "%s%s", buf->len ? "." : "", frame->name);
	else
		buf_printf(buf, "[%zu]", frame->index);
}

/* A value as a message quotes it, never long. */
static char *value_words(const struct walk *walk, const json_t *value)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_free_ char *cut = NULL;

	if (walk->secret)
		return xstrdup("<secret>");
	if (json_is_string(value))
		text = xstrdup(json_string_value(value));
	else
		text = value ? json_text(value) : xstrdup("<null>");
	if (strlen(text) <= 200)
		return take_ptr(text);
	text[200] = '\0';
	cut = str_utf8_clean(text, 200);
	return xasprintf("%s…", cut);
}

static void template_write(
	struct buf *buf, const char *template, const struct walk *walk, const char *value)
{
	const char *at = template;

	while (*at) {
		if (str_starts(at, "{value}")) {
			buf_adds(buf, value);
			at += strlen("{value}");
		} else if (str_starts(at, "{container}")) {
			buf_adds(buf, walk->container);
			at += strlen("{container}");
		} else if (str_starts(at, "{group}")) {
			buf_adds(buf, walk->context->group_name ? walk->context->group_name : "");
			at += strlen("{group}");
		} else {
			buf_addc(buf, *at++);
		}
	}
}

static int __attribute__((format(printf, 4, 5)))
fail(struct walk *walk, const struct frame *frame, const char *code, const char *fmt, ...)
{
	_cleanup_buf_ struct buf path = BUF_INIT;
	va_list ap;

	path_write(&path, frame);
	va_start(ap, fmt);
	err_setv(walk->err, -EINVAL, code, fmt, ap);
	va_end(ap);
	err_target(walk->err, "%s", buf_str(&path));
	return -EINVAL;
}

static char *path_words(const struct frame *frame)
{
	struct buf path = BUF_INIT;

	path_write(&path, frame);
	return buf_take(&path);
}

/* A value that the property's own rules refuse: Azure's words if the table has them, else `words`.
 */
static int fail_value(struct walk *walk, const struct frame *frame,
	const struct schema_property *property, const json_t *value, const char *words)
{
	const char *code = property->code ? property->code : GENERIC_CODE;
	_cleanup_free_ char *quoted = value_words(walk, value);
	_cleanup_free_ char *path = NULL;
	_cleanup_buf_ struct buf message = BUF_INIT;

	if (property->message) {
		template_write(&message, property->message, walk, quoted);
		return fail(walk, frame, code, "%s", buf_str(&message));
	}
	path = path_words(frame);
	return fail(walk, frame, code, "The value '%s' of '%s' is invalid. It must be %s.", quoted,
		path, words);
}

static char *list_words(const char *const *values)
{
	struct buf buf = BUF_INIT;

	for (size_t i = 0; values[i]; i++)
		buf_printf(&buf, "%s%s", i ? "," : "", values[i]);
	return buf_take(&buf);
}

static int fail_unsupported(struct walk *walk, const struct frame *frame,
	const struct schema_property *property, const json_t *value)
{
	_cleanup_free_ char *path = path_words(frame);
	_cleanup_free_ char *quoted = NULL;
	_cleanup_free_ char *allowed = NULL;
	const char *instead = property->instead ? property->instead : "";
	const char *gap = property->instead ? " " : "";

	if (!property->supported)
		return fail(walk, frame, "PropertyNotSupported",
			"The property '%s' is not supported by this version of Berth.%s%s", path,
			gap, property->instead ? instead : " Leave it out.");
	quoted = value_words(walk, value);
	allowed = list_words(property->supported);
	return fail(walk, frame, "PropertyNotSupported",
		"The value '%s' of '%s' is not supported by this version of Berth. It must be one of "
		"'%s'.%s%s",
		quoted, path, allowed, gap, instead);
}

static int fail_misplaced(
	struct walk *walk, const struct frame *frame, const struct schema_property *property)
{
	_cleanup_free_ char *path = path_words(frame);

	return fail(walk, frame, GENERIC_CODE, "The property '%s' does not exist. %s", path,
		property->instead);
}

static int fail_version(struct walk *walk, const struct frame *frame,
	const struct schema_property *property, const json_t *value)
{
	const char *version = walk->context->api_version;
	_cleanup_free_ char *path = NULL;

	if (property->message && (property->flags & SCHEMA_UNSUPPORTED))
		return fail_value(walk, frame, property, value, "");
	path = path_words(frame);
	if (!schema_version_has(property->since, NULL, version))
		return fail(walk, frame, GENERIC_CODE,
			"The property '%s' does not exist in api-version '%s'. It came with "
			"api-version '%s'.",
			path, version, property->since);
	return fail(walk, frame, GENERIC_CODE,
		"The property '%s' does not exist in api-version '%s'. The last api-version that has it "
		"is '%s'.",
		path, version, property->last);
}

/* --- values --- */

static const char *type_words(enum schema_type type)
{
	switch (type) {
	case SCHEMA_STRING:
		return "a string";
	case SCHEMA_INT:
		return "a whole number";
	case SCHEMA_NUMBER:
		return "a number";
	case SCHEMA_BOOL:
		return "true or false";
	case SCHEMA_OBJECT:
		return "an object";
	case SCHEMA_ARRAY:
		return "an array";
	case SCHEMA_MAP:
		return "an object of strings";
	case SCHEMA_ANY:
		break;
	}
	return "a value";
}

/* "1.5" as a finite number, the whole string, JSON's own syntax. */
static bool number_of_string(const char *text, double *ret)
{
	_cleanup_json_ json_t *value = NULL;

	if (strlen(text) > 32)
		return false;
	value = json_loads(text, JSON_DECODE_ANY, NULL);
	if (!json_is_number(value))
		return false;
	*ret = json_number_value(value);
	return isfinite(*ret);
}

/* Converts a scalar as Azure's parser does: NULL when it isn't one of that type. New reference. */
static json_t *scalar_convert(enum schema_type type, json_t *value)
{
	double number = 0;

	switch (type) {
	case SCHEMA_STRING:
		if (json_is_string(value))
			return json_incref(value);
		if (json_is_number(value) || json_is_boolean(value)) {
			_cleanup_free_ char *text = json_text(value);

			return json_string(text);
		}
		return NULL;
	case SCHEMA_INT:
		if (json_is_integer(value))
			return json_incref(value);
		__attribute__((fallthrough));
	case SCHEMA_NUMBER:
		if (json_is_number(value))
			number = json_number_value(value);
		else if (!json_is_string(value) ||
			 !number_of_string(json_string_value(value), &number))
			return NULL;
		if (type == SCHEMA_NUMBER)
			return json_real(number);
		if (number != trunc(number) || fabs(number) > 9e15)
			return NULL;
		return json_integer((json_int_t)number);
	case SCHEMA_BOOL:
		if (json_is_boolean(value))
			return json_incref(value);
		if (json_is_string(value) && str_eq_nocase(json_string_value(value), "true"))
			return json_true();
		if (json_is_string(value) && str_eq_nocase(json_string_value(value), "false"))
			return json_false();
		return NULL;
	case SCHEMA_OBJECT:
	case SCHEMA_ARRAY:
	case SCHEMA_MAP:
	case SCHEMA_ANY:
		break;
	}
	return json_incref(value);
}

static int fail_type(
	struct walk *walk, const struct frame *frame, enum schema_type type, const json_t *value)
{
	_cleanup_free_ char *path = path_words(frame);
	_cleanup_free_ char *quoted = value_words(walk, value);

	return fail(walk, frame, GENERIC_CODE, "The value '%s' of '%s' is invalid. It must be %s.",
		quoted, path, type_words(type));
}

/* min and max of a property over the number, the length or the count. */
static int check_bounds(struct walk *walk, const struct frame *frame,
	const struct schema_property *property, const json_t *value)
{
	const char *what = "";
	char words[96];
	double measure;

	if (property->max == 0 && property->min == 0)
		return 0;
	if (json_is_string(value)) {
		measure = (double)json_string_length(value);
		what = " characters long";
	} else if (json_is_array(value)) {
		measure = (double)json_array_size(value);
		what = " elements long";
	} else if (json_is_object(value)) {
		measure = (double)json_object_size(value);
		what = " members large";
	} else {
		measure = json_number_value(value);
	}
	if (measure >= property->min && (property->max == 0 || measure <= property->max))
		return 0;
	if (property->max == 0)
		snprintf(words, sizeof(words), "at least %.15g%s", property->min, what);
	else
		snprintf(words, sizeof(words), "between %.15g and %.15g%s", property->min,
			property->max, what);
	return fail_value(walk, frame, property, value, words);
}

static const char *enum_canonical(const char *const *values, const char *text)
{
	for (size_t i = 0; values[i]; i++)
		if (str_eq_nocase(values[i], text))
			return values[i];
	return NULL;
}

static int check_string(struct walk *walk, const struct frame *frame,
	const struct schema_property *property, json_t **value)
{
	const char *text = json_string_value(*value);
	const char *canonical;

	if (property->values) {
		canonical = enum_canonical(property->values, text);
		if (!canonical) {
			_cleanup_free_ char *allowed = list_words(property->values);
			_cleanup_free_ char *words = xasprintf("one of '%s'", allowed);

			return fail_value(walk, frame, property, *value, words);
		}
		if (property->supported && !enum_canonical(property->supported, text))
			return fail_unsupported(walk, frame, property, *value);
		if (!str_eq(canonical, text)) {
			json_decref(*value);
			*value = json_string(canonical);
		}
		return 0;
	}
	if (property->pattern && !schema_matches(property->pattern, text)) {
		_cleanup_free_ char *words =
			xasprintf("text that matches the regex '%s'", property->pattern);

		return fail_value(walk, frame, property, *value, words);
	}
	return 0;
}

static int check_map(struct walk *walk, const struct frame *frame, json_t **value)
{
	json_t *strings = json_object();
	const char *key;
	json_t *member;

	json_object_foreach (*value, key, member) {
		struct frame at = {.parent = frame, .name = key};
		json_t *string;

		if (json_is_null(member))
			continue;
		string = scalar_convert(SCHEMA_STRING, member);
		if (!string) {
			json_decref(strings);
			return fail_type(walk, &at, SCHEMA_STRING, member);
		}
		json_object_set_new(strings, key, string);
	}
	json_decref(*value);
	*value = strings;
	return 0;
}

static int object_validate(struct walk *walk, const struct frame *frame,
	const struct schema_object *object, json_t *document);

static int check_array(struct walk *walk, const struct frame *frame,
	const struct schema_property *property, json_t *array)
{
	for (size_t i = 0; i < json_array_size(array); i++) {
		struct frame at = {.parent = frame, .index = i};
		json_t *element = json_array_get(array, i);
		json_t *scalar;
		int r;

		if (property->object) {
			if (!json_is_object(element))
				return fail_type(walk, &at, SCHEMA_OBJECT, element);
			r = object_validate(walk, &at, property->object, element);
			if (r < 0)
				return r;
			continue;
		}
		scalar = scalar_convert(property->items, element);
		if (!scalar)
			return fail_type(walk, &at, property->items, element);
		json_array_set_new(array, i, scalar);
	}
	return 0;
}

static bool type_matches(enum schema_type type, const json_t *value)
{
	switch (type) {
	case SCHEMA_OBJECT:
	case SCHEMA_MAP:
		return json_is_object(value);
	case SCHEMA_ARRAY:
		return json_is_array(value);
	case SCHEMA_STRING:
	case SCHEMA_INT:
	case SCHEMA_NUMBER:
	case SCHEMA_BOOL:
	case SCHEMA_ANY:
		break;
	}
	return true;
}

/* One value that is there. *value is owned and may be replaced. */
static int value_validate(struct walk *walk, const struct frame *frame,
	const struct schema_property *property, json_t **value)
{
	json_t *converted;
	int r;

	converted = type_matches(property->type, *value) ? scalar_convert(property->type, *value)
							 : NULL;
	if (!converted)
		return fail_type(walk, frame, property->type, *value);
	json_decref(*value);
	*value = converted;
	r = check_bounds(walk, frame, property, *value);
	if (r < 0)
		return r;
	switch (property->type) {
	case SCHEMA_STRING:
		return check_string(walk, frame, property, value);
	case SCHEMA_OBJECT:
		return object_validate(walk, frame, property->object, *value);
	case SCHEMA_ARRAY:
		return check_array(walk, frame, property, *value);
	case SCHEMA_MAP:
		return check_map(walk, frame, value);
	case SCHEMA_INT:
	case SCHEMA_NUMBER:
	case SCHEMA_BOOL:
	case SCHEMA_ANY:
		break;
	}
	return 0;
}

static bool is_empty(const json_t *value)
{
	return (json_is_array(value) && json_array_size(value) == 0) ||
	       (json_is_object(value) && json_object_size(value) == 0);
}

/* One property of an object, there (*value) or absent (NULL). What stays is in *value afterwards.
 */
static int property_validate(struct walk *walk, const struct frame *parent,
	const struct schema_property *property, json_t **value)
{
	struct frame frame = {.parent = parent, .name = property->name};
	bool exists =
		schema_version_has(property->since, property->last, walk->context->api_version);
	bool drop =
		*value && ((property->flags & SCHEMA_READ_ONLY) ||
				  ((property->flags & (SCHEMA_UNSUPPORTED | SCHEMA_MISPLACED)) &&
					  is_empty(*value)));

	walk->secret = property->flags & (SCHEMA_SECRET | SCHEMA_SECRET_MAP | SCHEMA_URL);
	if (drop) {
		json_decref(*value);
		*value = NULL;
	}
	if (!*value) {
		/* Defaults don't depend on the api-version of whoever wrote: others will read. */
		if (property->fallback)
			*value = json_loads(property->fallback, JSON_DECODE_ANY, NULL);
		else if (exists && (property->flags & SCHEMA_REQUIRED))
			return fail(walk, &frame, GENERIC_CODE,
				"The request content was invalid: the required property '%s' is "
				"missing.",
				property->name);
		return 0;
	}
	if (!exists)
		return fail_version(walk, &frame, property, *value);
	if (property->flags & SCHEMA_MISPLACED)
		return fail_misplaced(walk, &frame, property);
	if (property->flags & SCHEMA_UNSUPPORTED)
		return fail_unsupported(walk, &frame, property, *value);
	return value_validate(walk, &frame, property, value);
}

static size_t property_find(const struct schema_object *object, const char *name)
{
	char first = (char)(name[0] | 0x20);

	for (size_t i = 0; i < object->n; i++)
		if ((object->properties[i].name[0] | 0x20) == first &&
			str_eq_nocase(object->properties[i].name, name))
			return i;
	return SIZE_MAX;
}

/* Sorts the members of a document into the table's slots; slots own what they hold. */
static int members_take(struct walk *walk, const struct frame *frame,
	const struct schema_object *object, json_t *document, json_t **slots)
{
	const char *key;
	json_t *member;

	json_object_foreach (document, key, member) {
		struct frame at = {.parent = frame, .name = key};
		size_t i = property_find(object, key);

		if (i == SIZE_MAX)
			return fail(walk, &at, GENERIC_CODE,
				"The request content was invalid: could not find member '%s' on "
				"object of type '%s'.",
				key, object->name);
		if (slots[i])
			return fail(walk, &at, GENERIC_CODE,
				"The request content was invalid: the property '%s' is there "
				"twice, in different case.",
				object->properties[i].name);
		if (!json_is_null(member))
			slots[i] = json_incref(member);
	}
	return 0;
}

static int object_validate(struct walk *walk, const struct frame *frame,
	const struct schema_object *object, json_t *document)
{
	json_t *slots[PROPERTIES_MAX] = {0};
	const char *outer = walk->container;
	int r;

	assert(object->n <= PROPERTIES_MAX);
	r = members_take(walk, frame, object, document, slots);
	if (r == 0)
		json_object_clear(document);
	for (size_t i = 0; i < object->n; i++) {
		if (r == 0)
			r = property_validate(walk, frame, &object->properties[i], &slots[i]);
		if (!slots[i])
			continue;
		/* Kept in the document even after a failure, so that one place frees it. */
		json_object_set_new(document, object->properties[i].name, slots[i]);
		if (object->is_container && str_eq(object->properties[i].name, "name") &&
			json_is_string(slots[i]))
			walk->container = json_string_value(slots[i]);
	}
	walk->container = outer;
	walk->secret = false; /* no object is one value that is secret */
	return r;
}

int schema_validate(const struct schema_object *object, json_t *document,
	const struct schema_context *context, struct err *err)
{
	struct walk walk = {.context = context, .container = "", .err = err};

	return object_validate(&walk, NULL, object, document);
}

/* --- answers --- */

char *schema_url_shown(const char *url)
{
	const char *authority = strstr(url, "://"), *at;
	size_t n;

	if (!authority)
		return xstrdup(url);
	authority += strlen("://");
	n = strcspn(authority, "/?#");
	at = memrchr(authority, '@', n);
	return at ? xasprintf("%.*s%s", (int)(authority - url), url, at + 1) : xstrdup(url);
}

static void url_present(json_t *object, const char *name)
{
	_cleanup_free_ char *shown = schema_url_shown(json_get_str(object, name, ""));

	json_put_str(object, name, shown);
}

static void value_present(
	const struct schema_property *property, json_t *value, const struct schema_context *context)
{
	json_t *element;
	size_t i;

	if (property->flags & SCHEMA_SECRET_MAP) {
		json_object_clear(value);
		return;
	}
	if (!property->object)
		return;
	if (json_is_object(value))
		schema_present(property->object, value, context);
	json_array_foreach (value, i, element)
		schema_present(property->object, element, context);
}

void schema_present(
	const struct schema_object *object, json_t *document, const struct schema_context *context)
{
	_cleanup_json_ json_t *rest = json_copy(document);

	json_object_clear(document);
	for (size_t i = 0; i < object->n; i++) {
		const struct schema_property *property = &object->properties[i];
		json_t *value = json_object_get(rest, property->name);

		if (!value)
			continue;
		if (!(property->flags & SCHEMA_SECRET) &&
			schema_version_has(property->since, property->last, context->api_version)) {
			value_present(property, value, context);
			json_object_set(document, property->name, value);
			if ((property->flags & SCHEMA_URL) && json_is_string(value))
				url_present(document, property->name);
		}
		json_object_del(rest, property->name);
	}
	json_object_update(document, rest);
}

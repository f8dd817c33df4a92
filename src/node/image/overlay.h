/*
 * One overlay mount out of descriptors, on kernels from 5.15 on: no path of a layer is ever written
 * into a mount option, so neither their length nor their characters matter.
 */
#pragma once

#include "base/base.h"

struct overlay {
	int view;	   /* the detached mount (open_tree) that all layers are in */
	const int *layers; /* their directories, top-most first; borrowed */
	size_t n_layers;
	int upper, work; /* directories */
	int dir; /* holds `target`, and `l` where older kernels attach the view for a moment */
	const char *target;
	bool classic; /* the way of kernels before 6.15, for tests */
};

/* Mounts it on dir/target: nodev, set-uid files work. 0 or -errno. */
int overlay_mount(const struct overlay *overlay, struct err *err);

/* Is dir/name the root of a mount? 1, 0 (also when it isn't there), -errno. */
int overlay_is_mounted(int dir, const char *name);
/* Detaches all that is mounted on dir/name. Nothing there is success. */
int overlay_unmount(int dir, const char *name);

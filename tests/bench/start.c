/* The program whose start bench.py measures: its first act is to read the clocks. It has no handler
 * for any signal and stays until it is killed, like a server. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static long long ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

int main(void)
{
	long long monotonic = ns(CLOCK_MONOTONIC);

	printf("first instruction at %lld monotonic, %lld realtime\n", monotonic,
		ns(CLOCK_REALTIME));
	fflush(stdout);
	for (;;)
		pause();
}

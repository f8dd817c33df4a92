#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
int main(void)
{
	return 0;
}

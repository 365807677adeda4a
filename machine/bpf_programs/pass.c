/* SPDX-License-Identifier: GPL-2.0-only OR MIT */
/* The canary: what attaching alone does to a NIC is seen before any program that may drop is there. */
#include "xdp.h"

SEC("xdp/rh_pass")
int rh_pass(struct xdp_md *ctx)
{
	return XDP_PASS;
}

char _license[] SEC("license") = "Dual MIT/GPL";

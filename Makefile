# Each target is one line and names the true command; what is longer is a script with a name.
.PHONY: help demo down test check bench build generated

help:           ## this list
	@sed -n 's/^\([a-z-]*\): *## */\1\t/p' Makefile

demo:           ## a Kubernetes cluster on this machine, the operator, one RocketCluster, 10,000 messages by the Java client
	@tests/demo

down:           ## stop the demo's cluster and leave nothing behind
	@tests/cluster/cluster down

test:           ## everything that CI runs
	@tests/run

check:          ## the fast part: format, lints, unit tests; no root, no cluster
	@tests/run check

bench:          ## Apache's broker and ours in interleaved pairs; docs/benchmarks.md anew (hours; tests/bench/compare --help)
	@tests/bench/compare

build:          ## the programs, static, into target/programs/
	@tests/build

generated:      ## rewrite crds/, the chart's copy of them and the generated pages of docs/
	@tests/generate

# What a person types. Each target is one command; what it does is said where it is written.

.PHONY: help lab destroy test bench collection lint

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

lab: ## Turn this machine into the lab, or see that it still is; ARGS="--tags lxd_project" goes to Ansible, YES=1 does not ask
	@embedded/lab $(ARGS)

destroy: ## Remove what `make lab` made; ALL=1 removes the bootstrap image too
	@embedded/destroy

test: ## Run every test; ends with the line "N passed, N failed"
	@tests/run

bench: ## Print the figures that are promised, each measured beside its rival
	@tests/bench/run

collection: ## Build dist/k8slab-capi-VERSION.tar.gz
	@cargo xtask collection

lint: ## Check the form of everything that is written by hand
	@tests/lint

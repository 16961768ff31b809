# What a person types. Each target is one command; what it does is said where it is written.

.PHONY: help lab destroy destroy-workload destroy-mgmt destroy-bootstrap add-workload remove-workload clean-workload-kubeconfig clean-mgmt-bundle
.PHONY: clean-tfstate clean-local reset-all deploy-workload workload-kubeconfig test bench collection lint

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 32

lab: ## Turn this machine into the lab, or see that it still is; ARGS="--tags lxd_project" goes to Ansible, YES=1 does not ask
	@embedded/lab $(ARGS)

destroy: ## Remove what `make lab` made; on a terminal it asks, unless YES=1; ALL=1 removes the bootstrap image too
	@embedded/destroy

destroy-workload: ## Remove the workload cluster NAME, or all of them
	@embedded/playbook destroy_workload $(if $(NAME),--extra-vars name=$(NAME))

destroy-mgmt: ## Remove the management cluster, and with it the workload clusters
	@embedded/playbook destroy_mgmt

destroy-bootstrap: ## Remove the bootstrap cluster, and with it the clusters that it still owns
	@embedded/playbook destroy_bootstrap

add-workload: ## Bring up the workload cluster NAME; ARGS="-e vip_range=..." says what is not its default
	@embedded/playbook add_workload --extra-vars name=$(NAME) $(ARGS)

remove-workload: ## Remove the workload cluster NAME
	@embedded/playbook remove_workload --extra-vars name=$(NAME)

clean-workload-kubeconfig: ## Remove the clusters' kubeconfigs from .artifacts, once they are gone; FORCE=1 asks nobody
	@embedded/clean workload-kubeconfig

clean-mgmt-bundle: ## Remove the management cluster's kubeconfig and Terraform's variables from .artifacts, likewise
	@embedded/clean mgmt-bundle

clean-tfstate: ## Remove Terraform's state of clusters, likewise
	@embedded/clean tfstate

clean-local: destroy clean-workload-kubeconfig clean-mgmt-bundle clean-tfstate ## Remove the lab and every file that it has left

reset-all: ## The same, and the bootstrap image
	@ALL=1 $(MAKE) --no-print-directory clean-local

deploy-workload: ## Make one more cluster by OpenTofu: NAME=team-a VIP_RANGE=2001:db8:42:100::400-2001:db8:42:100::4ff; ARGS="destroy" removes it
	@embedded/workload $(or $(ARGS),apply)

workload-kubeconfig: ## Write the kubeconfig of such a cluster to .artifacts/clusters: NAME=team-a
	@embedded/workload kubeconfig

test: ## Run every test; ends with the line "N passed, N failed"
	@tests/run

bench: ## Print the figures that are promised, each measured beside its rival
	@tests/bench/run

collection: ## Build dist/k8slab-capi-VERSION.tar.gz
	@cargo xtask collection

lint: ## Check the form of everything that is written by hand
	@tests/lint

// Command terraform-provider-helm stands in for HashiCorp's provider of that name, which no package registry carries. It has one
// resource, helm_release, with those attributes of version 3 alone that the collection's Terraform module uses; any other is refused by
// Terraform itself. Releases are made by the program `helm` in PATH, so they are as Helm makes them.
package main

import (
	"context"
	"log"

	"github.com/hashicorp/terraform-plugin-framework/providerserver"
)

func main() {
	options := providerserver.ServeOpts{Address: "registry.opentofu.org/hashicorp/helm"}
	if err := providerserver.Serve(context.Background(), newProvider, options); err != nil {
		log.Fatal(err)
	}
}

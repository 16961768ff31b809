package main

import (
	"context"

	"github.com/hashicorp/terraform-plugin-framework/datasource"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/provider/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// The version that is stood in for. The build stamps it.
var version = "v0.0.0"

const standIn = "This is the stand-in for hashicorp/helm that comes with k8slab.capi, and not HashiCorp's provider."

type helmProvider struct{}

func newProvider() provider.Provider { return helmProvider{} }

type providerModel struct {
	Kubernetes *connection `tfsdk:"kubernetes"`
}

// connection says where a cluster is and who asks.
type connection struct {
	ConfigPath    types.String `tfsdk:"config_path"`
	Host          types.String `tfsdk:"host"`
	TLSServerName types.String `tfsdk:"tls_server_name"`
	CA            types.String `tfsdk:"cluster_ca_certificate"`
	Certificate   types.String `tfsdk:"client_certificate"`
	Key           types.String `tfsdk:"client_key"`
}

func (helmProvider) Metadata(_ context.Context, _ provider.MetadataRequest, response *provider.MetadataResponse) {
	response.TypeName, response.Version = "helm", version
}

func (helmProvider) Schema(_ context.Context, _ provider.SchemaRequest, response *provider.SchemaResponse) {
	optional := schema.StringAttribute{Optional: true}
	secret := schema.StringAttribute{Optional: true, Sensitive: true}
	response.Schema = schema.Schema{
		Description: standIn,
		Attributes: map[string]schema.Attribute{
			"kubernetes": schema.SingleNestedAttribute{
				Optional: true,
				Attributes: map[string]schema.Attribute{
					"config_path":            optional,
					"host":                   optional,
					"tls_server_name":        optional,
					"cluster_ca_certificate": optional,
					"client_certificate":     optional,
					"client_key":             secret,
				},
			},
		},
	}
}

func (helmProvider) Configure(ctx context.Context, request provider.ConfigureRequest, response *provider.ConfigureResponse) {
	// A cluster that is yet to be made has no address in a plan. Nothing is asked of it then.
	if !request.Config.Raw.IsFullyKnown() {
		return
	}
	var model providerModel
	response.Diagnostics.Append(request.Config.Get(ctx, &model)...)
	if response.Diagnostics.HasError() || model.Kubernetes == nil {
		return
	}
	response.ResourceData = model.Kubernetes
	response.Diagnostics.Append(diag.NewWarningDiagnostic("Stand-in for hashicorp/helm", standIn))
}

func (helmProvider) Resources(context.Context) []func() resource.Resource {
	return []func() resource.Resource{func() resource.Resource { return &release{} }}
}

func (helmProvider) DataSources(context.Context) []func() datasource.DataSource { return nil }

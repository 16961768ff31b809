package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/planmodifier"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringplanmodifier"
	"github.com/hashicorp/terraform-plugin-framework/types"
)

// What Helm is given beyond the time in which it is to wait.
const margin = time.Minute

// release is the resource helm_release.
type release struct {
	helm helm
}

type releaseModel struct {
	ID              types.String   `tfsdk:"id"`
	Name            types.String   `tfsdk:"name"`
	Namespace       types.String   `tfsdk:"namespace"`
	Chart           types.String   `tfsdk:"chart"`
	Version         types.String   `tfsdk:"version"`
	Values          []types.String `tfsdk:"values"`
	CreateNamespace types.Bool     `tfsdk:"create_namespace"`
	UpgradeInstall  types.Bool     `tfsdk:"upgrade_install"`
	Wait            types.Bool     `tfsdk:"wait"`
	WaitForJobs     types.Bool     `tfsdk:"wait_for_jobs"`
	Atomic          types.Bool     `tfsdk:"atomic"`
	Timeout         types.Int64    `tfsdk:"timeout"`
	Status          types.String   `tfsdk:"status"`
}

func (*release) Metadata(_ context.Context, _ resource.MetadataRequest, response *resource.MetadataResponse) {
	response.TypeName = "helm_release"
}

func (*release) Schema(_ context.Context, _ resource.SchemaRequest, response *resource.SchemaResponse) {
	replaced := []planmodifier.String{stringplanmodifier.RequiresReplace()}
	boolean := func(standard bool) schema.BoolAttribute {
		return schema.BoolAttribute{Optional: true, Computed: true, Default: booldefault.StaticBool(standard)}
	}
	response.Schema = schema.Schema{
		Description: standIn,
		Attributes: map[string]schema.Attribute{
			"id":   schema.StringAttribute{Computed: true, PlanModifiers: []planmodifier.String{stringplanmodifier.UseStateForUnknown()}},
			"name": schema.StringAttribute{Required: true, PlanModifiers: replaced},
			"namespace": schema.StringAttribute{
				Optional: true, Computed: true, Default: stringdefault.StaticString("default"), PlanModifiers: replaced,
			},
			"chart":            schema.StringAttribute{Required: true},
			"version":          schema.StringAttribute{Required: true},
			"values":           schema.ListAttribute{Optional: true, ElementType: types.StringType},
			"create_namespace": boolean(false),
			"upgrade_install":  boolean(false),
			"wait":             boolean(true),
			"wait_for_jobs":    boolean(false),
			"atomic":           boolean(false),
			"timeout":          schema.Int64Attribute{Optional: true, Computed: true, Default: int64default.StaticInt64(300)},
			// As after every success, so that a release that failed is a difference.
			"status": schema.StringAttribute{Computed: true, Default: stringdefault.StaticString("deployed")},
		},
	}
}

func (r *release) Configure(_ context.Context, request resource.ConfigureRequest, _ *resource.ConfigureResponse) {
	if cluster, ok := request.ProviderData.(*connection); ok {
		r.helm.cluster = cluster
	}
}

func (r *release) Create(ctx context.Context, request resource.CreateRequest, response *resource.CreateResponse) {
	var model releaseModel
	response.Diagnostics.Append(request.Plan.Get(ctx, &model)...)
	if response.Diagnostics.HasError() {
		return
	}
	command := []string{"install"}
	if model.UpgradeInstall.ValueBool() {
		command = []string{"upgrade", "--install", "--reset-values"}
	}
	if model.CreateNamespace.ValueBool() {
		command = append(command, "--create-namespace")
	}
	r.install(ctx, &model, command, &response.Diagnostics)
	// What was made is known, even where it did not become what it should be.
	response.Diagnostics.Append(response.State.Set(ctx, model)...)
}

func (r *release) Update(ctx context.Context, request resource.UpdateRequest, response *resource.UpdateResponse) {
	var model releaseModel
	response.Diagnostics.Append(request.Plan.Get(ctx, &model)...)
	if response.Diagnostics.HasError() {
		return
	}
	r.install(ctx, &model, []string{"upgrade", "--reset-values"}, &response.Diagnostics)
	if !response.Diagnostics.HasError() {
		response.Diagnostics.Append(response.State.Set(ctx, model)...)
	}
}

// install has Helm make or change the release.
func (r *release) install(ctx context.Context, model *releaseModel, command []string, diagnostics *diag.Diagnostics) {
	name, namespace := model.Name.ValueString(), model.Namespace.ValueString()
	model.ID, model.Status = types.StringValue(name), types.StringValue("deployed")
	limit := time.Duration(model.Timeout.ValueInt64()) * time.Second
	command = append(command, name, model.Chart.ValueString(), "--namespace", namespace, "--timeout", limit.String())
	if model.Wait.ValueBool() {
		command = append(command, "--wait")
	}
	if model.WaitForJobs.ValueBool() {
		command = append(command, "--wait-for-jobs")
	}
	if model.Atomic.ValueBool() {
		command = append(command, "--atomic")
	}
	values := make([]string, 0, len(model.Values))
	for _, text := range model.Values {
		values = append(values, text.ValueString())
	}
	if _, err := r.helm.run(ctx, limit+margin, values, command...); err != nil {
		diagnostics.AddError("Release "+name+" failed", err.Error())
		model.Status = types.StringValue("failed")
	}
}

func (r *release) Read(ctx context.Context, request resource.ReadRequest, response *resource.ReadResponse) {
	var model releaseModel
	response.Diagnostics.Append(request.State.Get(ctx, &model)...)
	if response.Diagnostics.HasError() {
		return
	}
	name, namespace := model.Name.ValueString(), model.Namespace.ValueString()
	found, err := r.helm.status(ctx, name, namespace)
	if errors.Is(err, errNoRelease) {
		response.State.RemoveResource(ctx)
		return
	}
	if err == nil {
		model.Status = types.StringValue(found.Info.Status)
		var chart string
		if chart, err = r.helm.chart(ctx, name, namespace); err == nil {
			model.Version = types.StringValue(chart)
		}
	}
	if err != nil {
		response.Diagnostics.AddError("Release "+name+" cannot be read", err.Error())
		return
	}
	response.Diagnostics.Append(response.State.Set(ctx, model)...)
}

func (r *release) Delete(ctx context.Context, request resource.DeleteRequest, response *resource.DeleteResponse) {
	var model releaseModel
	response.Diagnostics.Append(request.State.Get(ctx, &model)...)
	if response.Diagnostics.HasError() {
		return
	}
	limit := time.Duration(model.Timeout.ValueInt64()) * time.Second
	command := []string{
		"uninstall", model.Name.ValueString(), "--namespace", model.Namespace.ValueString(),
		"--ignore-not-found", "--timeout", limit.String(),
	}
	if model.Wait.ValueBool() {
		command = append(command, "--wait")
	}
	if _, err := r.helm.run(ctx, limit+margin, nil, command...); err != nil {
		response.Diagnostics.AddError("Release "+model.Name.ValueString()+" cannot be removed", err.Error())
	}
}

// ImportState takes a release over by `namespace/name`.
func (*release) ImportState(ctx context.Context, request resource.ImportStateRequest, response *resource.ImportStateResponse) {
	namespace, name, ok := strings.Cut(request.ID, "/")
	if !ok {
		response.Diagnostics.AddError("No such id", fmt.Sprintf("%q is not of the form namespace/name", request.ID))
		return
	}
	for attribute, value := range map[string]string{"id": name, "name": name, "namespace": namespace} {
		response.Diagnostics.Append(response.State.SetAttribute(ctx, path.Root(attribute), value)...)
	}
}

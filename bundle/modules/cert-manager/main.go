// cert-manager's controller, webhook and CA injector in one executable. Upstream's own main programs are modules that no
// registry carries; this one wires the same packages, with the issuers that Cluster API needs: self-signed and CA.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubernetes "k8s.io/client-go/kubernetes/scheme"
	logsapi "k8s.io/component-base/logs/api/v1"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cert-manager/cert-manager/internal/webhook"
	certmanager "github.com/cert-manager/cert-manager/pkg/api"
	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/controller/cainjector"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
	"github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/cert-manager/cert-manager/pkg/util"
	"github.com/cert-manager/cert-manager/pkg/webhook/options"
)

// As many at once for each controller as upstream's default.
const workers = 5

var programs = map[string]func() (*cobra.Command, error){
	"controller": controllerCommand,
	"cainjector": injectorCommand,
	"webhook":    webhookCommand,
}

func main() {
	if err := run(filepath.Base(os.Args[0])); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(name string) error {
	build, known := programs[name]
	if !known {
		return fmt.Errorf("%s is none of the programs in this file", name)
	}
	command, err := build()
	if err != nil {
		return err
	}
	command.Use, command.Version = name, util.AppVersion
	command.SilenceUsage, command.SilenceErrors = true, true
	ctrl.SetLogger(logs.Log)
	ctx := ctrl.SetupSignalHandler()
	return command.ExecuteContext(logs.NewContext(ctx, logs.Log, name))
}

func controllerCommand() (*cobra.Command, error) {
	settings := controller.ContextOptions{
		KubernetesAPIQPS:   20,
		KubernetesAPIBurst: 50,
		IssuerOptions:      controller.IssuerOptions{ClusterIssuerAmbientCredentials: true},
	}
	var election string
	command := &cobra.Command{RunE: func(command *cobra.Command, _ []string) error {
		mgr, err := newManager("cert-manager-controller", election)
		if err != nil {
			return err
		}
		control := manager.RunnableFunc(func(ctx context.Context) error { return startControllers(ctx, mgr, settings) })
		if err := mgr.Add(control); err != nil {
			return err
		}
		return mgr.Start(command.Context())
	}}
	flags := command.Flags()
	addCommonFlags(flags, &election)
	flags.StringVar(&settings.ClusterResourceNamespace, "cluster-resource-namespace", "kube-system", "where ClusterIssuers keep their Secrets")
	// The chart passes them always.
	flags.String("acme-http01-solver-image", "", "without effect: there is no ACME issuer")
	flags.Int("max-concurrent-challenges", 0, "without effect: there is no ACME issuer")
	return command, nil
}

func startControllers(ctx context.Context, mgr ctrl.Manager, settings controller.ContextOptions) error {
	factory, err := controller.NewContextFactory(ctx, settings)
	if err != nil {
		return err
	}
	for name, construct := range controller.Known() {
		control, err := construct(factory)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error { return control.Run(workers, ctx) })); err != nil {
			return err
		}
	}
	shared, err := factory.Build()
	if err != nil {
		return err
	}
	shared.SharedInformerFactory.Start(ctx.Done())
	shared.KubeSharedInformerFactory.Start(ctx.Done())
	return nil
}

func injectorCommand() (*cobra.Command, error) {
	var election string
	command := &cobra.Command{RunE: func(command *cobra.Command, _ []string) error {
		mgr, err := newManager("cert-manager-cainjector-leader-election", election)
		if err != nil {
			return err
		}
		setup := cainjector.SetupOptions{
			EnableCertificatesDataSource: true,
			EnabledReconcilersFor: map[string]bool{
				cainjector.MutatingWebhookConfigurationName:   true,
				cainjector.ValidatingWebhookConfigurationName: true,
				cainjector.APIServiceName:                     true,
				cainjector.CustomResourceDefinitionName:       true,
			},
		}
		if err := cainjector.RegisterAllInjectors(command.Context(), mgr, setup); err != nil {
			return err
		}
		return mgr.Start(command.Context())
	}}
	addCommonFlags(command.Flags(), &election)
	return command, nil
}

func webhookCommand() (*cobra.Command, error) {
	settings, err := options.NewWebhookConfiguration()
	if err != nil {
		return nil, err
	}
	command := &cobra.Command{RunE: func(command *cobra.Command, _ []string) error {
		server, err := webhook.NewCertManagerWebhookServer(logs.FromContext(command.Context()), *settings)
		if err != nil {
			return err
		}
		return server.Run(command.Context())
	}}
	options.AddConfigFlags(command.Flags(), settings)
	return command, nil
}

func addCommonFlags(flags *pflag.FlagSet, election *string) {
	logs.AddFlagsNonDeprecated(logsapi.NewLoggingConfiguration(), flags)
	flags.StringVar(election, "leader-election-namespace", "kube-system", "where the lease of the active replica is")
}

func newManager(lease, namespace string) (ctrl.Manager, error) {
	scheme := runtime.NewScheme()
	known := runtime.NewSchemeBuilder(
		kubernetes.AddToScheme, certmanager.AddToScheme, apiextensions.AddToScheme, apiregistration.AddToScheme,
	)
	if err := known.AddToScheme(scheme); err != nil {
		return nil, err
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                        scheme,
		LeaderElection:                true,
		LeaderElectionID:              lease,
		LeaderElectionNamespace:       namespace,
		LeaderElectionReleaseOnCancel: true,
		HealthProbeBindAddress:        ":9403",
		LivenessEndpointName:          "/livez",
		Metrics:                       server.Options{BindAddress: ":9402"},
	})
	if err != nil {
		return nil, err
	}
	return mgr, mgr.AddHealthzCheck("ping", healthz.Ping)
}

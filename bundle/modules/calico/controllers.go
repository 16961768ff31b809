package main

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/sirupsen/logrus"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"github.com/projectcalico/calico/kube-controllers/pkg/config"
	"github.com/projectcalico/calico/kube-controllers/pkg/controllers/node"
	"github.com/projectcalico/calico/kube-controllers/pkg/status"
	calico "github.com/projectcalico/calico/libcalico-go/lib/clientv3"
	"github.com/projectcalico/calico/libcalico-go/lib/winutils"
)

const (
	// How often the datastore is looked at, and how long it has to answer.
	checkPeriod  = 10 * time.Second
	checkTimeout = 4 * time.Second
)

// runControllers is the one controller that a datastore in Kubernetes needs: it frees the addresses of nodes that are gone.
func runControllers() {
	logTo("kube-controllers")
	setDefaults(map[string]string{"DATASTORE_TYPE": "kubernetes", "ENABLED_CONTROLLERS": "node"})
	var settings config.Config
	exitOn(settings.Parse())
	rest, err := winutils.BuildConfigFromFlags("", settings.Kubeconfig)
	exitOn(err)
	clients, err := kubernetes.NewForConfig(rest)
	exitOn(err)
	datastore, err := calico.NewFromEnv()
	exitOn(err)

	exitOn(os.MkdirAll(filepath.Dir(status.DefaultStatusFile), 0o755))
	told := status.New(status.DefaultStatusFile)
	told.SetReady("Startup", false, "the datastore was not reached yet")
	for check(datastore, clients, told) != nil {
		time.Sleep(time.Second)
	}
	told.SetReady("Startup", true, "")

	ctx := context.Background()
	changes := config.NewRunConfigController(ctx, settings, datastore.KubeControllersConfiguration()).ConfigChan()
	run := <-changes
	logrus.SetLevel(run.LogLevelScreen)
	if run.Controllers.Node != nil {
		factory := informers.NewSharedInformerFactory(clients, 0)
		nodes, pods := factory.Core().V1().Nodes().Informer(), factory.Core().V1().Pods().Informer()
		controller := node.NewNodeController(ctx, clients, datastore, *run.Controllers.Node, nodes, pods)
		stop := make(chan struct{})
		go nodes.Run(stop)
		go pods.Run(stop)
		go controller.Run(stop)
	}
	for {
		select {
		case <-changes:
			// The kubelet starts it again, with the new settings.
			logrus.Info("the settings have changed")
			return
		case <-time.After(checkPeriod):
			_ = check(datastore, clients, told)
		}
	}
}

// check tells the probe whether the API server and the datastore in it answer.
func check(datastore calico.Interface, clients *kubernetes.Clientset, told *status.Status) error {
	ctx, cancel := context.WithTimeout(context.Background(), checkTimeout)
	defer cancel()
	code := 0
	err := clients.Discovery().RESTClient().Get().AbsPath("/healthz").Do(ctx).StatusCode(&code).Error()
	tell(told, "KubeAPIServer", err)
	if err == nil && code == http.StatusOK {
		err = datastore.EnsureInitialized(ctx, "", "k8s")
		tell(told, "CalicoDatastore", err)
	}
	return err
}

func tell(told *status.Status, condition string, err error) {
	if err != nil {
		logrus.WithError(err).Error(condition)
		told.SetReady(condition, false, err.Error())
		return
	}
	told.SetReady(condition, true, "")
}

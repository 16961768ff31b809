// Calico's node agent, its CNI plugins and its controllers in one file. It is the program by whose name it is called.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"

	"github.com/projectcalico/calico/cni-plugin/pkg/install"
	"github.com/projectcalico/calico/cni-plugin/pkg/ipamplugin"
	"github.com/projectcalico/calico/cni-plugin/pkg/plugin"
	"github.com/projectcalico/calico/kube-controllers/pkg/status"
	"github.com/projectcalico/calico/libcalico-go/lib/logutils"
	"github.com/projectcalico/calico/node/buildinfo"
)

var programs = map[string]func(){
	"calico":           func() { plugin.Main(buildinfo.GitVersion) },
	"calico-ipam":      func() { ipamplugin.Main(buildinfo.GitVersion) },
	"calico-node":      runNode,
	"check-status":     checkStatus,
	"install":          installPlugins,
	"kube-controllers": runControllers,
}

func main() {
	name := filepath.Base(os.Args[0])
	program, known := programs[name]
	if !known {
		exitOn(fmt.Errorf("%s is none of the programs in this file", name))
	}
	program()
}

// installPlugins copies the CNI plugins to the node and writes their configuration.
func installPlugins() {
	exitOn(install.Install(buildinfo.GitVersion))
}

// checkStatus is the probe of the controllers' container.
func checkStatus() {
	found, err := status.ReadStatusFile(status.DefaultStatusFile)
	exitOn(err)
	if !found.GetReadiness() {
		exitOn(fmt.Errorf("%s", found.GetNotReadyConditions()))
	}
}

// logTo has the log where kubectl finds it, in Calico's own form.
func logTo(component string) {
	logrus.SetOutput(os.Stdout)
	logrus.SetFormatter(&logutils.Formatter{Component: component})
	logrus.AddHook(&logutils.ContextHook{})
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

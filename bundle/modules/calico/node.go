package main

import (
	"os"

	felix "github.com/projectcalico/calico/felix/daemon"
	"github.com/projectcalico/calico/node/buildinfo"
	"github.com/projectcalico/calico/node/pkg/allocateip"
	"github.com/projectcalico/calico/node/pkg/cni"
	"github.com/projectcalico/calico/node/pkg/lifecycle/startup"
	"github.com/projectcalico/calico/node/pkg/lifecycle/utils"
)

// Where the plugins of the node are, if this is to bring them.
const plugins = "/host/opt/cni/bin"

// runNode is everything that a node needs where no BGP is spoken. The plugins come after the start-up, since the kubelet takes the
// node for ready as soon as it finds their configuration, and without what the start-up writes they cannot make a Pod's network.
func runNode() {
	logTo("node")
	setDefaults(map[string]string{
		"DATASTORE_TYPE": "kubernetes",
		"SLEEP":          "false",
		// What felix reads from a file in upstream's image.
		"FELIX_METADATAADDR":    "none",
		"FELIX_LOGFILEPATH":     "none",
		"FELIX_LOGSEVERITYFILE": "none",
		"FELIX_LOGSEVERITYSYS":  "none",
		// What calls the C of libbpf is not in this file.
		"FELIX_BPFENABLED": "false",
		"FELIX_XDPENABLED": "false",
	})
	startup.Run()
	name := utils.NodenameFromFile()
	setDefaults(map[string]string{
		"NODENAME":            name,
		"FELIX_FELIXHOSTNAME": name,
		"FELIX_DATASTORETYPE": os.Getenv("DATASTORE_TYPE"),
	})
	allocateip.Run(nil)
	if _, err := os.Stat(plugins); err == nil {
		installPlugins()
		go cni.Run()
	}
	go allocateip.Run(make(chan struct{}))
	go startup.MonitorIPAddressSubnets()
	felix.Run("/etc/calico/felix.cfg", buildinfo.GitVersion, buildinfo.BuildDate, buildinfo.GitRevision)
}

// setDefaults sets those of these variables that are not set.
func setDefaults(variables map[string]string) {
	for name, value := range variables {
		if os.Getenv(name) == "" {
			exitOn(os.Setenv(name, value))
		}
	}
}

// Runs flanneld, and writes the configuration of the plugins that connect pods once flannel knows the node's subnets:
// flannel-node CONFIGURATION FLANNELD [ARGUMENT...]
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"k8slab.capi/bundle/k3s/podnet"
)

// How often it is looked whether flannel has written its file: its folder may be another file system's, whose events need not
// arrive.
const interval = 100 * time.Millisecond

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: flannel-node CONFIGURATION FLANNELD [ARGUMENT...]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "flannel-node:", err)
		os.Exit(1)
	}
}

func run(configuration string, command []string) error {
	// What an earlier start left may be of another network.
	if err := os.Remove(podnet.Subnets); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	flanneld := exec.Command(command[0], command[1:]...)
	flanneld.Stdout, flanneld.Stderr = os.Stdout, os.Stderr
	if err := flanneld.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- flanneld.Wait() }()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	looks := time.NewTicker(interval)
	defer looks.Stop()
	for {
		select {
		case err := <-ended:
			return errors.Join(errors.New("flanneld has ended"), err)
		case received := <-signals:
			if err := flanneld.Process.Signal(received); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
			<-ended
			return nil
		case <-looks.C:
			written, err := configure(configuration)
			if err != nil {
				return errors.Join(err, flanneld.Process.Kill())
			}
			if written {
				looks.Stop()
			}
		}
	}
}

// configure tells whether there was something to write.
func configure(path string) (bool, error) {
	flannel, err := os.ReadFile(podnet.Subnets)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	chain, err := podnet.Chain(string(flannel))
	if err != nil {
		return false, err
	}
	// The container runtime reads whatever has the name.
	unfinished := path + ".unfinished"
	if err := os.WriteFile(unfinished, chain, 0o644); err != nil {
		return false, err
	}
	return true, os.Rename(unfinished, path)
}

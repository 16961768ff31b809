// A stand-in for k3s where k3s itself cannot be had: its command line, files and service contract over the real Kubernetes
// components, which it carries behind its own code as k3s does.
package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"
)

// Stamped by the build.
var version = "v0.0.0+k3s0"

const usage = `A stand-in for k3s.

  k3s server [flags]         run a server and its node
  k3s kubectl [arguments]    kubectl, as this server's administrator
  k3s ctr [arguments]        containerd's client
  k3s --version
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "k3s: %s\n", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		arguments = []string{"--help"}
	}
	switch command, rest := arguments[0], arguments[1:]; command {
	case "server":
		settings, err := parseServer(rest, os.LookupEnv)
		if err != nil {
			return err
		}
		return serve(settings)
	case "kubectl":
		if os.Getenv("KUBECONFIG") == "" {
			os.Setenv("KUBECONFIG", adminKubeconfig)
		}
		return become("kubectl", rest)
	case "ctr":
		return become("ctr", append([]string{"--address", containerdSocket, "--namespace", containerdNamespace}, rest...))
	case "--version", "-v":
		fmt.Printf("k3s version %s (stand-in)\ngo version %s\n", version, runtime.Version())
		return nil
	case "--help", "-h", "help":
		fmt.Print(usage)
		return nil
	default:
		return fmt.Errorf("no command %q\n%s", command, usage)
	}
}

// become replaces this process by one of the programs that it carries.
func become(program string, arguments []string) error {
	programs, err := unpack()
	if err != nil {
		return err
	}
	return syscall.Exec(programs.path(program), append([]string{program}, arguments...), os.Environ())
}
